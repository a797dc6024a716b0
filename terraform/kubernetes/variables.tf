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

variable "namespace" {
  description = "Namespace that everything is made in."
  type        = string
  default     = "spillgate"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "A namespace is 1 to 63 lower-case letters, digits and dashes."
  }
}

variable "create_namespace" {
  description = "Whether the namespace is made too, or is there already."
  type        = bool
  default     = true
}

variable "image_pull_secrets" {
  description = "Names of secrets in the namespace for pulling the image. The clouds' own registries often need none."
  type        = list(string)
  default     = []
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
  description = "vCPUs that each instance is given, 0.1 to 64. One carries some 300 streams; there is no limit above what is asked for, so that none is throttled."
  type        = number
  default     = 1

  validation {
    condition     = var.cpu >= 0.1 && var.cpu <= 64
    error_message = "vCPUs are 0.1 to 64."
  }
}

variable "memory" {
  description = "Memory per instance in MiB, 128 to 131072; it is also the limit."
  type        = number
  default     = 512

  validation {
    condition     = var.memory >= 128 && var.memory <= 131072 && floor(var.memory) == var.memory
    error_message = "Memory is 128 to 131072 MiB."
  }
}

variable "min_instances" {
  description = "Instances that always run, 1 to 1000."
  type        = number
  default     = 2

  validation {
    condition     = var.min_instances >= 1 && var.min_instances <= 1000 && var.min_instances <= var.max_instances
    error_message = "Instances that always run are 1 to 1000, and no more than max_instances."
  }
}

variable "max_instances" {
  description = "The most instances that may run, 1 to 1000."
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 1000
    error_message = "Instances are 1 to 1000."
  }

  validation {
    condition     = var.max_instances == 1 || var.redis_url != null
    error_message = "More than one instance needs a Redis (redis_url): without it each would use the whole of every limit."
  }
}

variable "streams_per_instance" {
  description = "Running and waiting requests per instance that the autoscaler aims at, 1 to 10000."
  type        = number
  default     = 200

  validation {
    condition     = var.streams_per_instance >= 1 && var.streams_per_instance <= 10000
    error_message = "Streams per instance are 1 to 10000."
  }
}

variable "scale_on" {
  description = "What the autoscaler looks at: streams (needs a custom-metrics adapter, see the README), or cpu where there is none."
  type        = string
  default     = "streams"

  validation {
    condition     = contains(["streams", "cpu"], var.scale_on)
    error_message = "Scale on streams or on cpu."
  }

  validation {
    condition     = var.scale_on == "cpu" || var.admin_key != null
    error_message = "Scaling on streams needs admin_key: Prometheus shows it to read /metrics."
  }
}

variable "drain_seconds" {
  description = "Seconds that running answers have when an instance is stopped, 1 to 3600."
  type        = number
  default     = 600

  validation {
    condition     = var.drain_seconds >= 1 && var.drain_seconds <= 3600
    error_message = "Answers have 1 to 3600 seconds."
  }
}

variable "request_timeout" {
  description = "Seconds that an NGINX ingress waits between two bytes, 1 to 86400. Other ingresses: see ingress_annotations."
  type        = number
  default     = 900

  validation {
    condition     = var.request_timeout >= 1 && var.request_timeout <= 86400
    error_message = "The ingress waits 1 to 86400 seconds."
  }
}

variable "ingress_host" {
  description = "Domain under which an ingress publishes the gateway. Null: none is made, and only the cluster reaches it."
  type        = string
  default     = null

  validation {
    condition     = var.ingress_host == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.ingress_host))
    error_message = "A domain is written like llm.example.cn, without https://."
  }

  validation {
    condition     = var.ingress_host == null || var.ingress_tls_secret != null
    error_message = "An ingress needs ingress_tls_secret: keys do not travel in the clear."
  }
}

variable "ingress_class" {
  description = "Class of the ingress: nginx, or the cloud's own."
  type        = string
  default     = "nginx"
}

variable "ingress_tls_secret" {
  description = "Name of the TLS secret in the namespace that holds the domain's certificate."
  type        = string
  default     = null
}

variable "ingress_annotations" {
  description = "More annotations of the ingress: time-outs of other classes, certificate issuers."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "More labels for everything that is made."
  type        = map(string)
  default     = {}
}
