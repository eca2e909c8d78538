"""The life of an embedded cluster, for real: up, used, hurt, killed, up again, down.

The tests of this file run in their order, on one cluster of their own (see conftest).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from isolated_machine import Machine, hold

NAMESPACE = "restricted"
PYTHON = "python:3.11-slim"
SECONDS_OF_A_START = 30.0


def pod(name: str, node: str, code: str, **container: Any) -> dict[str, Any]:
    """A Pod that the restricted Pod Security standard lets in."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "main",
                    "image": PYTHON,
                    "command": ["python", "-uc", code],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    **container,
                }
            ],
        },
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    port = {"port": 80, "targetPort": 8080, **spec.pop("port", {})}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": name}, "ports": [port], **spec},
    }


SERVE = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8080, bind='0.0.0.0')"


@pytest.fixture(scope="module")
def before(machine: Machine) -> dict[str, list[str]]:
    return traces(machine)


def traces(machine: Machine) -> dict[str, list[str]]:
    """What a cluster would leave on a machine."""
    mark = machine.folders.mark
    cgroups = [str(p) for p in Path("/sys/fs/cgroup").glob(f"*/{mark}")]
    cgroups += [str(p) for p in Path("/sys/fs/cgroup").glob(mark)]
    settings = ("vm.overcommit_memory", "kernel.panic", "net.ipv4.ip_forward")
    return {
        "devices": machine.run("ip", "-br", "link").stdout.splitlines(),
        "routes": machine.run("ip", "route", "show", "table", "all").stdout.splitlines(),
        "rules": machine.run("nft", "list", "ruleset").stdout.splitlines(),
        "namespaces": machine.run("ip", "netns").stdout.splitlines(),
        "mounts": [
            line
            for line in machine.run("cat", "/proc/self/mounts").stdout.splitlines()
            if mark in line or str(machine.cache) in line
        ],
        "processes": sorted(machine.processes().values()),
        "cgroups": cgroups,
        "settings": machine.run("sysctl", *settings).stdout.splitlines(),
        "run": [str(p) for p in Path("/run").glob(f"{mark}*")],
        "cache": sorted(
            p.name for p in machine.cache.iterdir() if p.name in ("cluster", "kubeconfig")
        ),
    }


def test_a_first_up_ends_with_two_ready_nodes(
    machine: Machine, before: dict[str, list[str]]
) -> None:
    said = machine.cluster("up").stderr
    assert "cluster: embedded (SHOAL_CLUSTER=embedded)" in said
    nodes = machine.get("nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["node-1", "node-2"]
    assert machine.cluster("status").returncode == 0


def test_nothing_listens_beyond_the_machine(machine: Machine) -> None:
    listeners = machine.run("ss", "-Hltnu").stdout.splitlines()
    local = [line.split()[4] for line in listeners]
    assert local
    assert all(name.startswith(("127.", "10.244.0.")) for name in local), local


def test_pods_of_both_nodes_reach_each_other_and_services_by_name(machine: Machine) -> None:
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    machine.apply(namespace)
    wait_for_account(machine)
    machine.apply(
        pod("one", "node-1", SERVE),
        pod("two", "node-2", SERVE),
        service("one"),
        service("two"),
        service("open", type="NodePort", selector={"app": "two"}, port={"nodePort": 30900}),
    )
    wait_ready(machine, "one", "two")
    for here, there in (("one", "two"), ("two", "one")):
        address = machine.get("pod", there, "-n", NAMESPACE)["status"]["podIP"]
        own = f"{here}.{NAMESPACE}.svc"  # its short name is the Pod's own, in /etc/hosts
        for name in (address + ":8080", there, f"{there}.{NAMESPACE}.svc.cluster.local", own):
            assert fetch(machine, here, f"http://{name}/") == "200"
    seen = machine.run(
        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://10.244.0.1:30900"
    )
    assert seen.stdout == "200"
    assert "GET / HTTP/1.1" in machine.kubectl("logs", "-n", NAMESPACE, "two")


def test_a_pod_that_takes_too_much_memory_is_said_to_be_killed_for_it(machine: Machine) -> None:
    limits = {"limits": {"memory": "50Mi"}}
    machine.apply(pod("greedy", "node-2", "bytearray(300 << 20)", resources=limits))
    machine.kubectl(
        *("wait", "-n", NAMESPACE, "pod/greedy", "--timeout=60s"),
        "--for=jsonpath={.status.phase}=Failed",
    )
    status = machine.get("pod", "greedy", "-n", NAMESPACE)["status"]
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_a_service_account_reads_the_keys_that_signed_its_token(machine: Machine) -> None:
    code = (
        "import ssl,urllib.request as u;d='/var/run/secrets/kubernetes.io/serviceaccount/';"
        "r=u.Request('https://kubernetes.default.svc/openid/v1/jwks',"
        "headers={'Authorization':'Bearer '+open(d+'token').read()});"
        "print(u.urlopen(r,context=ssl.create_default_context(cafile=d+'ca.crt')).read().decode())"
    )
    answer = machine.kubectl("exec", "-n", NAMESPACE, "one", "--", "python", "-c", code)
    assert json.loads(answer)["keys"][0]["kty"] == "RSA"


def test_a_root_pod_is_refused_where_pod_security_is_restricted(machine: Machine) -> None:
    bad = pod("root", "node-1", "pass")
    bad["spec"]["securityContext"] = {}
    done = machine.run("kubectl", "apply", "-f", "-", given=json.dumps(bad), check=False)
    assert "violates PodSecurity" in done.stderr


def test_packets_neither_leave_the_machine_nor_enter_it(machine: Machine) -> None:
    with hold() as outside:
        peer = str(outside)
        machine.run(
            "ip", "link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns", peer
        )
        machine.run("ip", "addr", "add", "198.51.100.1/24", "dev", "out0")
        machine.run("ip", "link", "set", "out0", "up")

        def there(*words: str) -> int:
            return subprocess.run(["nsenter", "-t", peer, "-n", *words]).returncode

        there("ip", "addr", "add", "198.51.100.2/24", "dev", "in0")
        there("ip", "link", "set", "in0", "up")
        there("ip", "route", "add", "default", "via", "198.51.100.1")
        refused, no_answer = 7, 28  # what curl says
        assert there("curl", "-sm2", "http://198.51.100.1:80") == refused
        assert there("curl", "-sm2", "http://10.244.0.1:30900") == no_answer
        assert there("curl", "-skm2", "https://10.244.0.1:6443/livez") == no_answer
        assert there("curl", "-skm2", "https://10.96.0.1/livez") == no_answer
        leave = "import socket; socket.create_connection(('198.51.100.2', 80), timeout=2)"
        words = ("exec", "-n", NAMESPACE, "one", "--", "python", "-c", leave)
        assert "No route to host" in machine.run("kubectl", *words, check=False).stderr
        machine.run("ip", "link", "delete", "out0")


def test_a_healthy_cluster_is_reused(machine: Machine) -> None:
    running = components(machine)
    said = machine.cluster("up").stderr
    assert "used as it is" in said
    assert components(machine) == running


def test_a_lost_component_comes_back_and_pods_live_on(machine: Machine) -> None:
    for name in ("kube-scheduler", "coredns", "kube-apiserver", "kubelet"):
        for pid, command in components(machine).items():
            if command.split()[0].endswith(name):
                os.kill(pid, signal.SIGKILL)
    assert machine.cluster("status", check=False).returncode == 1
    machine.cluster("up")
    assert machine.cluster("status").returncode == 0
    status = machine.get("pod", "one", "-n", NAMESPACE)["status"]
    assert status["phase"] == "Running"
    assert status["containerStatuses"][0]["restartCount"] == 0
    assert fetch(machine, "one", "http://two/") == "200"


def test_a_component_is_stopped_and_started(machine: Machine) -> None:
    machine.cluster("stop", "kube-apiserver")
    assert machine.run("kubectl", "get", "nodes", check=False).returncode == 1
    machine.cluster("start", "kube-apiserver")
    machine.kubectl("get", "nodes")


def test_a_paused_component_hangs_until_it_is_resumed(machine: Machine) -> None:
    machine.cluster("pause", "kube-apiserver")
    asked = machine.run("kubectl", "get", "nodes", "--request-timeout=1s", check=False)
    assert asked.returncode == 1
    assert "refused" not in asked.stderr
    machine.cluster("resume", "kube-apiserver")
    machine.kubectl("get", "nodes")


def test_connections_to_a_component_are_reset(machine: Machine) -> None:
    watch = machine.command("kubectl", "get", "--raw", "/api/v1/pods?watch=true")
    with subprocess.Popen(
        watch, env=machine.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline()
        machine.cluster("drop-connections", "kube-apiserver")
        watching.communicate(timeout=20)


def test_an_address_is_cut_off_and_mended(machine: Machine) -> None:
    address = machine.get("pod", "two", "-n", NAMESPACE)["status"]["podIP"]
    ways = ("http://10.244.0.1:30900", f"http://{address}:8080")
    refused, no_answer = "7", "28"  # what curl says

    def seen(way: str) -> str:
        words = ("curl", "-sm2", "-o", "/dev/null", "-w", "%{exitcode}", way)
        return machine.run(*words, check=False).stdout

    machine.cluster("cut", address, "--port", "8080", "--refuse")
    assert [seen(way) for way in ways] == [refused, refused]
    machine.cluster("cut", address, "--port", "8080")
    assert [seen(way) for way in ways] == [no_answer, no_answer]
    machine.cluster("mend", address, "--port", "8080")
    machine.cluster("cut", address)
    assert [seen(way) for way in ways] == [no_answer, no_answer]
    assert "timed out" in fetch_once(machine, "one", f"http://{address}:8080")
    machine.cluster("mend")
    assert [seen(way) for way in ways] == ["0", "0"]
    assert fetch_once(machine, "one", f"http://{address}:8080") == "200"


def test_a_container_dies_whole_by_a_signal_from_outside(machine: Machine) -> None:
    child = "import subprocess; subprocess.run(['sleep', '600'])"
    machine.apply(pod("whole", "node-1", child))
    wait_ready(machine, "whole")
    uid = machine.get("pod", "whole", "-n", NAMESPACE)["metadata"]["uid"]
    machine.cluster("signal-pod", uid, "KILL", "--depth", "0")
    machine.kubectl(
        *("wait", "-n", NAMESPACE, "pod/whole", "--timeout=60s"),
        "--for=jsonpath={.status.phase}=Failed",
    )
    assert machine.cluster("signal-pod", uid, "KILL", check=False).returncode == 1


def test_a_node_can_be_lost_and_come_back(machine: Machine) -> None:
    machine.cluster("stop-node", "node-2")
    machine.kubectl("wait", "node/node-2", "--for=condition=Ready=Unknown", "--timeout=90s")
    machine.cluster("start-node", "node-2")
    machine.kubectl("wait", "node/node-2", "--for=condition=Ready", "--timeout=60s")
    machine.apply(pod("after", "node-2", "print('alive')"))
    machine.kubectl(
        *("wait", "-n", NAMESPACE, "pod/after", "--timeout=60s"),
        "--for=jsonpath={.status.phase}=Succeeded",
    )


def test_up_works_after_everything_was_killed(machine: Machine) -> None:
    kill_everything(machine)
    started = time.monotonic()
    machine.cluster("up")
    assert time.monotonic() - started < SECONDS_OF_A_START
    assert machine.cluster("status").returncode == 0


def test_up_works_after_a_kill_in_the_middle_of_a_start(machine: Machine) -> None:
    machine.cluster("down")
    up = machine.command("python3", "-m", "cluster", "up")
    with subprocess.Popen(
        up, env=machine.environment, stderr=subprocess.PIPE, text=True
    ) as started:
        assert started.stderr is not None
        for line in started.stderr:
            if "starting controllers" in line:
                break
        started.kill()
    kill_everything(machine)
    for log in (machine.folders.state / "etcd").rglob("*.wal"):
        log.write_bytes(log.read_bytes()[:100])  # half-written
    machine.cluster("up")
    assert machine.cluster("status").returncode == 0


def test_down_leaves_nothing(machine: Machine, before: dict[str, list[str]]) -> None:
    machine.apply(pod_in_default("last"))
    machine.kubectl("wait", "pod/last", "--for=condition=Ready", "--timeout=60s")
    machine.cluster("down")
    after = traces(machine)
    new = {kind: sorted(set(found) - set(before[kind])) for kind, found in after.items()}
    gone = {kind: sorted(set(found) - set(after[kind])) for kind, found in before.items()}
    assert not any(new.values()), new
    assert not any(gone.values()), gone
    assert machine.cluster("status", check=False).returncode == 1


def test_a_second_start_is_quick(machine: Machine) -> None:
    started = time.monotonic()
    machine.cluster("up")
    assert time.monotonic() - started < SECONDS_OF_A_START


def pod_in_default(name: str) -> dict[str, Any]:
    made = pod(name, "node-1", "import time; time.sleep(600)")
    made["metadata"]["namespace"] = "default"
    return made


def wait_for_account(machine: Machine) -> None:
    words = ("wait", "-n", NAMESPACE, "--for=create", "serviceaccount/default", "--timeout=30s")
    machine.kubectl(*words)


def wait_ready(machine: Machine, *names: str) -> None:
    pods = [f"pod/{name}" for name in names]
    machine.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s", *pods)


def fetch(machine: Machine, pod_name: str, address: str) -> str:
    """The HTTP status that a Pod gets, tried again while a Service's endpoint is being made."""
    code = (
        "import sys,time,urllib.request as u\n"
        "for _ in range(20):\n"
        "  try: print(u.urlopen(sys.argv[1], timeout=2).status); break\n"
        "  except OSError as e: time.sleep(0.5); last=e\n"
        "else: print(last)"
    )
    words = ("kubectl", "exec", "-n", NAMESPACE, pod_name, "--", "python", "-c", code, address)
    until = time.monotonic() + 20
    while (done := machine.run(*words, check=False)).returncode and time.monotonic() < until:
        time.sleep(0.5)  # a kubelet that was just started has not looked at its Pods yet
    return done.stdout.strip() or done.stderr


def fetch_once(machine: Machine, pod_name: str, address: str) -> str:
    """The HTTP status that a Pod gets, or why it gets none."""
    code = (
        "import sys,urllib.request as u\n"
        "try: print(u.urlopen(sys.argv[1], timeout=2).status)\n"
        "except OSError as e: print(e)"
    )
    words = ("exec", "-n", NAMESPACE, pod_name, "--", "python", "-c", code, address)
    return machine.kubectl(*words).strip()


def components(machine: Machine) -> dict[int, str]:
    """Processes of the cluster itself, without its Pods and their shims."""
    mark = str(machine.cache)
    return {pid: words for pid, words in machine.processes().items() if mark in words}


def kill_everything(machine: Machine) -> None:
    """As a crash does: every process of the cluster and of its Pods at once."""
    shims = machine.folders.run
    for pid, words in machine.processes().items():
        if str(machine.cache) in words or str(shims) in words:
            os.kill(pid, signal.SIGKILL)
