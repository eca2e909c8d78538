"""What the chart makes: restricted Pods, the operator's settings, MinIO, releases side by side."""

from __future__ import annotations

import ast
import base64
import json
from collections.abc import Callable

import pytest
from rendering import CHART, Release, cluster_tool, helm

from shoal.resources import KINDS
from shoal_operator.settings import Settings

Render = Callable[..., Release]
VARIANTS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_keeps_to_the_restricted_standard(variant: str, render: Render) -> None:
    for name, pod in render(variant).pods():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["requests"] and container["resources"]["limits"], name
        for volume in pod.get("volumes", ()):
            assert set(volume) <= {"name", "emptyDir", "persistentVolumeClaim"}, name


def test_the_operator_is_one_pod_that_is_replaced(render: Render) -> None:
    spec = render("dev").one("Deployment", "shoal")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    [container] = spec["template"]["spec"]["containers"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports == {"dispatcher": 8443, "health": 8080}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_operator_can_read_its_settings(variant: str, render: Render) -> None:
    release = render(variant)
    settings = Settings.from_env(release.environment())
    assert settings.namespace == "shoal-system"
    assert settings.instance == "shoal-system.shoal"
    service = release.one("Service", settings.service_name)
    [port] = service["spec"]["ports"]
    assert port["port"] == settings.port
    own = [o for o in release.of("Role") if o["metadata"]["name"] == "shoal"]
    for role in own:
        names = {n for rule in role["rules"] for n in rule.get("resourceNames", ())}
        assert {settings.lease_name, settings.authority_secret, settings.service_name} <= names
        assert not settings.bucket_secret or settings.bucket_secret in names


def test_settings_of_the_try_out(render: Render) -> None:
    settings = Settings.from_env(render("dev").environment())
    inside = "http://shoal-minio.shoal-system.svc:9000"
    assert (settings.default_bucket, settings.default_endpoint_in_cluster) == ("shoal", inside)
    assert (settings.bucket_secret, settings.user_secret_name) == ("shoal-minio", "shoal-minio")
    assert settings.create_bucket and settings.watch_namespaces == ()
    assert settings.python_images["3.11"] == "docker.io/library/python:3.11-slim"


def test_settings_of_production(render: Render) -> None:
    release = render("production")
    settings = Settings.from_env(release.environment())
    assert settings.cluster_id == "tests"
    assert settings.default_endpoint == "https://s3.example.org"
    assert settings.default_endpoint_in_cluster == "http://s3.storage.svc:9000"
    assert (settings.bucket_secret, settings.user_secret_name) == ("shoal-bucket", "shoal-user")
    assert not settings.create_bucket
    assert (settings.max_parallelism, settings.start_deadline_seconds) == (200, 600)
    assert (settings.worker_cpu, settings.worker_memory) == ("1", "2Gi")
    assert (settings.max_parallelism, settings.sweep_seconds) == (200, 30.0)
    assert settings.image_pull_secrets == ("pull",)


def test_one_registry_takes_the_place_of_all(render: Render) -> None:
    release = render("production", "minio.enabled=true")
    digest = "sha256:" + "0" * 64
    mirror = "mirror.example.org:5000"
    images = {c["image"] for _, pod in release.pods() for c in pod["containers"]}
    assert images == {
        f"{mirror}/shoal-dev/shoal-operator@{digest}",
        f"{mirror}/minio/minio:RELEASE.2025-09-07T16-13-09Z",
    }
    python = json.loads(release.environment()["SHOAL_OP_PYTHON_IMAGES"])
    assert python["3.12"] == f"{mirror}/library/python:3.12-slim"


def test_pods_carry_no_label_that_an_upgrade_changes(render: Render) -> None:
    for deployment in render("dev").of("Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert labels == deployment["spec"]["selector"]["matchLabels"]


def test_minio_is_there_only_when_asked_for(render: Render) -> None:
    for thing in render("namespaced"):
        assert "minio" not in thing["metadata"]["name"]


def test_users_get_the_same_key_as_minio(render: Render) -> None:
    secrets = render("dev").of("Secret")
    assert [s["metadata"]["namespace"] for s in secrets] == ["shoal-system", "default"]
    assert secrets[0]["data"] == secrets[1]["data"]
    assert len(base64.b64decode(secrets[0]["data"]["password"])) == 32
    named = render("minio").of("Secret")
    assert [s["metadata"]["namespace"] for s in named] == ["shoal-system", "team-a", "team-b"]
    assert base64.b64decode(named[2]["data"]["username"]) == b"admin"


def test_minio_can_have_a_node_port_and_a_volume(render: Render) -> None:
    [port] = render("dev").one("Service", "shoal-minio")["spec"]["ports"]
    assert port["nodePort"] == 30900
    claim = render("minio").one("PersistentVolumeClaim", "shoal-minio")
    assert claim["spec"]["storageClassName"] == "fast"
    assert not render("dev").of("PersistentVolumeClaim")


def test_the_try_out_uses_the_image_that_the_embedded_cluster_makes(render: Render) -> None:
    [container] = render("dev").one("Deployment", "shoal-minio")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["image"] in cluster_tool("images").split()


def test_definitions_are_kept_unless_told_otherwise(render: Render) -> None:
    kept = render("dev").of("CustomResourceDefinition")
    assert {d["metadata"]["name"] for d in kept} == {k.crd_name for k in KINDS.values()}
    for definition in kept:
        assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for definition in render("dev", "crds.keep=false").of("CustomResourceDefinition"):
        assert "annotations" not in definition["metadata"]
    assert not render("dev", "crds.enabled=false").of("CustomResourceDefinition")


def test_two_releases_share_the_definitions_only(render: Render) -> None:
    def made(release: str, namespace: str) -> set[tuple[str, str, str]]:
        objects = render(
            "dev",
            f"minio.userSecretNamespaces={{{namespace}}}",
            release=release,
            namespace=namespace,
        )
        return {
            (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"])
            for o in objects
            if o["kind"] != "CustomResourceDefinition"
        }

    assert not made("shoal", "team-a") & made("shoal", "team-b")
    assert not made("shoal", "team-a") & made("other", "team-a")


def test_the_clean_up_runs_before_the_release_goes(render: Render) -> None:
    release = render("dev")
    job = release.one("Job", "shoal-cleanup")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["args"] == ["cleanup"] and "command" not in container
    environment = {v["name"]: v.get("value", "") for v in container["env"]}
    assert environment == release.environment()
    assert not render("bare").of("Job")
    own = release.one("Role", "shoal")["rules"]
    [scale] = [r for r in own if r["resources"] == ["deployments/scale"]]
    assert scale["resourceNames"] == ["shoal"]


def test_vault_and_store_are_told_to_the_operator(render: Render) -> None:
    told = render("production").environment()
    assert told["SHOAL_OP_AZURE_VAULT"] == "team-vault"
    assert told["SHOAL_OP_SECRET_STORE"] == "ClusterSecretStore/aws"
    told = render("dev").environment()
    assert told["SHOAL_OP_AZURE_VAULT"] == told["SHOAL_OP_SECRET_STORE"] == ""


def test_a_pod_disruption_budget_lets_the_node_be_drained(render: Render) -> None:
    assert not render("dev").of("PodDisruptionBudget")
    budget = render("production").one("PodDisruptionBudget", "shoal")
    assert budget["spec"]["maxUnavailable"] == 1


def test_helm_test_runs_its_script_in_a_served_namespace(render: Render) -> None:
    release = render("namespaced")
    [container] = release.one("Pod", "shoal-test")["spec"]["containers"]
    [script] = container["args"]
    assert ast.dump(ast.parse(script)) == ast.dump(
        ast.parse((CHART / "files" / "helm_test.py").read_text())
    )
    assert {"name": "JOB_NAMESPACE", "value": "team-a"} in container["env"]
    assert release.one("Role", "shoal-system-shoal-test", "team-a")


def test_a_secret_of_the_charts_own_name_is_refused_as_an_existing_one() -> None:
    settings = "clusterId=x,minio.enabled=true,minio.auth.existingSecret=shoal-minio"
    words = ["--kube-version", "1.34.0", "--set", settings]
    done = helm("template", "shoal", str(CHART), *words)
    assert "leave it empty, or name another" in done.stderr
