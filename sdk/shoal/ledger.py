"""The ledger: what became of every task, as a chain of objects that are created only if absent.

Entry n stands at ``ledger/<n>``. It holds accepted results, the failures that were charged to tasks
that get another attempt, and at last one terminal record, after which nothing follows. Each entry
names its predecessor's digest, so the status of the custom resource, which carries the chain's
length and last digest, vouches for every byte; and each carries a MAC of the operator's, so that a
restarted operator can trust entries that are newer than the status.

The dispatcher writes entries (`shoal.dispatch.chain`); this module is their format, and the reader
that the SDK follows a job with.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shoal.errors import LedgerTampered
from shoal.worker import frames
from shoal.worker.records import Record, decode, encode

#: The digest that entry 0 names as its predecessor's.
GENESIS = "0" * 64
#: How many entries a reader fetches at the same time.
READ_AHEAD = 8
#: How many bytes of verified entries a reader holds before their turn.
HELD_SIZE = 64 << 20

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
    """One entry of the ledger, decoded. Results come in groups, one for each worker's report."""

    n: int
    prev: str
    records: Sequence[Record] = ()
    pods: Sequence[tuple[int, str, str]] = ()
    charges: Sequence[Charge] = ()
    terminal: Terminal | None = None
    logs: int = 0
    digest: str = field(default="", compare=False)

    def pod_of(self, position: int) -> tuple[str, str]:
        """Return (Pod, node) that the record at `position` came from; empty if not known."""
        for count, pod, node in self.pods:
            if position < count:
                return pod, node
            position -= count
        return "", ""


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
    if entry.logs:
        header["logs"] = entry.logs
    if entry.terminal:
        end = entry.terminal
        header["terminal"] = [end.outcome, end.reason, end.message, end.error]
    body = frames.pack(header, [data])
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
            terminal=Terminal(end[0], end[1], end[2], tuple(end[3]) if end[3] else None)
            if end
            else None,
            digest=digest_of(raw),
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LedgerTampered(f"an entry of the ledger cannot be read: {error}") from error


class LedgerReader:
    """Reads the entries that a status vouches for, as it grows.

    Keeps the position up to which it has read, so that each call reads only what is new, and gives
    entries out only after their chain ended in the digest that the status names.
    """

    def __init__(self, get: Callable[[str], Awaitable[bytes]], prefix: str) -> None:
        """`get` fetches an object by key; `prefix` is the job's part of the bucket."""
        self._get = get
        self._prefix = prefix
        self.length = 0
        self.digest = GENESIS

    async def read(self, length: int, digest: str) -> AsyncIterator[Entry]:
        """Yield the entries from the last position up to `length`, whose last digest is `digest`.

        Raises:
            LedgerTampered: an entry is missing, changed, or does not follow its predecessor.
        """
        if length < self.length:
            raise LedgerTampered(
                f"{self._prefix}: the ledger shrank from {self.length} to {length} entries"
            )
        known = await self._verify(length, digest)
        for n in range(self.length, length):
            expected, raw = known[n - length]
            if raw is None:
                raw = await self._get(key(self._prefix, n))
                if digest_of(raw) != expected:
                    raise LedgerTampered(f"{key(self._prefix, n)} changed while it was read")
            yield open_entry(raw)
            self.length, self.digest = n + 1, expected

    async def _verify(self, length: int, digest: str) -> list[tuple[str, bytes | None]]:
        """Return digest and bytes of each new entry after checking that they form a chain.

        Bytes beyond `HELD_SIZE` are let go, and fetched again when their turn comes: what a reader
        holds does not grow with the job.
        """
        known: list[tuple[str, bytes | None]] = []
        previous, held = self.digest, 0
        for start in range(self.length, length, READ_AHEAD):
            stop = min(start + READ_AHEAD, length)
            keys = [key(self._prefix, n) for n in range(start, stop)]
            for n, raw in enumerate(await asyncio.gather(*map(self._get, keys)), start):
                entry = open_entry(raw)
                if entry.n != n or entry.prev != previous:
                    raise LedgerTampered(f"{key(self._prefix, n)} does not follow entry {n - 1}")
                previous = entry.digest
                held += len(raw)
                known.append((previous, raw if held <= HELD_SIZE else None))
        if previous != digest:
            raise LedgerTampered(
                f"{self._prefix}: the status says that entry {length - 1} has the digest {digest}, "
                f"the bucket's has {previous}"
            )
        return known
