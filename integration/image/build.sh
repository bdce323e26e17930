#!/usr/bin/env bash
# Makes sure that the image apache/kafka:VERSION is there: pulls the official one where a registry answers,
# else builds one that behaves the same, from this system's Debian (or Ubuntu) mirror and Maven's repository.
# Usage: build.sh [VERSION]
set -euo pipefail

version="${1:-4.3.1}"
image="apache/kafka:$version"
here="$(cd "$(dirname "$0")" && pwd)"
cache="$here/build" # ignored by git; safe to delete

docker image inspect "$image" >/dev/null 2>&1 && exit 0
if timeout 10 docker manifest inspect "$image" >/dev/null 2>&1 && timeout 600 docker pull "$image" >&2; then
  exit 0
fi

echo "no registry answers: building $image" >&2
start=$SECONDS
mkdir -p "$cache"
"$here/../packages.sh" mmdebstrap=mmdebstrap mvn=maven java=default-jre-headless >&2

# The system below Kafka: this system's own release, with its Java.
if [ ! -s "$cache/rootfs.tar" ]; then
  release="$(. /etc/os-release && echo "${VERSION_CODENAME:?this system names no Debian or Ubuntu release}")"
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  # Java's package makes links to its manual pages and fails where their folder is missing.
  "${as_root[@]}" mmdebstrap --quiet --variant=apt --include=default-jre-headless \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --setup-hook='mkdir -p "$1/usr/share/man/man1"' \
    "$release" - >"$cache/rootfs.tar.part"
  mv "$cache/rootfs.tar.part" "$cache/rootfs.tar"
fi

# Kafka: its jars and their dependencies.
stage="$cache/$version"
if [ ! -e "$stage/complete" ]; then
  rm -rf "$stage"
  mkdir -p "$stage/root"
  cp -a "$here/root/." "$stage/root/"
  logging=()
  if [ "${version%%.*}" -lt 4 ]; then
    logging=(-Dlog.group=org.slf4j -Dlog.artifact=slf4j-reload4j -Dlog.version=1.7.36)
  fi
  mvn -q -B -f "$here/jars.xml" -Dmaven.repo.local="$cache/m2" dependency:copy-dependencies \
    -DincludeScope=runtime -Dkafka="$version" "${logging[@]}" -DoutputDirectory="$stage/root/opt/kafka/libs" >&2
  touch "$stage/complete"
fi

# One tar of both, straight into the engine: nothing here needs a base image. Files only: `docker import`
# refuses a tar that names a directory twice.
cp "$cache/rootfs.tar" "$stage/image.tar"
(cd "$stage/root" && find . -type f -print0 | tar --null -T - --owner=0 --group=0 -rf "$stage/image.tar")
docker import \
  --change 'ENV PATH=/opt/kafka/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENV LANG=C.UTF-8' \
  --change "ENV KAFKA_VERSION=$version" \
  --change 'EXPOSE 9092' \
  --change 'CMD ["/etc/kafka/docker/run"]' \
  "$stage/image.tar" "$image" >/dev/null
rm "$stage/image.tar"
echo "built $image in $((SECONDS - start)) s" >&2
