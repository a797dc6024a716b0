output "vpc_id" {
  description = "The network."
  value       = alicloud_vpc.this.id
}

output "subnet_ids" {
  description = "The vSwitches, in the order of the zones."
  value       = alicloud_vswitch.this[*].id
}

output "security_group_id" {
  description = "The security group: nothing comes in."
  value       = alicloud_security_group.this.id
}

output "egress_address" {
  description = "The fixed address that clouds see; null without fixed_egress."
  value       = one(alicloud_eip_address.this[*].ip_address)
}
