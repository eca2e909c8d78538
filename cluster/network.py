"""Bridges, routes and firewall of the embedded cluster; nothing of them leads off the machine.

The Pod range lives on one bridge. The Service range is routed to a bridge without members: what
kube-proxy does not translate ends there. One nftables table drops what would enter or leave.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from pathlib import Path

from cluster import commands, layout
from cluster.errors import ClusterError, CommandFailed

KUBE_PROXY_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))
#: Begins the name of each table that cuts an address off.
CUT_PREFIX = "shoal-cut-"


def set_up() -> None:
    """Make what is missing; safe to repeat."""
    check_ranges_are_free(json.loads(commands.output(["ip", "-json", "-4", "route", "show"])))
    _bridge(layout.BRIDGE, layout.BRIDGE_HARDWARE_ADDRESS)
    for node in layout.NODES:
        # The first address is the range's; the others must not bring the range's route again.
        prefix = layout.PREFIX if node.address == layout.HOST_ADDRESS else 32
        commands.run(["ip", "addr", "replace", f"{node.address}/{prefix}", "dev", layout.BRIDGE])
    _bridge(layout.SERVICE_BRIDGE, layout.SERVICE_BRIDGE_HARDWARE_ADDRESS)
    commands.run(
        [
            *("ip", "route", "replace", layout.SERVICE_RANGE, "dev", layout.SERVICE_BRIDGE),
            *("src", layout.HOST_ADDRESS),
        ]
    )
    # Only what comes from Pods is forwarded: the machine does not become a router otherwise.
    Path(f"/proc/sys/net/ipv4/conf/{layout.BRIDGE}/forwarding").write_text("1\n")
    commands.run(["nft", "-f", "-"], given=firewall())


def _bridge(name: str, hardware_address: str) -> None:
    """A bridge that is given no address takes on its members', another whenever they change."""
    if name not in links():
        commands.run(["ip", "link", "add", name, "address", hardware_address, "type", "bridge"])
    Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1\n")
    commands.run(["ip", "link", "set", name, "up"])


def links() -> list[str]:
    """Names of the network devices."""
    return sorted(name for _, name in socket.if_nameindex())


def check_ranges_are_free(routes: list[dict[str, str]]) -> None:
    """Raises ClusterError where the machine already routes addresses that the cluster uses."""
    ours = [ipaddress.ip_network(layout.POD_RANGE), ipaddress.ip_network(layout.SERVICE_RANGE)]
    for route in routes:
        device = route.get("dev", "?")
        if route["dst"] == "default" or device in (layout.BRIDGE, layout.SERVICE_BRIDGE):
            continue
        theirs = ipaddress.ip_network(route["dst"], strict=False)
        for network in ours:
            if network.overlaps(theirs):
                raise ClusterError(
                    f"the cluster needs {network}, but this machine routes {theirs} to {device}; "
                    "remove that route, or name another cluster with SHOAL_KUBECONFIG"
                )


def firewall() -> str:
    """The table, replaced as a whole.

    Packets for the cluster's addresses are taken only from the machine itself and from Pods, and
    before kube-proxy's translation; Pods' packets go only to Pods and Services, and a Pod
    that tries more is told so at once.
    """
    ranges = f"{{ {layout.POD_RANGE}, {layout.SERVICE_RANGE} }}"
    inside = f'{{ "lo", "{layout.BRIDGE}", "{layout.SERVICE_BRIDGE}" }}'
    table = f"inet {layout.FIREWALL_TABLE}"
    return f"""
table {table} {{}}
delete table {table}
table {table} {{
  chain enter {{
    type filter hook prerouting priority raw; policy accept;
    iifname != {inside} ip daddr {ranges} drop
  }}
  chain leave {{
    type filter hook forward priority filter; policy accept;
    iifname "{layout.BRIDGE}" oifname != {inside} reject with icmpx admin-prohibited
    ip saddr {ranges} oifname != {inside} drop
  }}
  chain send {{
    type filter hook output priority filter; policy accept;
    ip daddr {ranges} oifname != {inside} drop
  }}
}}
"""


def cut(address: str, port: int | None, *, refuse: bool) -> None:
    """Let nothing through to `address`, in a table of its own; without a port nothing from it."""
    to = f"ip daddr {address}" + (f" tcp dport {port}" if port else "")
    verdict = "reject with tcp reset" if refuse else "drop"
    tcp = "" if port or not refuse else "meta l4proto tcp "
    rules = [f"{to} {tcp}{verdict}"]
    if port is None:
        rules.append(f"ip saddr {address} {tcp}{verdict}")
    chains = "".join(
        # after the translation of Services' addresses
        f"  chain {hook} {{ type filter hook {hook} priority -10; policy accept; {rule}; }}\n"
        for hook, rule in ((hook, "; ".join(rules)) for hook in ("input", "forward", "output"))
    )
    table = f"inet {_cut_table(address, port)}"
    whole = f"table {table} {{}}\ndelete table {table}\ntable {table} {{\n{chains}}}\n"
    commands.run(["nft", "-f", "-"], given=whole)


def mend(address: str | None, port: int | None) -> None:
    """Undo one cut, or all of them; safe to repeat."""
    for name in _cuts():
        if address is None or name == _cut_table(address, port):
            commands.run(["nft", "delete", "table", "inet", name])


def _cut_table(address: str, port: int | None) -> str:
    return f"{CUT_PREFIX}{address.replace('.', '-')}-{port or 'all'}"


def _cuts() -> list[str]:
    tables = commands.output(["nft", "list", "tables"]).split()
    return [word for word in tables if word.startswith(CUT_PREFIX)]


def take_down() -> None:
    """Remove what `set_up`, kube-proxy and the CNI plugins made; safe to repeat."""
    for name in (layout.BRIDGE, layout.SERVICE_BRIDGE):
        if name in links():
            commands.run(["ip", "link", "delete", name])
    for family, table in (("inet", layout.FIREWALL_TABLE), *KUBE_PROXY_TABLES):
        try:
            commands.run(["nft", "delete", "table", family, table])
        except CommandFailed as error:
            if "No such file" not in error.output:
                raise
    mend(None, None)


def remains() -> list[str]:
    """Devices and tables that are still there."""
    found = [name for name in links() if name in (layout.BRIDGE, layout.SERVICE_BRIDGE)]
    ruleset = commands.output(["nft", "list", "tables"]).splitlines()
    tables = [("inet", layout.FIREWALL_TABLE), *KUBE_PROXY_TABLES]
    known = {f"table {family} {name}" for family, name in tables}
    return found + [line for line in ruleset if line.strip() in known] + _cuts()
