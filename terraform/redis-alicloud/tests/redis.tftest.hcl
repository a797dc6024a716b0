mock_provider "alicloud" {
  mock_resource "alicloud_redis_tair_instance" {
    defaults = {
      connection_domain = "r-made-up.redis.rds.aliyuncs.com"
    }
  }
}

variables {
  name         = "spillgate"
  password     = "Made-up+pass1"
  vpc_id       = "vpc-1"
  subnet_id    = "vsw-1"
  zone         = "cn-beijing-h"
  allowed_cidr = "10.20.0.0/16"
}

run "paid_as_used_and_only_for_the_network" {
  assert {
    condition     = alicloud_redis_tair_instance.this.payment_type == "PayAsYouGo"
    error_message = "the provider's default buys a month"
  }
  assert {
    condition     = alicloud_redis_tair_instance.this.security_ips == "10.20.0.0/16" && alicloud_redis_tair_instance.this.vpc_auth_mode == "Open"
    error_message = "anybody may connect"
  }
  assert {
    condition     = output.url == "redis://:Made-up%2Bpass1@r-made-up.redis.rds.aliyuncs.com:6379"
    error_message = "the address is not one that a client reads"
  }
}

run "everybody_is_refused" {
  command = plan
  variables {
    allowed_cidr = "0.0.0.0/0"
  }
  expect_failures = [var.allowed_cidr]
}

run "a_weak_password_is_refused" {
  command = plan
  variables {
    password = "onlyletters"
  }
  expect_failures = [var.password]
}

run "a_proxy_class_is_refused" {
  command = plan
  variables {
    instance_class = "tair.rdb.with.proxy.1g"
  }
  expect_failures = [var.instance_class]
}
