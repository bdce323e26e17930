#!/usr/bin/env bash
# Checks the chart: `helm lint`, every set of values in values/ rendered and held against Kubernetes' own schemas, what must be refused,
# one render against golden/. Needs python3 (with venv), and npm where there is no helm.
#
# helm/tests/chart.sh [KUROSHIO]     with a binary: it must accept the configurations that the chart writes
# WRITE=1 helm/tests/chart.sh        writes golden/ anew; look at the difference
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=helm/tests/tools.sh
. "$here/tools.sh"
python3 "$here/chart.py" "$@"
