# A whole deployment: terraform init && terraform apply. Credentials come from the environment: TENCENTCLOUD_SECRET_ID, _SECRET_KEY.

terraform {
  required_version = ">= 1.9"

  required_providers {
    tencentcloud = {
      source  = "tencentcloudstack/tencentcloud"
      version = "~> 1.83, >= 1.83.25"
    }
  }
}

provider "tencentcloud" {
  region = "ap-guangzhou"
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
  source = "../../tencent-scf"

  name           = "spillgate"
  image          = "ccr.ccs.tencentyun.com/your-namespace/spillgate:0.1.0"
  policy         = file("${path.module}/policy.yaml")
  secrets        = var.secrets
  admin_key      = var.admin_key
  redis_password = var.redis_password
  zone           = "ap-guangzhou-6"
  max_instances  = 4
}

output "url" {
  description = "Where apps point to, with /v1 behind it; null: see the function's address in the console."
  value       = module.spillgate.url
}
