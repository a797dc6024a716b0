mock_provider "alicloud" {
  mock_resource "alicloud_sae_load_balancer_internet" {
    defaults = {
      internet_ip = "203.0.113.7"
    }
  }
  mock_resource "alicloud_sae_load_balancer_intranet" {
    defaults = {
      intranet_ip = "10.20.0.7"
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
    condition     = jsondecode(alicloud_sae_config_map.this[0].data)["policy.yaml"] == var.policy
    error_message = "the document is not what was given"
  }
  assert {
    condition = alltrue([for name, value in {
      HOST = "0.0.0.0", PORT = "8080", SPILLGATE_CONFIG = "/etc/spillgate", SPILLGATE_REPLICAS = "11", SPILLGATE_DRAIN_NOTICE = "5", SPILLGATE_DRAIN_SECONDS = "50", ARK_API_KEY = "sk-made-up"
    } : contains(jsondecode(alicloud_sae_application.this.envs), { name = name, value = value })])
    error_message = "something is missing in the environment"
  }
  assert {
    condition     = one(one(alicloud_sae_application.this.readiness_v2[*].http_get)[*].port) == 8080 && alicloud_sae_application.this.cpu == 1000
    error_message = "port or size"
  }
}

run "inside_the_network_and_scaled_by_open_connections" {
  assert {
    condition     = output.url == null && output.internal_url == "http://10.20.0.7:80"
    error_message = "outputs"
  }
  assert {
    condition     = one(one(alicloud_sae_application_scaling_rule.this[0].scaling_rule_metric[*].metrics)[*].metric_type) == "tcpActiveConn"
    error_message = "a proxy's processor says little"
  }
  assert {
    condition     = alicloud_sae_application.this.termination_grace_period_seconds == 60 && length(module.network[0].egress_address) > 0
    error_message = "streams get the time that the platform has, and clouds are reached"
  }
}

run "on_the_internet_with_a_certificate" {
  variables {
    public         = true
    certificate_id = "made-up"
  }
  assert {
    condition     = output.url == "https://203.0.113.7:443" && output.internal_url == null
    error_message = "outputs"
  }
}

run "on_the_internet_without_one_is_refused" {
  command = plan
  variables {
    public = true
  }
  expect_failures = [var.public]
}

run "sizes_come_in_pairs" {
  command = plan
  variables {
    cpu    = 1
    memory = 1024
  }
  expect_failures = [var.memory]
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
