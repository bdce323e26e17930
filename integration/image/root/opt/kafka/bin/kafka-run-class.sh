#!/usr/bin/env bash
# Runs one of Kafka's classes in place of this shell, so that signals reach Java.
config=/opt/kafka/config
[ -d "$config" ] || config=/etc/kafka/docker
if [ "${KAFKA_VERSION%%.*}" -lt 4 ]; then
  logging="-Dlog4j.configuration=file:$config/log4j.properties"
else
  logging="-Dlog4j2.configurationFile=$config/log4j2.yaml"
fi
# shellcheck disable=SC2086 # the variables hold words
exec java ${KAFKA_HEAP_OPTS:--Xmx512m} \
  ${KAFKA_JVM_PERFORMANCE_OPTS:--server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -Djava.awt.headless=true} \
  ${KAFKA_LOG4J_OPTS:-$logging} ${KAFKA_JMX_OPTS:-} ${KAFKA_OPTS:-} -cp '/opt/kafka/libs/*' "$@"
