#!/usr/bin/env bash
# Installs the chart, or upgrades it, in the cluster that KUBECONFIG names, with MinIO to try out.
#
# The operator is replaced only when its image's contents changed: their digest stands in its Pod.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
context=${SHOAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shoal}/operator-image/context
contents=$(cd "$context" && find . -type f -print0 | sort -z | xargs -0 sha256sum |
    cat - "$root/operator/Dockerfile" | sha256sum | cut -c1-16)

echo "deploy: helm upgrade --install shoal (namespace shoal-system)" >&2
helm upgrade --install shoal "$root/charts/shoal" \
    --namespace shoal-system --create-namespace \
    --values "$root/charts/shoal/ci/dev-values.yaml" \
    --set-string "operator.podAnnotations.shoal\.dev/contents=$contents" \
    --wait --timeout 3m >/dev/null
echo "deploy: ready" >&2
