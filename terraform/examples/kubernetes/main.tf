# A whole deployment: terraform init && terraform apply. The cluster is the one that kubectl talks to.

terraform {
  required_version = ">= 1.9"

  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 2.38"
    }
  }
}

provider "kubernetes" {
  config_path = "~/.kube/config"
}

variable "secrets" {
  description = "What policy.yaml names: {ARK_API_KEY = ..., DEEPSEEK_API_KEY = ..., ACME_KEY = ...}. Given as TF_VAR_secrets."
  type        = map(string)
  sensitive   = true
}

variable "admin_key" {
  description = "Opens the admin API and /metrics. Given as TF_VAR_admin_key."
  type        = string
  sensitive   = true
}

variable "redis_url" {
  description = "The cloud's Redis, in the cluster's network. Given as TF_VAR_redis_url."
  type        = string
  sensitive   = true
}

module "spillgate" {
  source = "../../kubernetes"

  name          = "spillgate"
  image         = "registry.example.cn/infra/spillgate:0.1.0"
  policy        = file("${path.module}/policy.yaml")
  secrets       = var.secrets
  admin_key     = var.admin_key
  redis_url     = var.redis_url
  max_instances = 8
}

output "url" {
  description = "Where apps in the cluster point to, with /v1 behind it."
  value       = module.spillgate.internal_url
}

output "for_prometheus" {
  description = "What makes the metric that the autoscaler reads: terraform output -json for_prometheus."
  value       = { pod_monitor = module.spillgate.pod_monitor, adapter_rules = module.spillgate.adapter_rules }
}
