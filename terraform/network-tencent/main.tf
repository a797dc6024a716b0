resource "tencentcloud_vpc" "this" {
  name       = var.name
  cidr_block = var.cidr_block
  tags       = var.tags
}

resource "tencentcloud_subnet" "this" {
  name              = var.name
  vpc_id            = tencentcloud_vpc.this.id
  cidr_block        = cidrsubnet(var.cidr_block, 4, 0)
  availability_zone = var.zone
  tags              = var.tags
}

resource "tencentcloud_security_group" "this" {
  name        = var.name
  description = "The Redis of ${var.name}: for the network only"
  tags        = var.tags
}

resource "tencentcloud_security_group_rule_set" "this" {
  security_group_id = tencentcloud_security_group.this.id

  ingress {
    action      = "ACCEPT"
    cidr_block  = var.cidr_block
    protocol    = "TCP"
    port        = "6379"
    description = "Redis"
  }

  ingress {
    action      = "DROP"
    cidr_block  = "0.0.0.0/0"
    protocol    = "ALL"
    port        = "ALL"
    description = "Nothing else"
  }

  egress {
    action      = "ACCEPT"
    cidr_block  = "0.0.0.0/0"
    protocol    = "ALL"
    port        = "ALL"
    description = "Answers"
  }
}
