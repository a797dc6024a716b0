output "url" {
  description = "Where apps point to; null when it is not public, or when the provider does not tell it: then the console does, under function URL. Clients add /v1."
  value       = var.public ? try(local.address.ExtranetUrl, null) : null
}

output "internal_url" {
  description = "The same from inside the VPC, if the provider tells it."
  value       = try(local.address.IntranetUrl, null)
}

output "redis_host" {
  description = "Address of the Redis that was made; null if none was."
  value       = one(module.redis[*].host)
}

output "redis_port" {
  description = "Its port; null if none was made."
  value       = one(module.redis[*].port)
}

output "egress_address" {
  description = "The fixed address that clouds see; null without fixed_egress."
  value       = var.fixed_egress ? try(tencentcloud_scf_function.this.eips[0], null) : null
}

output "function_name" {
  description = "The function."
  value       = tencentcloud_scf_function.this.name
}
