# A whole deployment: terraform init && terraform apply. Credentials come from the environment: ALICLOUD_ACCESS_KEY, ALICLOUD_SECRET_KEY.

terraform {
  required_version = ">= 1.9"

  required_providers {
    alicloud = {
      source  = "aliyun/alicloud"
      version = "~> 1.290"
    }
  }
}

provider "alicloud" {
  region = "cn-beijing"
}

variable "secrets" {
  description = "What policy.yaml names: {ARK_API_KEY = ..., DEEPSEEK_API_KEY = ..., ACME_KEY = ...}. Given as TF_VAR_secrets."
  type        = map(string)
  sensitive   = true
}

variable "admin_key" {
  description = "Opens the admin API. Given as TF_VAR_admin_key."
  type        = string
  sensitive   = true
}

variable "redis_password" {
  description = "Of the Redis that is made. Given as TF_VAR_redis_password."
  type        = string
  sensitive   = true
}

module "spillgate" {
  source = "../../alicloud-sae"

  name           = "spillgate"
  image          = "registry-vpc.cn-beijing.aliyuncs.com/your-namespace/spillgate:0.1.0"
  policy         = file("${path.module}/policy.yaml")
  secrets        = var.secrets
  admin_key      = var.admin_key
  redis_password = var.redis_password
  zones          = ["cn-beijing-h"]
  max_instances  = 4
}

output "url" {
  description = "Where apps point to, with /v1 behind it."
  value       = module.spillgate.internal_url
}
