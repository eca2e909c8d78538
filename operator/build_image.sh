#!/bin/sh
# Builds the operator's image: operator/build_image.sh [TAG]
#
# Wheels are made on this machine, since the build itself has no network: those of the dependencies only
# when pyproject.toml changed, ours always (it takes a second). An unchanged context builds nothing.
# In a cluster that SHOAL_KUBECONFIG names images come from a registry: SHOAL_OPERATOR_IMAGE then names
# one that was pushed there, and nothing is built.
set -eu

if [ -n "${SHOAL_OPERATOR_IMAGE:-}" ]; then
    echo "operator image: $SHOAL_OPERATOR_IMAGE, as SHOAL_OPERATOR_IMAGE says; nothing is built" >&2
    exit 0
fi
if [ -n "${SHOAL_KUBECONFIG:-}" ]; then
    echo "operator image: the cluster of SHOAL_KUBECONFIG reads images from registries only: build" \
        "operator/Dockerfile, push it, and set SHOAL_OPERATOR_IMAGE=REGISTRY/REPOSITORY:TAG" >&2
    exit 1
fi

root=$(cd "$(dirname "$0")/.." && pwd)
tag=${1:-localhost/shoal-operator:dev}
python=${PYTHON:-$root/.venv/bin/python}
folder=${SHOAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shoal}/operator-image
wanted="--platform manylinux_2_28_$(uname -m) --platform manylinux2014_$(uname -m) --platform manylinux_2_17_$(uname -m)"
mkdir -p "$folder/context/wheels" "$folder/dependencies"

say() { echo "operator image: $*" >&2; }

pip() { if command -v uv >/dev/null; then uv tool run pip "$@"; else "$python" -m pip "$@"; fi; }

mark=$("$python" - "$root/pyproject.toml" <<'PY'
import hashlib, sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
wanted = [*project["dependencies"], *project["optional-dependencies"]["operator"]]
print(hashlib.sha256("\n".join(["3.11", *wanted]).encode()).hexdigest(), *wanted, sep="\n")
PY
)
digest=$(printf '%s\n' "$mark" | head -n 1)
if [ "$(cat "$folder/dependencies.mark" 2>/dev/null || true)" != "$digest" ]; then
    say "downloading the wheels of the dependencies"
    rm -rf "$folder/dependencies" && mkdir -p "$folder/dependencies"
    printf '%s\n' "$mark" | tail -n +2 >"$folder/requirements.txt"
    # shellcheck disable=SC2086
    pip download -q -d "$folder/dependencies" --only-binary :all: --python-version 3.11 \
        --implementation cp $wanted -r "$folder/requirements.txt"
    printf '%s' "$digest" >"$folder/dependencies.mark"
fi

sources=$(cd "$root" && find pyproject.toml sdk operator/shoal_operator \
    -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum)
if [ "$(cat "$folder/sources.mark" 2>/dev/null || true)" != "$sources" ]; then
    say "building the wheel"
    rm -rf "$folder/own" && mkdir -p "$folder/own"
    if command -v uv >/dev/null; then
        SOURCE_DATE_EPOCH=1700000000 uv build -q --wheel -o "$folder/own" "$root"
    else
        SOURCE_DATE_EPOCH=1700000000 "$python" -m pip wheel -q --no-deps -w "$folder/own" "$root"
    fi
    printf '%s' "$sources" >"$folder/sources.mark"
fi

rm -rf "$folder/context" && mkdir -p "$folder/context/wheels"
cp "$folder"/dependencies/*.whl "$folder"/own/*.whl "$folder/context/wheels/"
cd "$root"
exec "$python" -m cluster build-image \
    --dockerfile operator/Dockerfile --context "$folder/context" --tag "$tag"
