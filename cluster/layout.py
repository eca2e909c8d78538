"""The embedded cluster's names, addresses and ports.

Both nodes live on one bridge, each with an address of its own, so that every component listens
there or on the loopback and keeps the port that it has everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

BRIDGE = "shoal0"
#: A bridge without members, there only so that Service addresses have a route that ends here.
SERVICE_BRIDGE = "shoal-svc"
BRIDGE_HARDWARE_ADDRESS = "0a:58:0a:f4:00:01"
SERVICE_BRIDGE_HARDWARE_ADDRESS = "0a:58:0a:60:00:01"
FIREWALL_TABLE = "shoal"

POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
PREFIX = 16

LOOPBACK = "127.0.0.1"
APISERVER_PORT = 6443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
ETCD_METRICS_PORT = 12381
COREDNS_HEALTH_PORT = 18080
MINIO_NODE_PORT = 30900

CLUSTER_DOMAIN = "cluster.local"
ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True)
class Node:
    """A node: its name, address, and the addresses of its Pods."""

    name: str
    address: str
    #: Addresses of its Pods, all in POD_RANGE.
    pods: tuple[str, str]


NODES = (
    Node("node-1", "10.244.0.1", ("10.244.1.1", "10.244.1.254")),
    Node("node-2", "10.244.0.2", ("10.244.2.1", "10.244.2.254")),
)
#: Where the API server, DNS and node ports listen.
HOST_ADDRESS = NODES[0].address
APISERVER = f"https://{HOST_ADDRESS}:{APISERVER_PORT}"


def node(name: str) -> Node:
    """The node of that name; raises LookupError."""
    for known in NODES:
        if known.name == name:
            return known
    raise LookupError(f"no node {name!r}; there are {', '.join(n.name for n in NODES)}")
