mock_provider "kubernetes" {}

variables {
  image     = "registry.example.cn/infra/spillgate:0.1.0"
  policy    = <<-YAML
    models: {r2: {}}
    backends:
      ark: {preset: volcengine-ark, key: "$${ARK_API_KEY}", serves: {r2: deepseek-v4}}   # a comment: 注释
    tenants:
      acme: {keys: ["$${ACME_KEY}"]}
  YAML
  secrets   = { ARK_API_KEY = "sk-made-up", ACME_KEY = "sk-made-up-too" }
  admin_key = "made-up-made-up-made-up-made-up"
  redis_url = "redis://:made-up@10.0.0.9:6379"
}

run "the_gateway_is_told_everything_it_needs" {
  assert {
    condition     = kubernetes_config_map_v1.this[0].data["policy.yaml"] == var.policy
    error_message = "the document is not what was given"
  }
  assert {
    condition     = kubernetes_secret_v1.this.data.REDIS_URL == var.redis_url && kubernetes_secret_v1.this.data.ARK_API_KEY == "sk-made-up"
    error_message = "the secrets are not what was given"
  }
  assert {
    condition = alltrue([for name, value in { HOST = "0.0.0.0", PORT = "8080", SPILLGATE_CONFIG = "/etc/spillgate", SPILLGATE_REPLICAS = "11", SPILLGATE_DRAIN_SECONDS = "600" } :
      contains([for e in kubernetes_deployment_v1.this.spec[0].template[0].spec[0].container[0].env : "${e.name}=${e.value}"], "${name}=${value}")
    ])
    error_message = "something is missing in the environment"
  }
  assert {
    condition     = alltrue([for e in kubernetes_deployment_v1.this.spec[0].template[0].spec[0].container[0].env : !contains(["REDIS_URL", "ARK_API_KEY"], e.name)])
    error_message = "a secret is in the deployment in the clear"
  }
}

run "hardened_and_patient" {
  assert {
    condition     = kubernetes_deployment_v1.this.spec[0].template[0].spec[0].container[0].security_context[0].read_only_root_filesystem && kubernetes_deployment_v1.this.spec[0].template[0].spec[0].security_context[0].run_as_non_root
    error_message = "not hardened"
  }
  assert {
    condition     = kubernetes_deployment_v1.this.spec[0].template[0].spec[0].termination_grace_period_seconds == 615
    error_message = "killed before streams end"
  }
  assert {
    condition     = kubernetes_deployment_v1.this.spec[0].strategy[0].rolling_update[0].max_unavailable == "0"
    error_message = "an update takes instances away before there are new ones"
  }
}

run "scaled_by_streams" {
  assert {
    condition     = kubernetes_horizontal_pod_autoscaler_v2.this.spec[0].metric[0].pods[0].metric[0].name == "spillgate_streams" && kubernetes_horizontal_pod_autoscaler_v2.this.spec[0].metric[0].pods[0].target[0].average_value == "200"
    error_message = "scaled by something else"
  }
  assert {
    condition     = yamldecode(output.adapter_rules).rules.custom[0].name.as == "spillgate_streams"
    error_message = "nobody makes the metric that the autoscaler reads"
  }
  assert {
    condition     = yamldecode(output.pod_monitor).spec.podMetricsEndpoints[0].authorization.credentials.key == "SPILLGATE_ADMIN_KEY"
    error_message = "Prometheus is not let in"
  }
}

run "scaled_by_cpu_where_there_is_no_adapter" {
  variables {
    scale_on  = "cpu"
    admin_key = null
  }
  assert {
    condition     = length(kubernetes_horizontal_pod_autoscaler_v2.this.spec[0].metric) == 1 && output.url == null
    error_message = "a metric that nobody makes stops scaling in"
  }
}

run "an_ingress_waits_as_long_as_answers_take" {
  variables {
    ingress_host       = "llm.example.cn"
    ingress_tls_secret = "llm-example-cn"
  }
  assert {
    condition     = kubernetes_ingress_v1.this[0].metadata[0].annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "900" && output.url == "https://llm.example.cn"
    error_message = "streams are cut"
  }
}

run "an_ingress_without_a_certificate_is_refused" {
  command = plan
  variables {
    ingress_host = "llm.example.cn"
  }
  expect_failures = [var.ingress_host]
}

run "streams_cannot_be_read_without_the_admin_key" {
  command = plan
  variables {
    admin_key = null
  }
  expect_failures = [var.scale_on]
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
    scale_on  = "cpu"
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
    redis_url = null
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
