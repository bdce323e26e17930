# Whether the *other* region is healthy, as Kuroshio here sees it: a region that is down cannot say so itself.
# Route 53's checkers come from the internet: the name must be that of a public load balancer before the service `kuroshio`, which should
# let nothing but /health/region/ through.

variable "health_name" {
  description = "The public name of Kuroshio's load balancer here."
  type        = string
}

variable "zone" {
  description = "Route 53 zone and name of a service that is to turn to this region when the other one is down, and its names here and there."
  type        = object({ id = string, name = string, target_here = string, target_there = string })
}

resource "aws_route53_health_check" "there" {
  type             = "HTTPS"
  fqdn             = var.health_name
  port             = 443
  resource_path    = "/health/region/${var.there.alias}"
  request_interval = 10
  # Kuroshio counts three failed checks itself: one more here would only add time.
  failure_threshold = 1
  tags              = { Name = "kuroshio-${var.there.alias}-seen-from-${var.here.alias}" }
}

# Primary there, as long as it is healthy. For a service that lives here the ends are swapped.
resource "aws_route53_record" "primary" {
  zone_id         = var.zone.id
  name            = var.zone.name
  type            = "CNAME"
  ttl             = 30
  records         = [var.zone.target_there]
  set_identifier  = var.there.alias
  health_check_id = aws_route53_health_check.there.id
  failover_routing_policy {
    type = "PRIMARY"
  }
}

resource "aws_route53_record" "secondary" {
  zone_id        = var.zone.id
  name           = var.zone.name
  type           = "CNAME"
  ttl            = 30
  records        = [var.zone.target_here]
  set_identifier = var.here.alias
  failover_routing_policy {
    type = "SECONDARY"
  }
}
