"""Starting the embedded cluster: configuration written, components started in order, waited for."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import (
    binaries,
    cgroups,
    components,
    configuration,
    health,
    images,
    kernel,
    layout,
    network,
    nodes,
    processes,
)
from cluster.components import Component
from cluster.errors import ClusterError
from cluster.folders import Folders
from cluster.layout import Node
from cluster.pki import Pki
from cluster.steps import step

PATIENCE = 60.0
#: A process that was just started has no arguments in /proc for a moment.
UNSEEN = 1.0


@dataclass(frozen=True)
class Bringup:
    """The steps from nothing to a healthy cluster."""

    folders: Folders

    @property
    def pki(self) -> Pki:
        """Keys and certificates of this cluster."""
        return Pki(self.folders.pki)

    @property
    def api(self) -> health.Api:
        """The API server, asked as the administrator."""
        return health.Api(self.pki)

    def prepare(self) -> None:
        """Write everything that the components read, and make what the machine must have."""
        with step("writing keys, certificates and configuration"):
            for folder in (self.folders.state, self.folders.run):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o700)
            self.pki.make(components.identities())
            files = self._files()
            for identity in components.identities():
                path = configuration.kubeconfig(self.folders, identity.name)
                files[path] = self.pki.kubeconfig(identity.name, layout.APISERVER)
            for path, text in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            self.folders.kubeconfig.touch(mode=0o600)
            admin = configuration.kubeconfig(self.folders, "admin")
            self.folders.kubeconfig.write_text(admin.read_text())
            (self.folders.state / "definition").write_text(self.definition())

    def start(self, *, empty: bool) -> None:
        """Start every component that does not run, and wait until all is well.

        `empty`: the store is new, so that containers of an earlier cluster are nobody's.
        """
        folders = self.folders
        kernel.prepare(folders)
        network.set_up()
        etcd, apiserver, *others = components.control_plane(folders, self.pki)
        with step("starting etcd, containerd and the API server"):
            self.run(etcd)
            for node in layout.NODES:
                self.run(components.containerd(folders, node))
            self.wait_for(etcd)
            self.run(apiserver)
            for node in layout.NODES:
                self.wait_for(components.containerd(folders, node))
                if empty:
                    self._forget_containers(node)
                nodes.load(folders, node, images.pause().archive(folders))
            self.wait_for(apiserver)
        with step("starting controllers, scheduler, proxy, DNS and kubelets"):
            for component in others:
                self.run(component)
            for node in layout.NODES:
                self.start_kubelet(node)
            self.grant_dns()
            for component in others:
                self.wait_for(component)
            self.wait_for_nodes(list(layout.NODES))
            self.wait_for_default_account()

    def start_node(self, node: Node) -> None:
        """Start a stopped node and wait until it is Ready."""
        containerd = components.containerd(self.folders, node)
        self.run(containerd)
        self.wait_for(containerd)
        self.start_kubelet(node)
        self.wait_for_nodes([node])

    def start_kubelet(self, node: Node) -> None:
        """Start the node's kubelet on a cgroup tree of its own, unless it runs."""
        kubelet = components.kubelet(self.folders, node)
        if processes.find(kubelet) is None:
            cgroups.make(self.folders.cgroup(node.name))
            self.run(kubelet)

    def run(self, component: Component) -> None:
        """Start the component, unless it runs."""
        if processes.find(component) is None:
            if component.socket is not None:
                component.socket.parent.mkdir(parents=True, exist_ok=True)
            processes.start(self.folders, component)

    def wait_for(self, component: Component) -> None:
        """Wait until the component is healthy; raises ClusterError with the end of its log."""
        last_seen = time.monotonic()

        def well() -> bool:
            nonlocal last_seen
            if processes.find(component) is not None:
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > UNSEEN:
                raise ClusterError(self._complaint(component, "ended"))
            return health.is_healthy(component, self.pki)

        def complaint() -> str:
            return self._complaint(component, f"is not healthy after {PATIENCE:.0f} s")

        health.wait_until(well, within=PATIENCE, otherwise=complaint)

    def wait_for_nodes(self, wanted: list[Node]) -> None:
        """Wait until all of `wanted` are Ready, and their kubelets serve.

        A kubelet that ends, since containerd takes a while to serve it, is started again. A node
        that was lost a moment ago is called Ready still.
        """
        names = {node.name for node in wanted}
        kubelets = [components.kubelet(self.folders, node) for node in wanted]

        def well() -> bool:
            for node in wanted:
                self.start_kubelet(node)
            if not all(health.is_healthy(kubelet, self.pki) for kubelet in kubelets):
                return False
            ready = self.api.ready_nodes()
            return all(ready.get(name) for name in names)

        def complaint() -> str:
            return f"{', '.join(sorted(names))} not Ready; see the kubelet logs in {self._logs}"

        health.wait_until(well, within=PATIENCE, otherwise=complaint)

    def wait_for_default_account(self) -> None:
        """Pods can be made only when the namespace's service account is there."""

        def well() -> bool:
            try:
                self.api.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
            except health.ApiError:
                return False
            return True

        health.wait_until(well, within=PATIENCE, otherwise=lambda: "no default service account")

    def grant_dns(self) -> None:
        """Let CoreDNS read what it answers from."""
        rights = {
            "": ["endpoints", "services", "pods", "namespaces"],
            "discovery.k8s.io": ["endpointslices"],
        }
        role = "shoal:coredns"
        group = "rbac.authorization.k8s.io"
        verbs = ["list", "watch", "get"]
        rules = [
            {"apiGroups": [api], "resources": names, "verbs": verbs}
            for api, names in rights.items()
        ]
        self._apply_rbac("clusterroles", {"rules": rules}, role)
        binding: dict[str, Any] = {
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": group, "kind": "User", "name": role}],
        }
        self._apply_rbac("clusterrolebindings", binding, role)

    def definition(self) -> str:
        """Changes when the running cluster is not what this version of the tool would start."""
        digest = hashlib.sha256(network.firewall().encode())
        for component in components.everything(self.folders, self.pki):
            digest.update("\0".join(component.command).encode())
        for path, text in sorted(self._files().items()):
            digest.update(f"{path}\0{text}\0".encode())
        for binary in binaries.control_plane():
            digest.update(binaries.fingerprint(binary).encode())
        return digest.hexdigest()

    def definition_of_running(self) -> str:
        """What `definition` was when the cluster on disk was prepared."""
        file = self.folders.state / "definition"
        return file.read_text() if file.is_file() else ""

    def _files(self) -> dict[Path, str]:
        folders, config = self.folders, self.folders.config
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        of_others = memory * (len(layout.NODES) - 1) // len(layout.NODES)
        files = {
            config / "kube-proxy.json": configuration.kube_proxy(folders),
            config / "Corefile": configuration.corefile(folders),
        }
        for node in layout.NODES:
            name = node.name
            kind = configuration.snapshotter(folders.node_content(name))
            files[config / f"containerd-{name}.toml"] = configuration.containerd(
                folders, node, snapshotter=kind
            )
            files[config / f"kubelet-{name}.json"] = configuration.kubelet(
                folders, node, self.pki, reserved_memory=of_others
            )
            network_file = configuration.cni_folder(folders, node) / "10-bridge.conflist"
            files[network_file] = configuration.cni(folders, node)
        return files

    def _forget_containers(self, node: Node) -> None:
        """Forget the containers of an earlier cluster, of which no process is left."""
        containerd = components.containerd(self.folders, node)
        if nodes.has_containers(self.folders, node):
            nodes.forget_containers(self.folders, node)
            processes.stop(containerd)
            content = self.folders.node_content(node.name) / "io.containerd.grpc.v1.cri"
            shutil.rmtree(content, ignore_errors=True)
            self.run(containerd)
            self.wait_for(containerd)

    def _apply_rbac(self, collection: str, content: dict[str, Any], name: str) -> None:
        kind = {"clusterroles": "ClusterRole", "clusterrolebindings": "ClusterRoleBinding"}
        resource = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind[collection],
            "metadata": {"name": name},
            **content,
        }
        self.api.apply(f"/apis/rbac.authorization.k8s.io/v1/{collection}", resource)

    @property
    def _logs(self) -> Path:
        return self.folders.logs

    def _complaint(self, component: Component, what: str) -> str:
        log = processes.log_file(self.folders, component)
        tail = log.read_text(errors="replace").splitlines()[-10:] if log.exists() else []
        return f"{component.name} {what}; the end of {log}:\n" + "\n".join(tail)
