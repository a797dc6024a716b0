terraform {
  required_version = ">= 1.9"

  required_providers {
    tencentcloud = {
      source  = "tencentcloudstack/tencentcloud"
      version = "~> 1.83, >= 1.83.25"
    }
  }
}
