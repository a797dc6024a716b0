output "host" {
  description = "Address of the instance inside the network."
  value       = tencentcloud_redis_instance.this.ip
}

output "port" {
  description = "Its port."
  value       = tencentcloud_redis_instance.this.port
}

output "url" {
  description = "What the gateway is given as REDIS_URL; it holds the password."
  value       = "redis://:${urlencode(var.password)}@${tencentcloud_redis_instance.this.ip}:${tencentcloud_redis_instance.this.port}"
  sensitive   = true
}
