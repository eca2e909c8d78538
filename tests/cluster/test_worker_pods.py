"""What stands in a worker's Pod, and who else may not be one."""

from __future__ import annotations

import json
from typing import Any

from namespaces import RELEASE_NAMESPACE, Place, secret_value

from shoal.kube import SECRETS


async def test_no_credential_of_the_bucket_stands_in_it(place: Place) -> None:
    await place.run("Job", "one", {"function": {"name": "math.gcd", "args": [4, 6]}})
    (pod,) = await place.pods()
    text = json.dumps(pod)
    secret = await place.api.get(SECRETS, "shoal-minio", RELEASE_NAMESPACE)
    assert secret_value(secret, "password") not in text
    assert secret["data"]["password"] not in text
    assert "shoal-minio" not in text
    assert "X-Amz" not in text
    assert pod["spec"]["automountServiceAccountToken"] is False


async def test_a_function_sees_no_token_of_the_cluster(place: Place) -> None:
    path = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    spec: dict[str, Any] = {"function": {"name": "os.path.exists", "args": [path]}}
    assert (await place.run("Job", "token", spec))["result"] is False


async def test_a_worker_runs_as_nobody_with_a_home_it_may_write(place: Place) -> None:
    command = ["sh", "-c", 'test "$(id -u)" = 65534 && touch "$HOME/x" "$TMPDIR/y" ./z']
    assert (await place.run("Job", "home", {"command": command}))["exitCode"] == 0
