variable "name" {
  description = "Name of the instance."
  type        = string
}

variable "password" {
  description = "Password of the default account: 8 to 32 characters of at least three kinds (upper case, lower case, digits, !@#$%^&*()_+-=)."
  type        = string
  sensitive   = true

  validation {
    condition = can(regex("^[A-Za-z0-9!@#$%^&*()_+=-]{8,32}$", var.password)) && length([
      for kind in ["[A-Z]", "[a-z]", "[0-9]", "[!@#$%^&*()_+=-]"] : kind if can(regex(kind, var.password))
    ]) >= 3
    error_message = "A password has 8 to 32 characters of at least three kinds: upper case, lower case, digits, !@#$%^&*()_+-=."
  }
}

variable "vpc_id" {
  description = "The network it is in."
  type        = string
}

variable "subnet_id" {
  description = "The vSwitch it is in, in `zone`."
  type        = string
}

variable "zone" {
  description = "Its availability zone, for example cn-beijing-h."
  type        = string
}

variable "allowed_cidr" {
  description = "Who may connect: the network's own addresses. Never 0.0.0.0/0."
  type        = string

  validation {
    condition     = can(cidrhost(var.allowed_cidr, 0)) && !endswith(var.allowed_cidr, "/0")
    error_message = "Name a range of addresses, and not everybody's."
  }
}

variable "instance_class" {
  description = "Size: a standard (not cluster, not proxy) class, whose EVAL is unrestricted. tair.rdb.1g is enough: shares take some kilobytes per account."
  type        = string
  default     = "tair.rdb.1g"

  validation {
    condition     = can(regex("^tair\\.(rdb|scm)\\.(standard\\.)?[0-9a-z]+(\\.[0-9a-z]+)*$", var.instance_class)) && !can(regex("with\\.proxy", var.instance_class))
    error_message = "Take a standard class of Tair, for example tair.rdb.1g or tair.rdb.2g."
  }
}

variable "engine_version" {
  description = "Redis version it is compatible with: 6.0 or 7.0. Both have what the gateway needs."
  type        = string
  default     = "7.0"

  validation {
    condition     = contains(["6.0", "7.0"], var.engine_version)
    error_message = "The version is 6.0 or 7.0."
  }
}

variable "tags" {
  description = "Tags for everything that can have them."
  type        = map(string)
  default     = {}
}
