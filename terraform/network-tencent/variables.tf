variable "name" {
  description = "Name of everything that is made, and its prefix."
  type        = string
}

variable "zone" {
  description = "Availability zone of the subnet, for example ap-guangzhou-6."
  type        = string
}

variable "cidr_block" {
  description = "Private addresses of the network; the subnet gets a sixteenth of them. A /16 to /24 of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  type        = string
  default     = "10.30.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr_block, 1)) && can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.).*/(1[6-9]|2[0-4])$", var.cidr_block))
    error_message = "A network has private addresses: a /16 to /24 of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }
}

variable "tags" {
  description = "Tags for everything that can have them."
  type        = map(string)
  default     = {}
}
