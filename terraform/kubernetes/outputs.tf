output "url" {
  description = "Where apps outside point to; null without an ingress. Clients add /v1."
  value       = var.ingress_host == null ? null : "https://${var.ingress_host}"
}

output "internal_url" {
  description = "Where apps in the cluster point to."
  value       = "http://${kubernetes_service_v1.this.metadata[0].name}.${local.namespace}.svc.cluster.local"
}

output "redis_host" {
  description = "Null: this module makes no Redis. See the modules named redis-*."
  value       = null
}

output "redis_port" {
  description = "Null: this module makes no Redis."
  value       = null
}

output "egress_address" {
  description = "Null: the address that clouds see is the cluster's, or its NAT gateway's."
  value       = null
}

output "pod_monitor" {
  description = "A PodMonitor for the Prometheus operator, as YAML: it reads /metrics with the admin key. kubectl apply it, or give its scrape settings to your Prometheus."
  value = yamlencode({
    apiVersion = "monitoring.coreos.com/v1"
    kind       = "PodMonitor"
    metadata   = { name = var.name, namespace = local.namespace, labels = local.labels }
    spec = {
      selector = { matchLabels = local.selector }
      podMetricsEndpoints = [{
        port     = "http"
        path     = "/metrics"
        interval = "15s"
        authorization = {
          type        = "Bearer"
          credentials = { name = kubernetes_secret_v1.this.metadata[0].name, key = "SPILLGATE_ADMIN_KEY" }
        }
      }]
    }
  })
}

output "adapter_rules" {
  description = "Values for the prometheus-adapter chart, as YAML: they make the metric spillgate_streams, which the autoscaler reads."
  value = yamlencode({
    rules = {
      custom = [{
        seriesQuery  = "spillgate_in_flight{namespace!=\"\",pod!=\"\"}"
        resources    = { overrides = { namespace = { resource = "namespace" }, pod = { resource = "pod" } } }
        name         = { as = "spillgate_streams" }
        metricsQuery = "sum({__name__=~\"spillgate_in_flight|spillgate_waiting\",<<.LabelMatchers>>}) by (<<.GroupBy>>)"
      }]
    }
  })
}
