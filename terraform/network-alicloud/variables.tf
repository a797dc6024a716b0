variable "name" {
  description = "Name of everything that is made, and its prefix."
  type        = string
}

variable "cidr_block" {
  description = "Private addresses of the network; each zone gets a sixteenth of them. A /12 to /20 of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition = can(cidrhost(var.cidr_block, 1)) && anytrue([
      can(regex("^10\\..*/(1[2-9]|20)$", var.cidr_block)),
      can(regex("^172\\.(1[6-9]|2[0-9]|3[01])\\..*/(1[2-9]|20)$", var.cidr_block)),
      can(regex("^192\\.168\\..*/(1[6-9]|20)$", var.cidr_block))
    ])
    error_message = "A network has private addresses: a /12 to /20 of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16."
  }
}

variable "zones" {
  description = "Availability zones, for example [\"cn-beijing-h\", \"cn-beijing-l\"]. The first one also gets what there is one of. One to eight."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 1 && length(var.zones) <= 8 && length(distinct(var.zones)) == length(var.zones)
    error_message = "Name one to eight different zones of the region."
  }
}

variable "fixed_egress" {
  description = "Leave for the internet by one fixed address (a NAT gateway and an elastic IP, billed by the hour): for clouds that ask for an allow-list."
  type        = bool
  default     = false
}

variable "egress_bandwidth" {
  description = "Bandwidth of the fixed address in Mbit/s, 1 to 200. Billed by traffic, so this is a ceiling."
  type        = number
  default     = 100

  validation {
    condition     = var.egress_bandwidth >= 1 && var.egress_bandwidth <= 200
    error_message = "Bandwidth is 1 to 200 Mbit/s."
  }
}

variable "tags" {
  description = "Tags for everything that can have them."
  type        = map(string)
  default     = {}
}
