"""What the components are told: where they listen, and that the two nodes share nothing."""

from __future__ import annotations

import ipaddress
import json
import tomllib
from pathlib import Path

import pytest
from cluster.errors import ClusterError
from cluster.folders import Folders
from cluster.pki import Identity, Pki, extensions

from cluster import components, configuration, layout, network

FOLDERS = Folders(Path("/cache/shoal"))
PKI = Pki(FOLDERS.pki)


def test_every_listener_is_on_the_loopback_or_the_bridge() -> None:
    ours = {layout.LOOPBACK, *(node.address for node in layout.NODES)}
    for component in components.everything(FOLDERS, PKI):
        assert {address for address, _ in component.listens} <= ours
        assert not any("0.0.0.0" in word for word in component.arguments)


def test_no_two_components_have_the_same_mark_or_listener() -> None:
    every = components.everything(FOLDERS, PKI)
    assert len({component.mark for component in every}) == len(every)
    listeners = [listener for component in every for listener in component.listens]
    assert len(set(listeners)) == len(listeners)


def test_a_mark_is_an_argument_that_names_the_cache() -> None:
    for component in components.everything(FOLDERS, PKI):
        assert component.mark in component.arguments
        assert str(FOLDERS.cache) in component.mark


def test_another_cache_has_other_names() -> None:
    other = Folders(Path("/another"))
    assert other.mark != FOLDERS.mark
    assert other.run != FOLDERS.run
    assert other.cgroup("node-1") != FOLDERS.cgroup("node-1")


def test_a_socket_path_is_short_enough_whatever_the_cache_is() -> None:
    deep = Folders(Path("/" + "x" * 200))
    assert len(str(deep.containerd_socket("node-1"))) < 108


def test_each_node_has_its_own_containerd() -> None:
    seen = []
    for node in layout.NODES:
        text = configuration.containerd(FOLDERS, node, snapshotter="overlayfs")
        config = tomllib.loads(text)
        cri = config["plugins"]["io.containerd.grpc.v1.cri"]
        seen += [config["root"], config["state"], config["grpc"]["address"], cri["cni"]["conf_dir"]]
        assert cri["netns_mounts_under_state_dir"] is True
    assert len(set(seen)) == len(seen)


def test_each_node_has_its_own_kubelet() -> None:
    one, two = (
        json.loads(configuration.kubelet(FOLDERS, node, PKI, reserved_memory=1))
        for node in layout.NODES
    )
    for name in ("address", "cgroupRoot", "containerRuntimeEndpoint", "podLogsDir", "tlsCertFile"):
        assert one[name] != two[name]


def test_the_nodes_give_out_different_addresses_of_the_pod_range() -> None:
    taken: set[int] = set()
    for node in layout.NODES:
        address = json.loads(configuration.cni(FOLDERS, node))["plugins"][0]["ipam"]["ranges"][0][0]
        first, last = (ipaddress.ip_address(address[name]) for name in ("rangeStart", "rangeEnd"))
        assert first in ipaddress.ip_network(layout.POD_RANGE)
        addresses = set(range(int(first), int(last) + 1))
        assert not taken & addresses
        taken |= addresses


def test_node_ports_answer_only_on_the_bridge() -> None:
    proxy = json.loads(configuration.kube_proxy(FOLDERS))
    assert proxy["nodePortAddresses"] == ["10.244.0.1/32"]


def test_a_route_that_overlaps_is_refused_with_its_device() -> None:
    with pytest.raises(ClusterError, match=r"10\.244\.0\.0/16.*tun0"):
        network.check_ranges_are_free([{"dst": "10.244.8.0/24", "dev": "tun0"}])


def test_own_routes_and_the_default_are_no_overlap() -> None:
    network.check_ranges_are_free(
        [
            {"dst": "default", "dev": "eth0"},
            {"dst": layout.POD_RANGE, "dev": layout.BRIDGE},
            {"dst": "192.0.2.0/24", "dev": "eth0"},
        ]
    )


def test_a_certificate_names_addresses_and_hosts_as_what_they_are() -> None:
    text = extensions(Identity("server", "/CN=server", ("localhost", "127.0.0.1")))
    assert "subjectAltName=DNS:localhost,IP:127.0.0.1" in text
