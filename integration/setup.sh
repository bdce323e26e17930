#!/usr/bin/env bash
# Gets this machine ready for the tests: a Docker engine that answers, the Kafka image, Prometheus and a browser. Takes what
# is there as it is, installs or starts only what is missing, and says what to do where it may not.
# Usage: setup.sh [KAFKA_VERSION...]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"

"$here/packages.sh" docker=docker.io javac=default-jdk-headless \
  promtool=prometheus amtool=prometheus-alertmanager node=nodejs npm=npm chromium=chromium chromedriver=chromium-driver

if ! docker version >/dev/null 2>&1; then
  if [ -n "${DOCKER_HOST:-}" ]; then
    echo "DOCKER_HOST is set to $DOCKER_HOST and no engine answers there. Start it, or unset DOCKER_HOST." >&2
    exit 1
  fi
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      echo "No Docker engine answers, and this user may not start one. Have an administrator start it and add" >&2
      echo "this user to its group: systemctl start docker && usermod -aG docker $(id -un)" >&2
      exit 1
    fi
    if sudo docker version >/dev/null 2>&1; then
      echo "The Docker engine runs, but this user may not use it: sudo usermod -aG docker $(id -un), then log in again." >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  "$here/packages.sh" dockerd=docker.io iptables=iptables
  if [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl start docker
  else
    # A stale pid file of a machine that was saved while the engine ran keeps it from starting.
    if [ -e /var/run/docker.pid ] && ! "${as_root[@]}" kill -0 "$(cat /var/run/docker.pid)" 2>/dev/null; then
      "${as_root[@]}" rm -f /var/run/docker.pid
    fi
    log="$(mktemp -t dockerd.XXXXXX.log)"
    echo "starting dockerd (log: $log)" >&2
    "${as_root[@]}" setsid dockerd >"$log" 2>&1 </dev/null &
  fi
  for _ in $(seq 120); do
    docker version >/dev/null 2>&1 && break
    sleep 0.5
  done
  if ! docker version >/dev/null 2>&1; then
    echo "The Docker engine does not answer after 60 s." >&2
    [ -z "${log:-}" ] || tail -n 20 "$log" >&2
    exit 1
  fi
fi

for version in "${@:-4.3.1}"; do
  "$here/image/build.sh" "$version"
done
