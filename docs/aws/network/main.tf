# Once for a pair of regions: peered VPCs, so that pods of either reach the brokers of both on the port of IAM. Between accounts, or with more
# regions, take transit gateways.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "a" {
  description = "One region: AWS's name, the VPC of pods and brokers, its CIDR, the route tables of their subnets, MSK's security group."
  type = object({
    region         = string
    vpc            = string
    cidr           = string
    route_tables   = list(string)
    security_group = string
  })
}

variable "b" {
  description = "The other one."
  type = object({
    region         = string
    vpc            = string
    cidr           = string
    route_tables   = list(string)
    security_group = string
  })
}

provider "aws" {
  region = var.a.region
}

provider "aws" {
  alias  = "b"
  region = var.b.region
}

resource "aws_vpc_peering_connection" "pair" {
  vpc_id      = var.a.vpc
  peer_vpc_id = var.b.vpc
  peer_region = var.b.region
}

resource "aws_vpc_peering_connection_accepter" "pair" {
  provider                  = aws.b
  vpc_peering_connection_id = aws_vpc_peering_connection.pair.id
  auto_accept               = true
}

resource "aws_route" "a_to_b" {
  for_each                  = toset(var.a.route_tables)
  route_table_id            = each.value
  destination_cidr_block    = var.b.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.pair.id
}

resource "aws_route" "b_to_a" {
  provider                  = aws.b
  for_each                  = toset(var.b.route_tables)
  route_table_id            = each.value
  destination_cidr_block    = var.a.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.pair.id
}

# Security groups of one region cannot be named in another: CIDRs it is.
resource "aws_vpc_security_group_ingress_rule" "brokers_of_a" {
  for_each          = toset([var.a.cidr, var.b.cidr])
  security_group_id = var.a.security_group
  description       = "Kuroshio"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 9098
  to_port           = 9098
}

resource "aws_vpc_security_group_ingress_rule" "brokers_of_b" {
  provider          = aws.b
  for_each          = toset([var.a.cidr, var.b.cidr])
  security_group_id = var.b.security_group
  description       = "Kuroshio"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 9098
  to_port           = 9098
}
