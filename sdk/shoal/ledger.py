"""The ledger: what became of every task, as a chain of objects that are created only if absent.

Entry n stands at ``ledger/<n>``. It holds accepted results, the failures that were charged to tasks
that get another attempt, and at last one terminal record, after which nothing follows. Each entry
names its predecessor's digest, so the status of the custom resource, which carries the chain's
length and last digest, vouches for every byte; and each carries a MAC of the operator's, so that a
restarted operator can trust entries that are newer than the status.

A job of days has many small entries. So every `ROLL_UP` entries another one repeats the bytes of
those since the roll-up before: who reads from the start walks from roll-up to roll-up.

The dispatcher writes entries (`shoal.dispatch.chain`), `shoal.ledger_reader` reads them; this
module is their format.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from shoal.errors import LedgerTampered
from shoal.worker import frames
from shoal.worker.records import Record, decode, encode

#: The digest that entry 0 names as its predecessor's.
GENESIS = "0" * 64
#: After so many entries a roll-up follows ...
ROLL_UP = 128
#: ... unless they hold more bytes than this: then reading them one by one costs little more.
ROLL_UP_SIZE = 8 << 20

_MAC_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Charge:
    """A failed attempt of a task that gets another one: charged before it is reissued.

    `kind` is "attempt" (the function's fault) or "disruption" (the Pod's).
    """

    index: int
    kind: str


@dataclass(frozen=True)
class Terminal:
    """How the job ended. `outcome` is complete, failed or cancelled; `reason` as in the conditions.

    `error` is (type, message, traceback) where the function could not even be loaded.
    """

    outcome: str
    reason: str
    message: str
    error: tuple[str, str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of the ledger, decoded.

    Attributes:
        records: outcomes, in groups of which each came in one worker's report.
        pods: (count, Pod, node) of each group.
        logs: how many chunks of the log there were.
        rolled: of a roll-up, the bytes of the entries before it, back to the roll-up before.
        last_roll_up: number of the last roll-up before this entry, -1 where none is known.
        digest: of the entry's own bytes, once it was read.
    """

    n: int
    prev: str
    records: Sequence[Record] = ()
    pods: Sequence[tuple[int, str, str]] = ()
    charges: Sequence[Charge] = ()
    terminal: Terminal | None = None
    logs: int = 0
    rolled: Sequence[bytes] = ()
    last_roll_up: int = -1
    digest: str = field(default="", compare=False)

    def pod_of(self, position: int) -> tuple[str, str]:
        """Return (Pod, node) that the record at `position` came from; empty if not known."""
        for count, pod, node in self.pods:
            if position < count:
                return pod, node
            position -= count
        return "", ""

    def behind(self, count: int) -> Entry:
        """Return the entry without its first `count` records."""
        pods, skip = [], count
        for size, pod, node in self.pods:
            left = max(size - skip, 0)
            skip -= size - left
            pods.append((left, pod, node))
        return replace(self, records=self.records[count:], pods=pods)


def key(prefix: str, n: int) -> str:
    """Return entry n's key under a job's prefix."""
    return f"{prefix}/ledger/{n:08d}"


def seal(entry: Entry, context: str, secret: bytes) -> bytes:
    """Return the entry's bytes, its MAC at their end.

    `context` says whose ledger it is (cluster and the custom resource's uid); the MAC covers it,
    so that an entry cannot be moved to another job.
    """
    columns, data = encode(entry.records)
    header: dict[str, Any] = {"v": 1, "n": entry.n, "prev": entry.prev, "results": columns}
    if entry.pods:
        header["pods"] = [list(pod) for pod in entry.pods]
    if entry.charges:
        header["charges"] = [[charge.index, charge.kind] for charge in entry.charges]
    if entry.last_roll_up >= 0:
        header["rollUp"] = entry.last_roll_up
    if entry.logs:
        header["logs"] = entry.logs
    if entry.terminal:
        end = entry.terminal
        header["terminal"] = [end.outcome, end.reason, end.message, end.error]
    body = frames.pack(header, [data, *entry.rolled])
    return body + _mac(body, context, secret)


def is_authentic(raw: bytes, context: str, secret: bytes) -> bool:
    """Tell whether the entry's MAC was made with `secret` for `context`."""
    body, mac = raw[:-_MAC_SIZE], raw[-_MAC_SIZE:]
    return hmac.compare_digest(mac, _mac(body, context, secret))


def _mac(body: bytes, context: str, secret: bytes) -> bytes:
    message = hashlib.sha256(context.encode() + b"\0" + body).digest()
    return hmac.digest(secret, message, "sha256")


def digest_of(raw: bytes) -> str:
    """Return the digest that the next entry and the status name, hexadecimal sha256."""
    return hashlib.sha256(raw).hexdigest()


def open_entry(raw: bytes) -> Entry:
    """Decode an entry's bytes. Whether they can be trusted is for the caller to have checked.

    Raises:
        LedgerTampered: the bytes are no entry.
    """
    try:
        header, blobs = frames.unpack(memoryview(raw)[:-_MAC_SIZE])
        end = header.get("terminal")
        return Entry(
            n=int(header["n"]),
            prev=str(header["prev"]),
            records=list(decode(header["results"], blobs[0])),
            pods=[(int(count), pod, node) for count, pod, node in header.get("pods", ())],
            charges=[Charge(int(index), kind) for index, kind in header.get("charges", ())],
            logs=int(header.get("logs", 0)),
            rolled=tuple(bytes(blob) for blob in blobs[1:]),
            last_roll_up=int(header.get("rollUp", -1)),
            terminal=Terminal(end[0], end[1], end[2], tuple(end[3]) if end[3] else None)
            if end
            else None,
            digest=digest_of(raw),
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LedgerTampered(f"an entry of the ledger cannot be read: {error}") from error


class Links(NamedTuple):
    """What ties an entry to those before it."""

    n: int
    prev: str
    rolled: list[bytes]
    last_roll_up: int


def links(raw: bytes) -> Links:
    """Return what ties an entry to those before it, without decoding its results.

    Raises:
        LedgerTampered: the bytes are no entry.
    """
    try:
        header, blobs = frames.unpack(memoryview(raw)[:-_MAC_SIZE])
        rolled = [bytes(blob) for blob in blobs[1:]]
        return Links(int(header["n"]), str(header["prev"]), rolled, int(header.get("rollUp", -1)))
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerTampered(f"an entry of the ledger cannot be read: {error}") from error
