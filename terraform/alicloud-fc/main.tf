# Spillgate on Alibaba Cloud Function Compute 3.0, as a custom container. README.md beside this file tells how.

locals {
  network = var.network == null ? {
    vpc_id            = module.network[0].vpc_id
    subnet_ids        = module.network[0].subnet_ids
    security_group_id = module.network[0].security_group_id
    zone              = var.zones[0]
    cidr_block        = var.cidr_block
  } : var.network

  # Function Compute takes printable ASCII only, and 4 KB in all: JSON is YAML on one line, without the comments.
  # Counts such as 15k, 1.2M or 15_000 are numbers to the gateway, texts to Terraform: they lose their quotes again.
  document = var.policy_path != null ? var.policy_path : replace(
    jsonencode(yamldecode(var.policy)), "/\"([0-9][0-9_]*(?:\\.[0-9]+)?[kM]|[0-9]+(?:_[0-9]+)+)\"/", "$1"
  )
  redis_url = var.redis_password != null ? module.redis[0].url : var.redis_url

  environment = merge(
    { SPILLGATE_LOG = "json" },
    var.environment,
    var.secrets,
    {
      HOST               = "0.0.0.0"
      PORT               = tostring(var.port)
      SPILLGATE_CONFIG   = local.document
      SPILLGATE_REPLICAS = tostring(var.max_instances)
    },
    local.redis_url == null ? {} : { REDIS_URL = local.redis_url },
    var.admin_key == null ? {} : { SPILLGATE_ADMIN_KEY = var.admin_key }
  )
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

resource "alicloud_fcv3_function" "this" {
  function_name         = var.name
  description           = "Spillgate: one endpoint over many clouds"
  runtime               = "custom-container"
  handler               = "container" # asked for by the API, not read for containers
  cpu                   = var.cpu
  memory_size           = var.memory
  disk_size             = 512
  timeout               = var.request_timeout
  instance_concurrency  = var.streams_per_instance
  internet_access       = var.internet_access && !var.fixed_egress
  role                  = var.role_arn
  environment_variables = local.environment
  tags                  = var.tags

  custom_container_config {
    image = var.image
    port  = var.port

    health_check_config {
      http_get_url          = "/readyz"
      initial_delay_seconds = 1
      period_seconds        = 5
      timeout_seconds       = 3
      failure_threshold     = 3
      success_threshold     = 1
    }
  }

  vpc_config {
    vpc_id            = local.network.vpc_id
    vswitch_ids       = local.network.subnet_ids
    security_group_id = local.network.security_group_id
  }

  log_config {
    project                 = alicloud_log_project.this.project_name
    logstore                = alicloud_log_store.this.logstore_name
    log_begin_rule          = "None"
    enable_request_metrics  = true
    enable_instance_metrics = true
  }

  lifecycle {
    precondition {
      condition     = nonsensitive(sum([for name, value in local.environment : length(name) + length(value)])) <= 4096
      error_message = "Function Compute takes 4 KB of environment in all, and the policy with the keys is larger. Put the document into the image and give policy_path."
    }

    precondition {
      condition     = can(regex("^[ -~]+$", local.document))
      error_message = "Function Compute takes printable ASCII in the environment, and the policy holds other characters outside its comments."
    }
  }
}

# Without this nobody may call the function. Anonymous: the gateway asks for its tenants' keys itself.
resource "alicloud_fcv3_trigger" "this" {
  function_name = alicloud_fcv3_function.this.function_name
  trigger_name  = "http"
  trigger_type  = "http"
  qualifier     = "LATEST"
  trigger_config = jsonencode({
    authType           = "anonymous"
    disableURLInternet = !var.public
    methods            = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
  })
}

# Instances on demand are frozen between requests; these are not, so that shares, probes and logs go on.
resource "alicloud_fcv3_provision_config" "this" {
  count = var.min_instances > 0 ? 1 : 0

  function_name       = alicloud_fcv3_function.this.function_name
  qualifier           = "LATEST"
  target              = var.min_instances
  always_allocate_cpu = true
}

resource "alicloud_fcv3_concurrency_config" "this" {
  count = var.reserved_concurrency != null ? 1 : 0

  function_name        = alicloud_fcv3_function.this.function_name
  reserved_concurrency = var.reserved_concurrency
}

resource "alicloud_fcv3_custom_domain" "this" {
  count = var.custom_domain != null ? 1 : 0

  custom_domain_name = var.custom_domain
  protocol           = "HTTPS"

  cert_config {
    cert_name   = var.name
    certificate = var.certificate
    private_key = var.certificate_key
  }

  tls_config {
    min_version = "TLSv1.2"
    max_version = "TLSv1.3"
  }

  route_config {
    routes {
      path          = "/*"
      function_name = alicloud_fcv3_function.this.function_name
      qualifier     = "LATEST"
      methods       = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
    }
  }
}
