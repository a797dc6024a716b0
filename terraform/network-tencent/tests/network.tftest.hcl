mock_provider "tencentcloud" {}

variables {
  name = "spillgate"
  zone = "ap-guangzhou-6"
}

run "redis_is_for_the_network_only" {
  assert {
    condition     = [for rule in tencentcloud_security_group_rule_set.this.ingress : rule.cidr_block if rule.action == "ACCEPT"] == ["10.30.0.0/16"]
    error_message = "somebody else may connect"
  }
  assert {
    condition     = tencentcloud_subnet.this.cidr_block == "10.30.0.0/20" && tencentcloud_subnet.this.availability_zone == "ap-guangzhou-6"
    error_message = "the subnet is somewhere else"
  }
}

run "public_addresses_are_refused" {
  command = plan
  variables {
    cidr_block = "8.8.0.0/16"
  }
  expect_failures = [var.cidr_block]
}
