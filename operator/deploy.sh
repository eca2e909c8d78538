#!/usr/bin/env bash
# Installs the chart, or upgrades it, in the cluster that KUBECONFIG names, with MinIO to try out.
#
# The operator is replaced only when its image's contents changed: their digest stands in its Pod.
# SHOAL_OPERATOR_IMAGE (REGISTRY/REPOSITORY:TAG) takes an image of a registry instead of the one that was
# built here, and MinIO's from its own; SHOAL_HELM_VALUES names a file with more of the chart's values.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)

if [ -n "${SHOAL_OPERATOR_IMAGE:-}" ]; then
    path=${SHOAL_OPERATOR_IMAGE%:*}
    values=(--values "$root/charts/shoal/ci/named-values.yaml"
        --set-string "image.registry=${path%%/*}" --set-string "image.repository=${path#*/}"
        --set-string "image.tag=${SHOAL_OPERATOR_IMAGE##*:}")
else
    context=${SHOAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shoal}/operator-image/context
    contents=$(cd "$context" && find . -type f -print0 | sort -z | xargs -0 sha256sum |
        cat - "$root/operator/Dockerfile" | sha256sum | cut -c1-16)
    values=(--values "$root/charts/shoal/ci/dev-values.yaml"
        --set-string "operator.podAnnotations.shoal\\.dev/contents=$contents")
fi
[ -z "${SHOAL_HELM_VALUES:-}" ] || values+=(--values "$SHOAL_HELM_VALUES")

echo "deploy: helm upgrade --install shoal (namespace shoal-system)" >&2
helm upgrade --install shoal "$root/charts/shoal" \
    --namespace shoal-system --create-namespace "${values[@]}" \
    --wait --timeout 3m >/dev/null
echo "deploy: ready" >&2
