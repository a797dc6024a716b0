output "host" {
  description = "Name of the instance inside the network."
  value       = alicloud_redis_tair_instance.this.connection_domain
}

output "port" {
  description = "Its port."
  value       = alicloud_redis_tair_instance.this.port
}

output "url" {
  description = "What the gateway is given as REDIS_URL; it holds the password."
  value       = "redis://:${urlencode(var.password)}@${alicloud_redis_tair_instance.this.connection_domain}:${alicloud_redis_tair_instance.this.port}"
  sensitive   = true
}
