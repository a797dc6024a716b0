variable "name" {
  description = "Name of everything that is made, and its prefix: lower-case letters, digits and dashes, 3 to 32 of them."
  type        = string
  default     = "spillgate"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "A name is 3 to 32 lower-case letters, digits and dashes; it begins with a letter and ends with no dash."
  }
}

variable "image" {
  description = "The gateway's image with a tag or digest of its own. The cloud pulls it, so it must be in a registry that the cloud reaches."
  type        = string

  validation {
    condition     = can(regex("^[^\\s:@]+(:[0-9]+/[^\\s:@]+)?(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "An image needs a tag or a digest, and not the tag latest: nobody could say what runs."
  }
}

variable "policy" {
  description = "The configuration document as text: file(\"policy.yaml\"). Keys stay out of it: it names them as $${NAME}, and `secrets` holds them."
  type        = string
  default     = null

  validation {
    condition     = (var.policy == null) != (var.policy_path == null)
    error_message = "Give the document as text (policy), or its place in the image (policy_path): one of them."
  }

  validation {
    condition     = var.policy == null || can(yamldecode(var.policy).backends)
    error_message = "The policy is no YAML document with backends. `spillgate check` tells what is wrong, and where."
  }

  validation {
    condition = length(setsubtract(
      [for found in regexall("[^$]\\$\\{([A-Za-z_][A-Za-z0-9_]*)\\}", coalesce(try(jsonencode(yamldecode(var.policy)), null), "-")) : found[0]],
      concat(keys(var.environment), nonsensitive(keys(var.secrets)))
    )) == 0
    error_message = "The policy names a variable that neither secrets nor environment has: the gateway would not start."
  }

  validation {
    condition     = var.policy == null || var.admin_key != null || try(length(yamldecode(var.policy).tenants) > 0, false)
    error_message = "The policy names no tenants, so anybody could use your keys: the gateway refuses to listen. Add tenants, or set admin_key and make them at run time."
  }
}

variable "policy_path" {
  description = "Where the image itself holds the document or a folder of them, instead of `policy`: for documents that are too large here."
  type        = string
  default     = null

  validation {
    condition     = var.policy_path == null || can(regex("^/[^\\s]+$", var.policy_path))
    error_message = "A path in the image begins with a slash."
  }
}

variable "secrets" {
  description = "What the policy names as $${NAME}: clouds' keys and tenants' keys. Kept out of plans and outputs, but not out of the state: keep that encrypted."
  type        = map(string)
  default     = {}
  sensitive   = true

  validation {
    condition     = alltrue([for name, value in var.secrets : can(regex("^[A-Za-z][A-Za-z0-9_]*$", name)) && value != ""])
    error_message = "A secret's name is letters, digits and underscores and begins with a letter; its value is not empty."
  }

  validation {
    condition     = length(setintersection(nonsensitive(keys(var.secrets)), concat(keys(var.environment), ["PORT", "HOST", "REDIS_URL", "SPILLGATE_CONFIG", "SPILLGATE_REPLICAS", "SPILLGATE_ADMIN_KEY", "SPILLGATE_WORKERS"]))) == 0
    error_message = "A secret has the name of something else: of environment, or of what this module sets itself."
  }
}

variable "environment" {
  description = "More environment variables that are no secrets, for example OTEL_EXPORTER_OTLP_ENDPOINT. They come on top of what the module sets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name, value in var.environment : can(regex("^[A-Za-z][A-Za-z0-9_]*$", name))])
    error_message = "A variable's name is letters, digits and underscores and begins with a letter."
  }

  validation {
    condition     = length(setintersection(keys(var.environment), ["PORT", "HOST", "REDIS_URL", "SPILLGATE_CONFIG", "SPILLGATE_REPLICAS", "SPILLGATE_ADMIN_KEY", "SPILLGATE_WORKERS"])) == 0
    error_message = "PORT, HOST, REDIS_URL, SPILLGATE_CONFIG, SPILLGATE_REPLICAS and SPILLGATE_ADMIN_KEY are set by this module: use its variables. Instances are what is counted, so there is no SPILLGATE_WORKERS."
  }
}

variable "admin_key" {
  description = "Opens the admin API, /metrics and /status to other machines (SPILLGATE_ADMIN_KEY). At least 24 characters; null closes them."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.admin_key == null || can(regex("^[!-~]{24,}$", var.admin_key))
    error_message = "An admin key is at least 24 printable characters without spaces: openssl rand -hex 24."
  }
}

variable "redis_url" {
  description = "Address of a Redis you have (redis://, rediss://, redis+sentinel:// or redis+cluster://, with its password). Instances share limits through it."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.redis_url == null || can(regex("^(redis|rediss|redis\\+sentinel|redis\\+cluster)://[^\\s]+$", var.redis_url))
    error_message = "A Redis address begins with redis://, rediss://, redis+sentinel:// or redis+cluster://."
  }
}

variable "redis_password" {
  description = "Make a Redis with this password (see the Redis module for what it may hold). Null: none is made."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.redis_password == null || var.redis_url == null
    error_message = "Give the address of a Redis you have, or the password of one to make: not both."
  }
}

variable "redis_class" {
  description = "Size of the Redis that is made."
  type        = string
  default     = "tair.rdb.1g"
}

variable "network" {
  description = "A network you have: VPC, vSwitches, security group, the zone of the first vSwitch and the addresses of the VPC. Null: one is made in `zones`."
  type = object({
    vpc_id            = string
    subnet_ids        = list(string)
    security_group_id = string
    zone              = string
    cidr_block        = string
  })
  default = null

  validation {
    condition     = var.network != null || length(var.zones) > 0
    error_message = "Give a network you have, or the zones to make one in."
  }
}

variable "zones" {
  description = "Availability zones of the network that is made, for example [\"cn-beijing-h\", \"cn-beijing-l\"]; not read when `network` is given."
  type        = list(string)
  default     = []
}

variable "cidr_block" {
  description = "Private addresses of the network that is made."
  type        = string
  default     = "10.20.0.0/16"
}

variable "fixed_egress" {
  description = "Leave for the internet by one fixed address (NAT gateway and elastic IP). Applications of SAE have no other way out: without it, only clouds inside the VPC are reached."
  type        = bool
  default     = true
}

variable "port" {
  description = "Port that the gateway listens on inside the container, 1024 to 65535."
  type        = number
  default     = 8080

  validation {
    condition     = var.port >= 1024 && var.port <= 65535
    error_message = "A port is 1024 to 65535: the image runs without root."
  }
}

variable "cpu" {
  description = "vCPUs per instance: 0.5, 1, 2, 4, 8, 16 or 32. One carries some 300 streams."
  type        = number
  default     = 1

  validation {
    condition     = contains([0.5, 1, 2, 4, 8, 16, 32], var.cpu)
    error_message = "SAE has instances of 0.5, 1, 2, 4, 8, 16 or 32 vCPUs."
  }
}

variable "memory" {
  description = "Memory per instance in MiB: two or four GiB per vCPU, from 1024 to 131072."
  type        = number
  default     = 2048

  validation {
    condition     = var.memory >= 1024 && var.memory <= 131072 && (var.memory == var.cpu * 2048 || var.memory == var.cpu * 4096)
    error_message = "SAE has two or four GiB of memory per vCPU, 1024 to 131072 MiB."
  }
}

variable "min_instances" {
  description = "Instances that always run, 1 to 50."
  type        = number
  default     = 2

  validation {
    condition     = var.min_instances >= 1 && var.min_instances <= 50 && var.min_instances <= var.max_instances
    error_message = "Instances that always run are 1 to 50, and no more than max_instances."
  }
}

variable "max_instances" {
  description = "The most instances that may run, 1 to 50."
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 50
    error_message = "Instances are 1 to 50."
  }

  validation {
    condition     = var.max_instances == 1 || var.redis_url != null || var.redis_password != null
    error_message = "More than one instance needs a Redis (redis_password or redis_url): without it each would use the whole of every limit."
  }
}

variable "streams_per_instance" {
  description = "Open connections per instance that SAE aims at when it scales, 1 to 1000."
  type        = number
  default     = 200

  validation {
    condition     = var.streams_per_instance >= 1 && var.streams_per_instance <= 1000
    error_message = "Connections per instance are 1 to 1000."
  }
}

variable "drain_seconds" {
  description = "Seconds that running answers have when an instance is stopped, 1 to 60: SAE waits no longer. Longer answers are cut off by updates and scaling in."
  type        = number
  default     = 60

  validation {
    condition     = var.drain_seconds >= 1 && var.drain_seconds <= 60
    error_message = "SAE waits 1 to 60 seconds."
  }
}

variable "public" {
  description = "Whether the load balancer is on the internet (then with certificate_id) or inside the VPC."
  type        = bool
  default     = false

  validation {
    condition     = !var.public || var.certificate_id != null
    error_message = "On the internet there must be a certificate: keys do not travel in the clear."
  }
}

variable "certificate_id" {
  description = "Id of a certificate in the load balancer's store (CLB), for HTTPS. Null: plain TCP, for inside the VPC."
  type        = string
  default     = null
}

variable "log_project" {
  description = "Name of the log project that is made; it is unique among all customers of the region. Null: the name with -logs."
  type        = string
  default     = null

  validation {
    condition     = var.log_project == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.log_project))
    error_message = "A log project's name is 3 to 63 lower-case letters, digits and dashes."
  }
}

variable "log_retention_days" {
  description = "Days that logs are kept, 1 to 3650; 3650 is for ever."
  type        = number
  default     = 30

  validation {
    condition     = var.log_retention_days >= 1 && var.log_retention_days <= 3650
    error_message = "Logs are kept for 1 to 3650 days."
  }
}

variable "tags" {
  description = "Tags for everything that can have them."
  type        = map(string)
  default     = {}
}
