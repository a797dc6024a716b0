resource "alicloud_vpc" "this" {
  vpc_name   = var.name
  cidr_block = var.cidr_block
  tags       = var.tags
}

resource "alicloud_vswitch" "this" {
  count = length(var.zones)

  vswitch_name = "${var.name}-${count.index}"
  vpc_id       = alicloud_vpc.this.id
  cidr_block   = cidrsubnet(var.cidr_block, 4, count.index)
  zone_id      = var.zones[count.index]
  tags         = var.tags
}

# Nothing may come in but what a load balancer of the platform brings, and that does not pass here.
resource "alicloud_security_group" "this" {
  security_group_name = var.name
  vpc_id              = alicloud_vpc.this.id
  inner_access_policy = "Drop"
  tags                = var.tags
}

resource "alicloud_nat_gateway" "this" {
  count = var.fixed_egress ? 1 : 0

  nat_gateway_name = var.name
  vpc_id           = alicloud_vpc.this.id
  vswitch_id       = alicloud_vswitch.this[0].id
  nat_type         = "Enhanced"
  payment_type     = "PayAsYouGo"
  tags             = var.tags
}

resource "alicloud_eip_address" "this" {
  count = var.fixed_egress ? 1 : 0

  address_name         = var.name
  bandwidth            = tostring(var.egress_bandwidth)
  internet_charge_type = "PayByTraffic"
  payment_type         = "PayAsYouGo"
  tags                 = var.tags
}

resource "alicloud_eip_association" "this" {
  count = var.fixed_egress ? 1 : 0

  allocation_id = alicloud_eip_address.this[0].id
  instance_id   = alicloud_nat_gateway.this[0].id
}

resource "alicloud_snat_entry" "this" {
  count = var.fixed_egress ? length(var.zones) : 0

  snat_table_id     = alicloud_nat_gateway.this[0].snat_table_ids
  source_vswitch_id = alicloud_vswitch.this[count.index].id
  snat_ip           = alicloud_eip_address.this[0].ip_address

  depends_on = [alicloud_eip_association.this]
}
