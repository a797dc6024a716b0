output "url" {
  description = "Where apps point to; null when the function is not public. Clients add /v1."
  value       = var.custom_domain != null ? "https://${var.custom_domain}" : var.public ? alicloud_fcv3_trigger.this.http_trigger[0].url_internet : null
}

output "internal_url" {
  description = "The same from inside the VPC."
  value       = alicloud_fcv3_trigger.this.http_trigger[0].url_intranet
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
  description = "The fixed address that clouds see; null without fixed_egress."
  value       = one(module.network[*].egress_address)
}

output "function_name" {
  description = "The function."
  value       = alicloud_fcv3_function.this.function_name
}

output "log_project" {
  description = "Where its logs are; the store is named gateway."
  value       = alicloud_log_project.this.project_name
}
