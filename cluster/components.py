"""What runs in the embedded cluster: each component's program, arguments, and how to ask it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster import commands, configuration, layout
from cluster.folders import Folders
from cluster.layout import HOST_ADDRESS, LOOPBACK, Node
from cluster.pki import Identity, Pki


@dataclass(frozen=True)
class Component:
    """One process. `mark` is the argument that no process but this one has."""

    name: str
    program: Path
    arguments: tuple[str, ...]
    mark: str
    #: Address and port of every listener.
    listens: tuple[tuple[str, int], ...] = ()
    #: A page that answers 200 when healthy; empty for one that has a socket instead.
    health: str = ""
    socket: Path | None = None

    @property
    def command(self) -> list[str]:
        """Program and arguments."""
        return [str(self.program), *self.arguments]


def identities() -> list[Identity]:
    """Who speaks in the cluster. ``system:`` names have their rights from Kubernetes itself."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    named = (*service, f"kubernetes.default.svc.{layout.CLUSTER_DOMAIN}", "localhost")
    addresses = (LOOPBACK, layout.KUBERNETES_SERVICE, HOST_ADDRESS)
    local = ("localhost", LOOPBACK)
    return [
        Identity("etcd", "/CN=etcd", local),
        Identity("apiserver-etcd", "/CN=apiserver"),
        Identity("kube-apiserver", "/CN=kube-apiserver", (*named, *addresses)),
        Identity("apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet"),
        Identity("admin", "/O=system:masters/CN=admin"),
        Identity("kube-controller-manager", "/CN=system:kube-controller-manager", local),
        Identity("kube-scheduler", "/CN=system:kube-scheduler", local),
        Identity("kube-proxy", "/CN=system:kube-proxy"),
        Identity("coredns", "/CN=shoal:coredns"),
        *(
            Identity(
                f"kubelet-{node.name}",
                f"/O=system:nodes/CN=system:node:{node.name}",
                (node.name, node.address),
            )
            for node in layout.NODES
        ),
    ]


def etcd(folders: Folders, pki: Pki) -> Component:
    """Data need not outlive a power cut, so it does not wait for the disk."""
    data = str(folders.state / "etcd")
    client = f"https://{LOOPBACK}:{layout.ETCD_PORT}"
    peer = f"http://{LOOPBACK}:{layout.ETCD_PEER_PORT}"
    metrics = f"http://{LOOPBACK}:{layout.ETCD_METRICS_PORT}"
    return Component(
        name="etcd",
        program=_of_system("etcd"),
        arguments=(
            f"--data-dir={data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            f"--listen-metrics-urls={metrics}",
            f"--cert-file={pki.certificate('etcd')}",
            f"--key-file={pki.key('etcd')}",
            f"--trusted-ca-file={pki.authority}",
            "--client-cert-auth",
            "--unsafe-no-fsync",
            "--auto-compaction-retention=1h",
            "--logger=zap",
        ),
        mark=f"--data-dir={data}",
        listens=tuple(
            (LOOPBACK, port)
            for port in (layout.ETCD_PORT, layout.ETCD_PEER_PORT, layout.ETCD_METRICS_PORT)
        ),
        health=f"{metrics}/health",
    )


def apiserver(folders: Folders, pki: Pki) -> Component:
    """The API server, on the bridge, where Pods reach it too."""
    key = str(pki.token_key)
    return Component(
        name="kube-apiserver",
        program=folders.bin / "kube-apiserver",
        arguments=(
            f"--etcd-servers=https://{LOOPBACK}:{layout.ETCD_PORT}",
            f"--etcd-cafile={pki.authority}",
            f"--etcd-certfile={pki.certificate('apiserver-etcd')}",
            f"--etcd-keyfile={pki.key('apiserver-etcd')}",
            f"--bind-address={HOST_ADDRESS}",
            f"--advertise-address={HOST_ADDRESS}",
            f"--secure-port={layout.APISERVER_PORT}",
            f"--service-cluster-ip-range={layout.SERVICE_RANGE}",
            f"--client-ca-file={pki.authority}",
            f"--tls-cert-file={pki.certificate('kube-apiserver')}",
            f"--tls-private-key-file={pki.key('kube-apiserver')}",
            f"--service-account-issuer={layout.ISSUER}",
            f"--service-account-jwks-uri={layout.ISSUER}/openid/v1/jwks",
            f"--service-account-key-file={pki.token_public}",
            f"--service-account-signing-key-file={key}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-certificate-authority={pki.authority}",
            f"--kubelet-client-certificate={pki.certificate('apiserver-kubelet')}",
            f"--kubelet-client-key={pki.key('apiserver-kubelet')}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--profiling=false",
        ),
        mark=f"--service-account-signing-key-file={key}",
        listens=((HOST_ADDRESS, layout.APISERVER_PORT),),
        health=f"{layout.APISERVER}/readyz",
    )


def controller_manager(folders: Folders, pki: Pki) -> Component:
    """The controllers; a node that is silent is noticed soon."""
    name = "kube-controller-manager"
    return Component(
        name=name,
        program=folders.bin / name,
        arguments=(
            *_common(folders, pki, name),
            "--use-service-account-credentials",
            f"--service-account-private-key-file={pki.token_key}",
            f"--root-ca-file={pki.authority}",
            f"--cluster-cidr={layout.POD_RANGE}",
            "--allocate-node-cidrs=false",
            f"--flex-volume-plugin-dir={folders.state / 'volume-plugins'}",
            f"--node-monitor-grace-period={configuration.NODE_LEASE_SECONDS}s",
            "--node-monitor-period=2s",
            "--concurrent-gc-syncs=20",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ),
        mark=_kubeconfig_argument(folders, name),
        listens=((LOOPBACK, 10257),),
        health=f"https://{LOOPBACK}:10257/healthz",
    )


def scheduler(folders: Folders, pki: Pki) -> Component:
    """The scheduler."""
    name = "kube-scheduler"
    return Component(
        name=name,
        program=folders.bin / name,
        arguments=(*_common(folders, pki, name), "--kube-api-qps=200", "--kube-api-burst=400"),
        mark=_kubeconfig_argument(folders, name),
        listens=((LOOPBACK, 10259),),
        health=f"https://{LOOPBACK}:10259/healthz",
    )


def kube_proxy(folders: Folders) -> Component:
    """One for both nodes: they share the machine's network."""
    config = f"--config={folders.config / 'kube-proxy.json'}"
    return Component(
        name="kube-proxy",
        program=folders.bin / "kube-proxy",
        arguments=(config,),
        mark=config,
        listens=((LOOPBACK, 10249), (LOOPBACK, 10256)),
        health=f"http://{LOOPBACK}:10256/livez",
    )


def coredns(folders: Folders) -> Component:
    """DNS for Pods, on the bridge."""
    config = str(folders.config / "Corefile")
    return Component(
        name="coredns",
        program=folders.bin / "coredns",
        arguments=("-conf", config),
        mark=config,
        listens=((HOST_ADDRESS, 53), (LOOPBACK, layout.COREDNS_HEALTH_PORT)),
        health=f"http://{LOOPBACK}:{layout.COREDNS_HEALTH_PORT}/health",
    )


def containerd(folders: Folders, node: Node) -> Component:
    """The node's own containerd."""
    config = str(folders.config / f"containerd-{node.name}.toml")
    return Component(
        name=f"containerd {node.name}",
        program=_of_system("containerd"),
        arguments=("--config", config, "--log-level", "warn"),
        mark=config,
        socket=folders.containerd_socket(node.name),
    )


def kubelet(folders: Folders, node: Node) -> Component:
    """The node's kubelet."""
    config = f"--config={folders.config / f'kubelet-{node.name}.json'}"
    return Component(
        name=f"kubelet {node.name}",
        program=folders.bin / "kubelet",
        arguments=(
            config,
            f"--kubeconfig={configuration.kubeconfig(folders, f'kubelet-{node.name}')}",
            f"--root-dir={folders.node_state(node.name) / 'kubelet'}",
            f"--cert-dir={folders.node_state(node.name) / 'certificates'}",
            f"--hostname-override={node.name}",
            f"--node-ip={node.address}",
        ),
        mark=config,
        listens=((node.address, 10250), (node.address, 10248)),
        health=f"http://{node.address}:10248/healthz",
    )


def control_plane(folders: Folders, pki: Pki) -> list[Component]:
    """In the order of their start."""
    return [
        etcd(folders, pki),
        apiserver(folders, pki),
        controller_manager(folders, pki),
        scheduler(folders, pki),
        kube_proxy(folders),
        coredns(folders),
    ]


def of_node(folders: Folders, node: Node) -> list[Component]:
    """What a node runs, in the order of their start."""
    return [containerd(folders, node), kubelet(folders, node)]


def everything(folders: Folders, pki: Pki) -> list[Component]:
    """All components of the cluster."""
    nodes = [component for node in layout.NODES for component in of_node(folders, node)]
    return [*control_plane(folders, pki), *nodes]


def _common(folders: Folders, pki: Pki, name: str) -> tuple[str, ...]:
    return (
        _kubeconfig_argument(folders, name),
        f"--bind-address={LOOPBACK}",
        f"--tls-cert-file={pki.certificate(name)}",
        f"--tls-private-key-file={pki.key(name)}",
        "--leader-elect=false",
        "--profiling=false",
    )


def _kubeconfig_argument(folders: Folders, name: str) -> str:
    return f"--kubeconfig={configuration.kubeconfig(folders, name)}"


def _of_system(program: str) -> Path:
    return Path(commands.find(program) or f"/usr/bin/{program}").resolve()
