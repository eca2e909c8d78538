"""The configuration files of the cluster's components. JSON is written where YAML is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster import layout
from cluster.folders import Folders
from cluster.layout import Node
from cluster.pki import Pki

CNI_PLUGINS = "/usr/lib/cni"
PAUSE_IMAGE = "localhost/shoal-pause:1"
#: Losing a node is noticed after this long; Kubernetes' own 50 s would make every such test slow.
NODE_LEASE_SECONDS = 20


def containerd(folders: Folders, node: Node, *, snapshotter: str) -> str:
    """Everything in the node's own folders, so that no other containerd is touched.

    `restrict_oom_score_adj`: a container may not get a better score than this process has, which
    matters where the machine withholds CAP_SYS_RESOURCE.
    """
    content, run = folders.node_content(node.name), folders.node_run(node.name)
    return f"""version = 2
root = "{content}"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.internal.v1.tracing"]

[grpc]
  address = "{folders.containerd_socket(node.name)}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{content}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "{layout.LOOPBACK}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{run}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{cni_folder(folders, node)}"
"""


def snapshotter(content: Path) -> str:
    """overlayfs can't lie on another overlayfs, which is what a container's root is."""
    best, kind = 0, ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, filesystem, *_ = line.split()
        if content.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), filesystem
    return "native" if kind == "overlay" else "overlayfs"


def cni_folder(folders: Folders, node: Node) -> Path:
    """The node's CNI configuration."""
    return folders.config / f"{node.name}-cni"


def cni(folders: Folders, node: Node) -> str:
    """One bridge for all Pods, addresses from the node's own range."""
    first, last = node.pods
    addresses = {
        "type": "host-local",
        "dataDir": str(folders.node_state(node.name) / "addresses"),
        "ranges": [[{"subnet": layout.POD_RANGE, "rangeStart": first, "rangeEnd": last}]],
        "routes": [{"dst": "0.0.0.0/0", "gw": layout.HOST_ADDRESS}],
    }
    bridge = {
        "type": "bridge",
        "bridge": layout.BRIDGE,
        "isGateway": False,
        "hairpinMode": True,
        "ipam": addresses,
    }
    return _json({"cniVersion": "0.4.0", "name": layout.BRIDGE, "plugins": [bridge]})


def kubelet(folders: Folders, node: Node, pki: Pki, *, reserved_memory: int) -> str:
    """`reserved_memory`: bytes of the machine that belong to the other nodes.

    KubeletInUserNamespace lets kubelet go on where the kernel refuses it a setting; no node port,
    host port or iptables chain of its own is wanted.
    """
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node.address,
            "healthzBindAddress": node.address,
            "readOnlyPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki.authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki.certificate(f"kubelet-{node.name}")),
            "tlsPrivateKeyFile": str(pki.key(f"kubelet-{node.name}")),
            "containerRuntimeEndpoint": f"unix://{folders.containerd_socket(node.name)}",
            "podLogsDir": str(folders.node_state(node.name) / "pod-logs"),
            "volumePluginDir": str(folders.node_state(node.name) / "volume-plugins"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{folders.cgroup(node.name)}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "systemReserved": {"memory": str(reserved_memory)},
            "featureGates": {"KubeletInUserNamespace": True},
            "makeIPTablesUtilChains": False,
            "clusterDomain": layout.CLUSTER_DOMAIN,
            "clusterDNS": [layout.HOST_ADDRESS],
            "resolvConf": "",
            "maxPods": 200,
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "kubeAPIQPS": 200,
            "kubeAPIBurst": 400,
            # Images are loaded from files and can't be pulled again: never collect them.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
            "nodeLeaseDurationSeconds": NODE_LEASE_SECONDS,
            "nodeStatusReportFrequency": "1m0s",
            "shutdownGracePeriod": "0s",
        }
    )


def kube_proxy(folders: Folders) -> str:
    """Services through nftables; node ports on the bridge only."""
    return _json(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig(folders, "kube-proxy"))},
            "mode": "nftables",
            "clusterCIDR": layout.POD_RANGE,
            "hostnameOverride": layout.NODES[0].name,
            "nodePortAddresses": [f"{layout.HOST_ADDRESS}/32"],
            "bindAddress": layout.HOST_ADDRESS,
            "healthzBindAddress": f"{layout.LOOPBACK}:10256",
            "metricsBindAddress": f"{layout.LOOPBACK}:10249",
            "conntrack": {
                "maxPerCore": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            "nftables": {"syncPeriod": "30s", "minSyncPeriod": "200ms"},
        }
    )


def corefile(folders: Folders) -> str:
    """Names of the cluster only; every other name is answered at once as unknown."""
    return f"""{layout.CLUSTER_DOMAIN}:53 in-addr.arpa:53 {{
  bind {layout.HOST_ADDRESS}
  errors
  health {layout.LOOPBACK}:{layout.COREDNS_HEALTH_PORT}
  kubernetes {layout.CLUSTER_DOMAIN} in-addr.arpa {{
    kubeconfig {kubeconfig(folders, "coredns")}
    pods insecure
    ttl 5
  }}
}}
.:53 {{
  bind {layout.HOST_ADDRESS}
  errors
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def kubeconfig(folders: Folders, user: str) -> Path:
    """The kubeconfig of one of the cluster's own users."""
    return folders.config / f"{user}.kubeconfig"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"
