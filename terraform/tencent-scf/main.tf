# Spillgate on Tencent Cloud SCF, as a web function from an image.

locals {
  network = var.network == null ? {
    vpc_id            = module.network[0].vpc_id
    subnet_id         = module.network[0].subnet_id
    security_group_id = module.network[0].security_group_id
    zone              = var.zone
  } : var.network

  # The environment holds 4 KB in all: JSON is YAML on one line, without the comments.
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

  # What the cloud tells of the address of the function, if it does.
  address = try(jsondecode(tencentcloud_scf_function.this.trigger_info[0].trigger_desc).NetConfig, {})
}

module "network" {
  source = "../network-tencent"
  count  = var.network == null ? 1 : 0

  name       = var.name
  zone       = var.zone
  cidr_block = var.cidr_block
  tags       = var.tags
}

module "redis" {
  source = "../redis-tencent"
  count  = var.redis_password != null ? 1 : 0

  name              = var.name
  password          = var.redis_password
  memory            = var.redis_memory
  vpc_id            = local.network.vpc_id
  subnet_id         = local.network.subnet_id
  security_group_id = local.network.security_group_id
  zone              = local.network.zone
  tags              = var.tags
}

resource "tencentcloud_scf_function" "this" {
  name              = var.name
  description       = "Spillgate, one endpoint over many clouds"
  func_type         = "HTTP"
  mem_size          = var.memory
  timeout           = var.request_timeout
  environment       = local.environment
  vpc_id            = local.network.vpc_id
  subnet_id         = local.network.subnet_id
  enable_public_net = true
  enable_eip_config = var.fixed_egress
  cls_logset_id     = try(var.log_topic.logset_id, null)
  cls_topic_id      = try(var.log_topic.topic_id, null)
  tags              = var.tags

  image_config {
    image_type  = var.registry_id == null ? "personal" : "enterprise"
    image_uri   = var.image
    registry_id = var.registry_id
    image_port  = var.port
  }

  instance_concurrency_config {
    dynamic_enabled = "FALSE"
    max_concurrency = var.streams_per_instance
  }

  # Anonymous: the gateway asks for its tenants' keys itself.
  triggers {
    name = "http"
    type = "http"
    trigger_desc = jsonencode({
      AuthType  = "NONE"
      NetConfig = { EnableIntranet = true, EnableExtranet = var.public }
    })
  }

  lifecycle {
    precondition {
      condition     = nonsensitive(sum([for name, value in local.environment : length(name) + length(value)])) <= 4096
      error_message = "SCF takes 4 KB of environment in all, and the policy with the keys is larger. Put the document into the image and give policy_path."
    }
  }
}

resource "tencentcloud_scf_reserved_concurrency_config" "this" {
  function_name            = tencentcloud_scf_function.this.name
  reserved_concurrency_mem = var.max_instances * var.memory
}
