"""Creates a jobs.shoal.dev, waits for its end, prints what it says; exit code 0 if Complete."""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
SERVER = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
NAME, NAMESPACE = os.environ["JOB_NAME"], os.environ["JOB_NAMESPACE"]
JOBS = f"{SERVER}/apis/shoal.dev/v1alpha1/namespaces/{NAMESPACE}/jobs"
TRUST = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
PATIENCE = 180


def call(method, url, body=None):
    """Send one request as the Pod's service account and return the decoded answer."""
    with open(f"{ACCOUNT}/token", encoding="ascii") as token:
        headers = {"Authorization": f"Bearer {token.read()}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, context=TRUST, timeout=10) as answer:
        return json.load(answer)


def delete():
    """Delete the job, if it is there, and wait until it is gone."""
    try:
        call("DELETE", f"{JOBS}/{NAME}")
        while True:
            call("GET", f"{JOBS}/{NAME}")
            time.sleep(0.2)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise


def main():
    """Run the job to its end and return the exit code."""
    delete()
    call(
        "POST",
        JOBS,
        {
            "apiVersion": "shoal.dev/v1alpha1",
            "kind": "Job",
            "metadata": {"name": NAME},
            "spec": {"command": ["python", "-c", "print(6 * 7)"]},
        },
    )
    print(f"created jobs.shoal.dev/{NAME} in {NAMESPACE}", flush=True)
    status, until = {}, time.monotonic() + PATIENCE
    while time.monotonic() < until and "completionTime" not in status:
        time.sleep(0.2)
        status = call("GET", f"{JOBS}/{NAME}").get("status", {})
    print(json.dumps(status, indent=2))
    delete()
    return 0 if status.get("phase") == "Complete" else 1


sys.exit(main())
