# What Kuroshio wants of the brokers of either region: docs/msk-on-eks.md says why. Attach it by `configuration_info` of aws_msk_cluster; MSK
# then restarts brokers one by one.

resource "aws_msk_configuration" "kuroshio" {
  name              = "kuroshio-${var.here.alias}"
  server_properties = <<-EOT
    socket.send.buffer.bytes=-1
    unclean.leader.election.enable=false
    auto.create.topics.enable=false
    default.replication.factor=3
    min.insync.replicas=2
    offsets.retention.minutes=43200
  EOT
}
