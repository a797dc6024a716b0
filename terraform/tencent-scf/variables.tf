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

variable "redis_memory" {
  description = "Memory of the Redis that is made, in MB, 1024 to 65536 in steps of 1024."
  type        = number
  default     = 1024
}

variable "network" {
  description = "A network you have: VPC, subnet, its zone, and the security group for a Redis that is made. Null: one is made in `zone`."
  type = object({
    vpc_id            = string
    subnet_id         = string
    security_group_id = string
    zone              = string
  })
  default = null

  validation {
    condition     = var.network != null || var.zone != null
    error_message = "Give a network you have, or the zone to make one in."
  }
}

variable "zone" {
  description = "Availability zone of the network that is made, for example ap-guangzhou-6; not read when `network` is given."
  type        = string
  default     = null
}

variable "cidr_block" {
  description = "Private addresses of the network that is made."
  type        = string
  default     = "10.30.0.0/16"
}

variable "registry_id" {
  description = "Id of the enterprise registry (TCR) that holds the image. Null: the image is in a personal registry."
  type        = string
  default     = null
}

variable "fixed_egress" {
  description = "Leave for the internet by a fixed address: for clouds that ask for an allow-list."
  type        = bool
  default     = false
}

variable "port" {
  description = "Port that the gateway listens on inside the container. SCF wants 9000."
  type        = number
  default     = 9000

  validation {
    condition     = var.port == 9000
    error_message = "Web functions of SCF listen on port 9000."
  }
}

variable "memory" {
  description = "Memory per instance in MB, 128 to 3072 in steps of 128. The processor comes in proportion."
  type        = number
  default     = 1024

  validation {
    condition     = var.memory >= 128 && var.memory <= 3072 && var.memory % 128 == 0
    error_message = "Memory is 128 to 3072 MB, in steps of 128."
  }
}

variable "max_instances" {
  description = "The most instances that may run, 1 to 100. Their memory is reserved from the account's quota (128 GB by default), which is also the ceiling."
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && var.max_instances * var.memory <= 115200
    error_message = "Instances are 1 to 100, and their memory together is at most 115200 MB: the account's 128000 less the 12800 that stay unreserved."
  }

  validation {
    condition     = var.max_instances == 1 || var.redis_url != null || var.redis_password != null
    error_message = "More than one instance needs a Redis (redis_password or redis_url): without it each would use the whole of every limit."
  }
}

variable "streams_per_instance" {
  description = "Requests that one instance takes at a time, 2 to 100, those that wait included. Without this, one stream would occupy one instance."
  type        = number
  default     = 50

  validation {
    condition     = var.streams_per_instance >= 2 && var.streams_per_instance <= 100
    error_message = "SCF sends one instance 2 to 100 requests at a time."
  }
}

variable "request_timeout" {
  description = "Seconds after which the platform cuts a request, 1 to 900. No answer can be longer."
  type        = number
  default     = 900

  validation {
    condition     = var.request_timeout >= 1 && var.request_timeout <= 900
    error_message = "SCF holds a request for 1 to 900 seconds."
  }
}

variable "public" {
  description = "Whether the function's address is reachable from the internet. Tenants' keys protect it; false leaves the address inside."
  type        = bool
  default     = true
}

variable "log_topic" {
  description = "CLS log set and topic to write to. Null: SCF's default topic."
  type = object({
    logset_id = string
    topic_id  = string
  })
  default = null
}

variable "tags" {
  description = "Tags for everything that can have them."
  type        = map(string)
  default     = {}
}
