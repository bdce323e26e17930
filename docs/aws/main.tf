# Kuroshio next to one target. Applied once in each region: `here` is the region of this Kubernetes cluster, `there` the other one. Something to
# begin with, not a module that is kept stable: copy it. The way between the regions is in network/.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region = var.here.region
}

variable "here" {
  description = "The region of the target: the cluster's alias, AWS's name, the MSK cluster's ARN."
  type        = object({ alias = string, region = string, cluster_arn = string })
}

variable "there" {
  description = "The same of the source's region."
  type        = object({ alias = string, region = string, cluster_arn = string })
}

variable "eks_cluster" {
  description = "The name of the EKS cluster that Kuroshio's pods run in."
  type        = string
}

variable "namespace" {
  description = "Where the chart is installed."
  type        = string
  default     = "kafka"
}
