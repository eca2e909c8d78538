#!/usr/bin/env bash
# The demo, with all that it needs: a cluster, the operator in it, and a client outside of it.
#
# The cluster is the one that SHOAL_KUBECONFIG names, else kind, else an embedded one (Linux, root).
# Where none of these can be had, the same demo runs on this machine alone.
# Variables: PYTHON (python3), SHOAL_DEMO_CHART (demo.png).
set -euo pipefail
cd "$(dirname "$0")/../.."

python=.venv/bin/python
chart=${SHOAL_DEMO_CHART:-demo.png}
started=$SECONDS

say() { echo "--- $*"; }

can_have_a_cluster() {
    [ -n "${SHOAL_KUBECONFIG:-}" ] && return
    command -v kind >/dev/null && command -v docker >/dev/null &&
        docker version >/dev/null 2>&1 && return
    [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]
}

if can_have_a_cluster; then
    say "Bringing up the cluster and installing Shoal in it (the first time builds both, which takes minutes)"
    "${MAKE:-make}" --no-print-directory deploy
    say "The cluster and Shoal are ready after $((SECONDS - started)) s"
    eval "$("${PYTHON:-python3}" -m cluster env)"
    say "A map over Python's standard library, on the cluster at $KUBECONFIG"
    "$python" examples/demo/demo.py --chart "$chart"
else
    say "No cluster can be had here: SHOAL_KUBECONFIG is not set, kind with Docker is not there,"
    say "and an embedded cluster needs Linux and root. The same runs on this machine alone, on shoal.Local()."
    "$python" examples/demo/demo.py --local --chart "$chart"
fi
say "Done after $((SECONDS - started)) s. Open $chart for the chart."
