output "vpc_id" {
  description = "The network."
  value       = tencentcloud_vpc.this.id
}

output "subnet_id" {
  description = "Its subnet."
  value       = tencentcloud_subnet.this.id
}

output "security_group_id" {
  description = "The security group for Redis: the network may connect, nobody else."
  value       = tencentcloud_security_group.this.id
}
