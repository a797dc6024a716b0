resource "alicloud_redis_tair_instance" "this" {
  tair_instance_name = var.name
  instance_type      = "tair_rdb"
  instance_class     = var.instance_class
  engine_version     = var.engine_version
  payment_type       = "PayAsYouGo" # the provider's default is a month in advance
  vpc_id             = var.vpc_id
  vswitch_id         = var.subnet_id
  zone_id            = var.zone
  port               = 6379
  password           = var.password
  vpc_auth_mode      = "Open" # the password is asked for inside the network too
  security_ips       = var.allowed_cidr
  tags               = var.tags
}
