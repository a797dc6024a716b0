mock_provider "alicloud" {
  mock_resource "alicloud_fcv3_trigger" {
    defaults = {
      http_trigger = [{ url_internet = "https://made-up.cn-beijing.fcapp.run", url_intranet = "https://made-up.cn-beijing-vpc.fcapp.run" }]
    }
  }
  mock_resource "alicloud_redis_tair_instance" {
    defaults = {
      connection_domain = "r-made-up.redis.rds.aliyuncs.com"
    }
  }
}

variables {
  image          = "registry.example.cn/infra/spillgate:0.1.0"
  policy         = <<-YAML
    models: {r2: {}}
    backends:
      ark: {preset: volcengine-ark, key: "$${ARK_API_KEY}", serves: {r2: deepseek-v4}}   # a comment: 注释
    tenants:
      acme: {keys: ["$${ACME_KEY}"]}
  YAML
  secrets        = { ARK_API_KEY = "sk-made-up", ACME_KEY = "sk-made-up-too" }
  admin_key      = "made-up-made-up-made-up-made-up"
  zones          = ["cn-beijing-h"]
  redis_password = "Made-up+pass1"
}

run "the_gateway_is_told_everything_it_needs" {
  assert {
    condition     = yamldecode(alicloud_fcv3_function.this.environment_variables.SPILLGATE_CONFIG).tenants.acme.keys == ["$${ACME_KEY}"]
    error_message = "the document is not what was given, or a key was written into it"
  }
  assert {
    condition     = can(regex("^[ -~]+$", alicloud_fcv3_function.this.environment_variables.SPILLGATE_CONFIG))
    error_message = "Function Compute takes printable ASCII on one line"
  }
  assert {
    condition     = alicloud_fcv3_function.this.environment_variables.REDIS_URL == "redis://:Made-up%2Bpass1@r-made-up.redis.rds.aliyuncs.com:6379"
    error_message = "instances do not share"
  }
  assert {
    condition = alltrue([for name, value in {
      HOST = "0.0.0.0", PORT = "9000", SPILLGATE_REPLICAS = "10", ARK_API_KEY = "sk-made-up", SPILLGATE_ADMIN_KEY = "made-up-made-up-made-up-made-up"
    } : alicloud_fcv3_function.this.environment_variables[name] == value])
    error_message = "something is missing in the environment"
  }
  assert {
    condition     = one(alicloud_fcv3_function.this.custom_container_config[*].port) == 9000
    error_message = "the platform calls another port than the gateway listens on"
  }
}

run "anybody_may_call_and_streams_last" {
  assert {
    condition     = jsondecode(alicloud_fcv3_trigger.this.trigger_config).authType == "anonymous" && alicloud_fcv3_function.this.timeout == 900
    error_message = "the gateway asks for keys itself, and answers take minutes"
  }
  assert {
    condition     = alicloud_fcv3_provision_config.this[0].target == 1 && alicloud_fcv3_provision_config.this[0].always_allocate_cpu
    error_message = "an instance that is frozen between requests renews no shares"
  }
  assert {
    condition     = output.url == "https://made-up.cn-beijing.fcapp.run" && output.redis_host == "r-made-up.redis.rds.aliyuncs.com"
    error_message = "outputs"
  }
}

run "a_domain_is_served_by_https_only" {
  variables {
    custom_domain   = "llm.example.cn"
    certificate     = "-----BEGIN CERTIFICATE-----\nmade up\n-----END CERTIFICATE-----"
    certificate_key = "made up"
  }
  assert {
    condition     = output.url == "https://llm.example.cn" && alicloud_fcv3_custom_domain.this[0].protocol == "HTTPS"
    error_message = "keys would travel in the clear"
  }
}

run "inside_the_network_only" {
  variables {
    public = false
  }
  assert {
    condition     = output.url == null && output.internal_url != null && jsondecode(alicloud_fcv3_trigger.this.trigger_config).disableURLInternet
    error_message = "it is on the internet"
  }
}

run "a_fixed_address_is_the_only_way_out" {
  variables {
    fixed_egress = true
  }
  assert {
    condition     = output.egress_address != null && !alicloud_fcv3_function.this.internet_access
    error_message = "requests leave by other addresses too"
  }
}

run "a_network_and_a_redis_of_ones_own" {
  variables {
    network        = { vpc_id = "vpc-1", subnet_ids = ["vsw-1"], security_group_id = "sg-1", zone = "cn-beijing-h", cidr_block = "10.0.0.0/8" }
    zones          = []
    redis_password = null
    redis_url      = "rediss://:made-up@10.0.0.9:6379"
  }
  assert {
    condition     = length(module.network) + length(module.redis) == 0 && one(alicloud_fcv3_function.this.vpc_config[*].vpc_id) == "vpc-1"
    error_message = "something was made that exists already"
  }
  assert {
    condition     = alicloud_fcv3_function.this.environment_variables.REDIS_URL == "rediss://:made-up@10.0.0.9:6379"
    error_message = "instances do not share"
  }
}

run "a_document_in_the_image" {
  variables {
    policy      = null
    policy_path = "/etc/spillgate"
  }
  assert {
    condition     = alicloud_fcv3_function.this.environment_variables.SPILLGATE_CONFIG == "/etc/spillgate"
    error_message = "the gateway is not told where its document is"
  }
}

run "more_than_4_kb_of_environment_is_refused" {
  command = plan
  variables {
    redis_password = null
    redis_url      = "redis://10.0.0.9"
    environment    = { LONG = join("", [for i in range(512) : "x2345678"]) }
  }
  expect_failures = [alicloud_fcv3_function.this]
}

run "other_characters_than_ascii_are_refused" {
  command = plan
  variables {
    policy = "models: {r2: {aliases: ['深度']}}\nbackends: {}\n"
  }
  expect_failures = [alicloud_fcv3_function.this]
}

run "memory_and_processor_match" {
  command = plan
  variables {
    cpu    = 1
    memory = 8192
  }
  expect_failures = [var.memory]
}

run "a_domain_wants_its_certificate" {
  command = plan
  variables {
    custom_domain = "llm.example.cn"
  }
  expect_failures = [var.certificate]
}

run "no_network_and_no_zones" {
  command = plan
  variables {
    zones = []
  }
  expect_failures = [var.network]
}

run "one_redis_not_two" {
  command = plan
  variables {
    redis_url = "redis://10.0.0.9"
  }
  expect_failures = [var.redis_password]
}

run "keys_are_in_the_secrets_never_in_the_document" {
  command = plan
  variables {
    secrets = { ACME_KEY = "made-up" }
  }
  expect_failures = [var.policy]
}

run "a_document_without_tenants_is_refused" {
  command = plan
  variables {
    admin_key = null
    policy    = "models: {r2: {}}\nbackends: {own: {preset: vllm, base_url: 'http://10.0.0.5:8000/v1', serves: {r2: r2}}}\n"
  }
  expect_failures = [var.policy]
}

run "what_is_no_document_is_refused" {
  command = plan
  variables {
    policy = "models: ["
  }
  expect_failures = [var.policy]
}

run "text_or_path_not_both" {
  command = plan
  variables {
    policy_path = "/etc/spillgate/policy.yaml"
  }
  expect_failures = [var.policy]
}

run "the_tag_latest_is_refused" {
  command = plan
  variables {
    image = "registry.example.cn/infra/spillgate:latest"
  }
  expect_failures = [var.image]
}

run "several_instances_want_a_redis" {
  command = plan
  variables {
    redis_password = null
  }
  expect_failures = [var.max_instances]
}

run "what_the_module_sets_is_not_set_twice" {
  command = plan
  variables {
    environment = { PORT = "1" }
  }
  expect_failures = [var.environment]
}

run "a_short_admin_key_is_refused" {
  command = plan
  variables {
    admin_key = "short"
  }
  expect_failures = [var.admin_key]
}
