# Spillgate on Alibaba Cloud Serverless App Engine, behind a classic load balancer (CLB).

locals {
  network = var.network == null ? {
    vpc_id            = module.network[0].vpc_id
    subnet_ids        = module.network[0].subnet_ids
    security_group_id = module.network[0].security_group_id
    zone              = var.zones[0]
    cidr_block        = var.cidr_block
  } : var.network

  folder    = "/etc/spillgate"
  redis_url = var.redis_password != null ? module.redis[0].url : var.redis_url

  environment = merge(
    { SPILLGATE_LOG = "json" },
    var.environment,
    var.secrets,
    {
      HOST               = "0.0.0.0"
      PORT               = tostring(var.port)
      SPILLGATE_CONFIG   = coalesce(var.policy_path, local.folder)
      SPILLGATE_REPLICAS = tostring(var.max_instances + 1) # one more while an update replaces them

      # The balancer is told first; then streams end, a little before the platform ends them.
      SPILLGATE_DRAIN_NOTICE  = tostring(min(5, floor(var.drain_seconds / 4)))
      SPILLGATE_DRAIN_SECONDS = tostring(max(1, var.drain_seconds - min(5, floor(var.drain_seconds / 4)) - 5))
    },
    local.redis_url == null ? {} : { REDIS_URL = local.redis_url },
    var.admin_key == null ? {} : { SPILLGATE_ADMIN_KEY = var.admin_key }
  )

  # TCP holds a quiet connection for 900 seconds; HTTPS ends at the balancer, which waits 60 for the first byte.
  listener = {
    protocol    = var.certificate_id == null ? "TCP" : "HTTPS"
    port        = var.certificate_id == null ? 80 : 443
    scheme      = var.certificate_id == null ? "http" : "https"
    certificate = var.certificate_id
  }
}

module "network" {
  source = "../network-alicloud"
  count  = var.network == null ? 1 : 0

  name         = var.name
  zones        = var.zones
  cidr_block   = var.cidr_block
  fixed_egress = var.fixed_egress
  tags         = var.tags
}

module "redis" {
  source = "../redis-alicloud"
  count  = var.redis_password != null ? 1 : 0

  name           = var.name
  password       = var.redis_password
  instance_class = var.redis_class
  vpc_id         = local.network.vpc_id
  subnet_id      = local.network.subnet_ids[0]
  zone           = local.network.zone
  allowed_cidr   = local.network.cidr_block
  tags           = var.tags
}

resource "alicloud_log_project" "this" {
  project_name = coalesce(var.log_project, "${var.name}-logs")
  description  = "What the gateway ${var.name} says"
  tags         = var.tags
}

resource "alicloud_log_store" "this" {
  project_name          = alicloud_log_project.this.project_name
  logstore_name         = "gateway"
  retention_period      = var.log_retention_days
  shard_count           = 2
  auto_split            = true
  max_split_shard_count = 16
}

resource "alicloud_sae_namespace" "this" {
  namespace_name            = var.name
  namespace_short_id        = substr(replace(var.name, "-", ""), 0, 20)
  namespace_description     = "Spillgate"
  enable_micro_registration = false
}

resource "alicloud_sae_config_map" "this" {
  count = var.policy != null ? 1 : 0

  name         = var.name
  namespace_id = alicloud_sae_namespace.this.id
  description  = "The configuration document of the gateway ${var.name}"
  data         = jsonencode({ "policy.yaml" = var.policy })
}

resource "alicloud_sae_application" "this" {
  app_name             = var.name
  app_description      = "Spillgate: one endpoint over many clouds"
  namespace_id         = alicloud_sae_namespace.this.id
  package_type         = "Image"
  image_url            = var.image
  programming_language = "other"
  replicas             = var.min_instances
  cpu                  = var.cpu * 1000
  memory               = var.memory
  vpc_id               = local.network.vpc_id
  vswitch_id           = local.network.subnet_ids[0]
  security_group_id    = local.network.security_group_id
  envs                 = jsonencode([for name, value in local.environment : { name = name, value = value }])
  tags                 = var.tags

  termination_grace_period_seconds = var.drain_seconds
  min_ready_instance_ratio         = 50

  sls_configs = jsonencode([{
    projectName  = alicloud_log_project.this.project_name
    logstoreName = alicloud_log_store.this.logstore_name
    logType      = "stdout"
    logDir       = ""
    logtailName  = ""
  }])

  dynamic "config_map_mount_desc_v2" {
    for_each = alicloud_sae_config_map.this[*].id

    content {
      config_map_id = config_map_mount_desc_v2.value
      key           = "sae-sys-configmap-all"
      mount_path    = local.folder
    }
  }

  readiness_v2 {
    initial_delay_seconds = 2
    period_seconds        = 5
    timeout_seconds       = 3
    failure_threshold     = 3
    success_threshold     = 1

    http_get {
      path   = "/readyz"
      port   = var.port
      scheme = "HTTP"
    }
  }

  liveness_v2 {
    initial_delay_seconds = 10
    period_seconds        = 10
    timeout_seconds       = 5
    failure_threshold     = 3

    http_get {
      path   = "/livez"
      port   = var.port
      scheme = "HTTP"
    }
  }

  lifecycle {
    ignore_changes = [replicas] # the rule below moves them
  }
}

# A proxy waits; its processor says little. Open connections are its load.
resource "alicloud_sae_application_scaling_rule" "this" {
  count = var.max_instances > var.min_instances ? 1 : 0

  app_id              = alicloud_sae_application.this.id
  scaling_rule_name   = "streams"
  scaling_rule_type   = "metric"
  scaling_rule_enable = true

  scaling_rule_metric {
    min_replicas = var.min_instances
    max_replicas = var.max_instances

    metrics {
      metric_type                       = "tcpActiveConn"
      metric_target_average_utilization = var.streams_per_instance
    }

    scale_up_rules {
      step                         = 100
      disabled                     = false
      stabilization_window_seconds = 0
    }

    scale_down_rules {
      step                         = 25
      disabled                     = false
      stabilization_window_seconds = 600
    }
  }
}

resource "alicloud_sae_load_balancer_internet" "this" {
  count = var.public ? 1 : 0

  app_id = alicloud_sae_application.this.id

  internet {
    protocol      = local.listener.protocol
    port          = local.listener.port
    target_port   = var.port
    https_cert_id = local.listener.certificate
  }
}

resource "alicloud_sae_load_balancer_intranet" "this" {
  count = var.public ? 0 : 1

  app_id = alicloud_sae_application.this.id

  intranet {
    protocol      = local.listener.protocol
    port          = local.listener.port
    target_port   = var.port
    https_cert_id = local.listener.certificate
  }
}
