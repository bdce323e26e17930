# Topics for helm/kuroshio/examples/alertmanager.yaml, and the role of Alertmanager's pods, which may publish to them.

locals {
  severities = toset(["warning", "critical", "emergency"])
}

resource "aws_sns_topic" "kuroshio" {
  for_each          = local.severities
  name              = "kuroshio-${each.key}"
  kms_master_key_id = "alias/aws/sns"
}

data "aws_iam_policy_document" "publish" {
  statement {
    actions   = ["sns:Publish"]
    resources = [for topic in aws_sns_topic.kuroshio : topic.arn]
  }
}

resource "aws_iam_role" "alertmanager" {
  name               = "alertmanager-${var.here.alias}"
  assume_role_policy = data.aws_iam_policy_document.pods.json
}

resource "aws_iam_role_policy" "publish" {
  name   = "publish"
  role   = aws_iam_role.alertmanager.id
  policy = data.aws_iam_policy_document.publish.json
}

resource "aws_eks_pod_identity_association" "alertmanager" {
  cluster_name    = var.eks_cluster
  namespace       = "monitoring"
  service_account = "alertmanager"
  role_arn        = aws_iam_role.alertmanager.arn
}
