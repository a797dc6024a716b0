resource "tencentcloud_redis_instance" "this" {
  name               = var.name
  type_id            = { "6.2" = 15, "7.0" = 17 }[var.engine_version]
  mem_size           = var.memory
  redis_shard_num    = 1
  redis_replicas_num = 1
  charge_type        = "POSTPAID"
  availability_zone  = var.zone
  vpc_id             = var.vpc_id
  subnet_id          = var.subnet_id
  security_groups    = [var.security_group_id]
  port               = 6379
  password           = var.password
  tags               = var.tags
}
