mock_provider "tencentcloud" {
  mock_resource "tencentcloud_redis_instance" {
    defaults = {
      ip = "10.30.0.9"
    }
  }
}

variables {
  name              = "spillgate"
  password          = "Made-up+pass1"
  vpc_id            = "vpc-1"
  subnet_id         = "subnet-1"
  security_group_id = "sg-1"
  zone              = "ap-guangzhou-6"
}

run "standard_edition_paid_as_used" {
  assert {
    condition     = tencentcloud_redis_instance.this.type_id == 17 && tencentcloud_redis_instance.this.redis_shard_num == 1
    error_message = "a cluster's proxy forbids scripts"
  }
  assert {
    condition     = tencentcloud_redis_instance.this.charge_type == "POSTPAID"
    error_message = "prepaid"
  }
  assert {
    condition     = output.url == "redis://:Made-up%2Bpass1@10.30.0.9:6379"
    error_message = "the address is not one that a client reads"
  }
}

run "a_weak_password_is_refused" {
  command = plan
  variables {
    password = "onlyletters"
  }
  expect_failures = [var.password]
}
