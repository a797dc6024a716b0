output "url" {
  description = "Where apps on the internet point to; null when it is not public. Clients add /v1. Point the certificate's domain to this address."
  value       = var.public ? "${local.listener.scheme}://${alicloud_sae_load_balancer_internet.this[0].internet_ip}:${local.listener.port}" : null
}

output "internal_url" {
  description = "Where apps in the VPC point to; null when the balancer is on the internet."
  value       = var.public ? null : "${local.listener.scheme}://${alicloud_sae_load_balancer_intranet.this[0].intranet_ip}:${local.listener.port}"
}

output "redis_host" {
  description = "Name of the Redis that was made; null if none was."
  value       = one(module.redis[*].host)
}

output "redis_port" {
  description = "Its port; null if none was made."
  value       = one(module.redis[*].port)
}

output "egress_address" {
  description = "The fixed address that clouds see; null without fixed_egress, or in a network of your own."
  value       = one(module.network[*].egress_address)
}

output "app_id" {
  description = "The application."
  value       = alicloud_sae_application.this.id
}

output "log_project" {
  description = "Where its logs are; the store is named gateway."
  value       = alicloud_log_project.this.project_name
}
