mock_provider "alicloud" {}

variables {
  name  = "spillgate"
  zones = ["cn-beijing-h", "cn-beijing-l"]
}

run "a_vswitch_in_every_zone_and_no_way_out_of_its_own" {
  assert {
    condition     = join(" ", alicloud_vswitch.this[*].zone_id) == "cn-beijing-h cn-beijing-l"
    error_message = "zones"
  }
  assert {
    condition     = join(" ", alicloud_vswitch.this[*].cidr_block) == "10.20.0.0/20 10.20.16.0/20"
    error_message = "addresses overlap or are somewhere else"
  }
  assert {
    condition     = output.egress_address == null && length(alicloud_nat_gateway.this) == 0
    error_message = "a NAT gateway nobody asked for is billed by the hour"
  }
}

run "a_fixed_address_serves_every_zone_and_is_paid_as_used" {
  variables {
    fixed_egress = true
  }
  assert {
    condition     = output.egress_address != null && length(alicloud_snat_entry.this) == 2
    error_message = "each vSwitch leaves by the address"
  }
  assert {
    condition     = alicloud_nat_gateway.this[0].payment_type == "PayAsYouGo" && alicloud_eip_address.this[0].payment_type == "PayAsYouGo"
    error_message = "prepaid"
  }
  assert {
    condition     = alicloud_nat_gateway.this[0].nat_type == "Enhanced"
    error_message = "the old kind can no longer be bought"
  }
}

run "public_addresses_are_refused" {
  command = plan
  variables {
    cidr_block = "0.0.0.0/0"
  }
  expect_failures = [var.cidr_block]
}

run "zones_are_named" {
  command = plan
  variables {
    zones = []
  }
  expect_failures = [var.zones]
}
