# Spillgate on any Kubernetes: Huawei CCE, Volcengine VKE, Baidu CCE, ACK, TKE, your own.

locals {
  selector  = { "app.kubernetes.io/name" = "spillgate", "app.kubernetes.io/instance" = var.name }
  labels    = merge(var.tags, local.selector, { "app.kubernetes.io/managed-by" = "terraform" })
  namespace = var.create_namespace ? kubernetes_namespace_v1.this[0].metadata[0].name : var.namespace
  folder    = "/etc/spillgate"

  environment = merge(
    { SPILLGATE_LOG = "json" },
    var.environment,
    {
      HOST               = "0.0.0.0"
      PORT               = tostring(var.port)
      SPILLGATE_CONFIG   = coalesce(var.policy_path, local.folder)
      SPILLGATE_REPLICAS = tostring(var.max_instances + 1) # one more while an update replaces them

      # The service is told first; then streams end, a little before the kubelet ends them.
      SPILLGATE_DRAIN_NOTICE  = "5"
      SPILLGATE_DRAIN_SECONDS = tostring(var.drain_seconds)
    }
  )

  secrets = merge(
    var.secrets,
    var.redis_url == null ? {} : { REDIS_URL = var.redis_url },
    var.admin_key == null ? {} : { SPILLGATE_ADMIN_KEY = var.admin_key }
  )
}

resource "kubernetes_namespace_v1" "this" {
  count = var.create_namespace ? 1 : 0

  metadata {
    name   = var.namespace
    labels = local.labels
  }
}

# Mounted as a file: the gateway takes a change of it without a restart.
resource "kubernetes_config_map_v1" "this" {
  count = var.policy != null ? 1 : 0

  metadata {
    name      = var.name
    namespace = local.namespace
    labels    = local.labels
  }

  data = { "policy.yaml" = var.policy }
}

resource "kubernetes_secret_v1" "this" {
  metadata {
    name      = var.name
    namespace = local.namespace
    labels    = local.labels
  }

  data = local.secrets
}

resource "kubernetes_service_account_v1" "this" {
  metadata {
    name      = var.name
    namespace = local.namespace
    labels    = local.labels
  }

  automount_service_account_token = false
}

resource "kubernetes_deployment_v1" "this" {
  metadata {
    name      = var.name
    namespace = local.namespace
    labels    = local.labels
  }

  wait_for_rollout = true

  spec {
    replicas = tostring(var.min_instances)

    selector {
      match_labels = local.selector
    }

    strategy {
      type = "RollingUpdate"

      rolling_update {
        max_surge       = "1"
        max_unavailable = "0"
      }
    }

    template {
      metadata {
        labels = local.labels

        # New secrets come with new instances.
        annotations = { "spillgate/secrets" = kubernetes_secret_v1.this.metadata[0].resource_version }
      }

      spec {
        service_account_name             = kubernetes_service_account_v1.this.metadata[0].name
        automount_service_account_token  = false
        enable_service_links             = false
        termination_grace_period_seconds = var.drain_seconds + 15

        dynamic "image_pull_secrets" {
          for_each = var.image_pull_secrets

          content {
            name = image_pull_secrets.value
          }
        }

        security_context {
          run_as_non_root = true

          seccomp_profile {
            type = "RuntimeDefault"
          }
        }

        topology_spread_constraint {
          max_skew           = 1
          topology_key       = "kubernetes.io/hostname"
          when_unsatisfiable = "ScheduleAnyway"

          label_selector {
            match_labels = local.selector
          }
        }

        container {
          name              = "gateway"
          image             = var.image
          image_pull_policy = "IfNotPresent"

          port {
            name           = "http"
            container_port = var.port
          }

          dynamic "env" {
            for_each = local.environment

            content {
              name  = env.key
              value = env.value
            }
          }

          env_from {
            secret_ref {
              name = kubernetes_secret_v1.this.metadata[0].name
            }
          }

          resources {
            requests = { cpu = "${var.cpu * 1000}m", memory = "${var.memory}Mi" }
            limits   = { memory = "${var.memory}Mi" }
          }

          security_context {
            allow_privilege_escalation = false
            read_only_root_filesystem  = true

            capabilities {
              drop = ["ALL"]
            }
          }

          startup_probe {
            period_seconds    = 1
            timeout_seconds   = 3
            failure_threshold = 60

            http_get {
              path = "/livez"
              port = "http"
            }
          }

          readiness_probe {
            period_seconds    = 5
            timeout_seconds   = 3
            failure_threshold = 2

            http_get {
              path = "/readyz"
              port = "http"
            }
          }

          liveness_probe {
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 3

            http_get {
              path = "/livez"
              port = "http"
            }
          }

          volume_mount {
            name       = "tmp"
            mount_path = "/tmp"
          }

          dynamic "volume_mount" {
            for_each = kubernetes_config_map_v1.this[*].metadata[0].name

            content {
              name       = "policy"
              mount_path = local.folder
              read_only  = true
            }
          }
        }

        volume {
          name = "tmp"

          empty_dir {
            size_limit = "64Mi"
          }
        }

        dynamic "volume" {
          for_each = kubernetes_config_map_v1.this[*].metadata[0].name

          content {
            name = "policy"

            config_map {
              name = volume.value
            }
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [spec[0].replicas] # the autoscaler moves them
  }
}

resource "kubernetes_service_v1" "this" {
  metadata {
    name      = var.name
    namespace = local.namespace
    labels    = local.labels
  }

  spec {
    type     = "ClusterIP"
    selector = local.selector

    port {
      name        = "http"
      port        = 80
      target_port = "http"
    }
  }
}

# A proxy waits; its processor says little. Streams are its load, running and waiting.
resource "kubernetes_horizontal_pod_autoscaler_v2" "this" {
  metadata {
    name      = var.name
    namespace = local.namespace
    labels    = local.labels
  }

  spec {
    min_replicas = var.min_instances
    max_replicas = var.max_instances

    scale_target_ref {
      api_version = "apps/v1"
      kind        = "Deployment"
      name        = kubernetes_deployment_v1.this.metadata[0].name
    }

    dynamic "metric" {
      for_each = var.scale_on == "streams" ? [var.streams_per_instance] : []

      content {
        type = "Pods"

        pods {
          metric {
            name = "spillgate_streams"
          }

          target {
            type          = "AverageValue"
            average_value = tostring(metric.value)
          }
        }
      }
    }

    metric {
      type = "Resource"

      resource {
        name = "cpu"

        target {
          type                = "Utilization"
          average_utilization = 70
        }
      }
    }

    behavior {
      scale_up {
        stabilization_window_seconds = 0
        select_policy                = "Max"

        policy {
          type           = "Percent"
          value          = 100
          period_seconds = 15
        }
      }

      scale_down {
        stabilization_window_seconds = 600
        select_policy                = "Max"

        policy {
          type           = "Pods"
          value          = 1
          period_seconds = 60
        }
      }
    }
  }
}

resource "kubernetes_pod_disruption_budget_v1" "this" {
  metadata {
    name      = var.name
    namespace = local.namespace
    labels    = local.labels
  }

  spec {
    max_unavailable = "1"

    selector {
      match_labels = local.selector
    }
  }
}

resource "kubernetes_ingress_v1" "this" {
  count = var.ingress_host != null ? 1 : 0

  metadata {
    name      = var.name
    namespace = local.namespace
    labels    = local.labels

    annotations = merge({
      "nginx.ingress.kubernetes.io/proxy-read-timeout"    = tostring(var.request_timeout)
      "nginx.ingress.kubernetes.io/proxy-send-timeout"    = tostring(var.request_timeout)
      "nginx.ingress.kubernetes.io/proxy-buffering"       = "off"
      "nginx.ingress.kubernetes.io/proxy-body-size"       = "32m"
      "nginx.ingress.kubernetes.io/proxy-next-upstream"   = "error" # a request that was begun is never sent twice
      "nginx.ingress.kubernetes.io/proxy-connect-timeout" = "5"
    }, var.ingress_annotations)
  }

  spec {
    ingress_class_name = var.ingress_class

    tls {
      hosts       = [var.ingress_host]
      secret_name = var.ingress_tls_secret
    }

    rule {
      host = var.ingress_host

      http {
        path {
          path      = "/"
          path_type = "Prefix"

          backend {
            service {
              name = kubernetes_service_v1.this.metadata[0].name

              port {
                name = "http"
              }
            }
          }
        }
      }
    }
  }
}
