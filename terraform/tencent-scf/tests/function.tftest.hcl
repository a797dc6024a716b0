mock_provider "tencentcloud" {
  mock_resource "tencentcloud_scf_function" {
    defaults = {
      eips = ["203.0.113.8"]
      trigger_info = [{
        create_time  = "", custom_argument = "", enable = true, modify_time = "", name = "http", type = "http"
        trigger_desc = "{\"AuthType\":\"NONE\",\"NetConfig\":{\"ExtranetUrl\":\"https://made-up.ap-guangzhou.tencentscf.com\"}}"
      }]
    }
  }
  mock_resource "tencentcloud_redis_instance" {
    defaults = {
      ip = "10.30.0.9"
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
  zone           = "ap-guangzhou-6"
  redis_password = "Made-up+pass1"
}

run "the_gateway_is_told_everything_it_needs" {
  assert {
    condition     = yamldecode(tencentcloud_scf_function.this.environment.SPILLGATE_CONFIG).tenants.acme.keys == ["$${ACME_KEY}"]
    error_message = "the document is not what was given, or a key was written into it"
  }
  assert {
    condition = alltrue([for name, value in {
      HOST = "0.0.0.0", PORT = "9000", SPILLGATE_REPLICAS = "10", REDIS_URL = "redis://:Made-up%2Bpass1@10.30.0.9:6379"
    } : tencentcloud_scf_function.this.environment[name] == value])
    error_message = "something is missing in the environment"
  }
}

run "many_streams_for_fifteen_minutes" {
  assert {
    condition     = tencentcloud_scf_function.this.func_type == "HTTP" && tencentcloud_scf_function.this.timeout == 900
    error_message = "the provider's defaults are an event function that ends after three seconds"
  }
  assert {
    condition     = one(tencentcloud_scf_function.this.instance_concurrency_config[*].max_concurrency) == 50
    error_message = "one stream would occupy one instance"
  }
  assert {
    condition     = tencentcloud_scf_reserved_concurrency_config.this.reserved_concurrency_mem == 10240
    error_message = "more instances than max_instances may run"
  }
  assert {
    condition     = output.url == "https://made-up.ap-guangzhou.tencentscf.com" && output.egress_address == null
    error_message = "outputs"
  }
}

run "an_enterprise_registry_and_a_fixed_address" {
  variables {
    registry_id  = "tcr-made-up"
    fixed_egress = true
  }
  assert {
    condition     = one(tencentcloud_scf_function.this.image_config[*].image_type) == "enterprise" && output.egress_address == "203.0.113.8"
    error_message = "registry or address"
  }
}

run "more_than_4_kb_of_environment_is_refused" {
  command = plan
  variables {
    redis_password = null
    redis_url      = "redis://10.0.0.9"
    environment    = { LONG = join("", [for i in range(512) : "x2345678"]) }
  }
  expect_failures = [tencentcloud_scf_function.this]
}

run "the_account_s_quota_bounds_the_instances" {
  command = plan
  variables {
    max_instances = 100
    memory        = 3072
  }
  expect_failures = [var.max_instances]
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
