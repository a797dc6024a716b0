variable "name" {
  description = "Name of the instance."
  type        = string
}

variable "password" {
  description = "Password of the default account: 8 to 16 characters of at least two kinds (letters, digits, !@#$%^&*()_+-=)."
  type        = string
  sensitive   = true

  validation {
    condition = can(regex("^[A-Za-z0-9!@#$%^&*()_+=-]{8,16}$", var.password)) && length([
      for kind in ["[A-Za-z]", "[0-9]", "[!@#$%^&*()_+=-]"] : kind if can(regex(kind, var.password))
    ]) >= 2
    error_message = "A password has 8 to 16 characters of at least two kinds: letters, digits, !@#$%^&*()_+-=."
  }
}

variable "vpc_id" {
  description = "The network it is in."
  type        = string
}

variable "subnet_id" {
  description = "The subnet it is in, in `zone`."
  type        = string
}

variable "security_group_id" {
  description = "The security group that says who may connect: the network, nobody else."
  type        = string
}

variable "zone" {
  description = "Its availability zone, for example ap-guangzhou-6."
  type        = string
}

variable "memory" {
  description = "Memory in MB, 1024 to 65536. The smallest is enough: shares take some kilobytes per account."
  type        = number
  default     = 1024

  validation {
    condition     = var.memory >= 1024 && var.memory <= 65536 && var.memory % 1024 == 0
    error_message = "Memory is 1024 to 65536 MB, in steps of 1024."
  }
}

variable "engine_version" {
  description = "Redis version, standard architecture (not cluster, whose proxy forbids scripts): 6.2 or 7.0."
  type        = string
  default     = "7.0"

  validation {
    condition     = contains(["6.2", "7.0"], var.engine_version)
    error_message = "The version is 6.2 or 7.0."
  }
}

variable "tags" {
  description = "Tags for everything that can have them."
  type        = map(string)
  default     = {}
}
