# The role of Kuroshio's pods. The policies beside this file are what `kuroshio iam-policy` prints for kuroshio.yaml; a test compares them.

locals {
  # Of arn:aws:kafka:REGION:ACCOUNT_ID:cluster/CLUSTER_NAME/CLUSTER_UUID.
  clusters = {
    for end in [var.here, var.there] : end.alias => regex("^arn:[^:]+:kafka:[^:]+:(?P<account>[0-9]+):cluster/(?P<name>[^/]+)/(?P<uuid>[^/]+)$", end.cluster_arn)
  }
  # The policies name regions, which the brokers' names tell, and leave the rest open.
  policies = {
    for alias, cluster in local.clusters : alias => replace(replace(replace(
      file("${path.module}/${var.here.alias}-on-${alias}.json"),
      "ACCOUNT_ID", cluster.account),
      "CLUSTER_NAME", cluster.name),
    "CLUSTER_UUID", cluster.uuid)
  }
}

resource "aws_iam_policy" "kuroshio" {
  for_each = local.policies
  name     = "kuroshio-${var.here.alias}-on-${each.key}"
  policy   = each.value
}

data "aws_iam_policy_document" "pods" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "kuroshio" {
  name               = "kuroshio-${var.here.alias}"
  assume_role_policy = data.aws_iam_policy_document.pods.json
}

resource "aws_iam_role_policy_attachment" "kuroshio" {
  for_each   = aws_iam_policy.kuroshio
  role       = aws_iam_role.kuroshio.name
  policy_arn = each.value.arn
}

# EKS Pod Identity. With IRSA instead: trust the cluster's OIDC provider, and set the chart's serviceAccount.roleArn.
resource "aws_eks_pod_identity_association" "kuroshio" {
  cluster_name    = var.eks_cluster
  namespace       = var.namespace
  service_account = "kuroshio"
  role_arn        = aws_iam_role.kuroshio.arn
}
