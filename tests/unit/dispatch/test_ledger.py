"""The ledger's entries and their chain."""

import dataclasses

import pytest

from shoal import ledger
from shoal.errors import LedgerTampered
from shoal.ledger import Charge, Entry, LedgerReader, Terminal
from shoal.worker.records import Record, Ref

SECRET = b"s" * 32


def entry(n: int, prev: str, **more: object) -> Entry:
    records = [
        Record(2 * n, 1, "SUCCEEDED", "pickle", b"two"),
        Record(2 * n + 1, 3, "SUCCEEDED", "pickle", b"", Ref("k", "d", 7)),
    ]
    return Entry(n=n, prev=prev, records=records, pods=[(1, "a", "n1"), (1, "b", "n2")], **more)  # type: ignore[arg-type]


def chain(length: int) -> tuple[dict[str, bytes], str]:
    objects, digest = {}, ledger.GENESIS
    for n in range(length):
        raw = ledger.seal(entry(n, digest), "me", SECRET)
        objects[ledger.key("p", n)] = raw
        digest = ledger.digest_of(raw)
    return objects, digest


def reader(objects: dict[str, bytes]) -> LedgerReader:
    async def get(key: str) -> bytes:
        return objects[key]

    return LedgerReader(get, "p")


def test_an_entry_comes_back_as_it_went() -> None:
    made = entry(
        4,
        "ab",
        charges=[Charge(7, "attempt")],
        terminal=Terminal("failed", "TaskFailed", "1 of 2", ("E", "m", "t")),
        logs=3,
    )
    read = ledger.open_entry(ledger.seal(made, "me", SECRET))
    assert [record._replace(data=bytes(record.data)) for record in read.records] == made.records
    assert dataclasses.replace(read, records=made.records, digest="") == made
    assert [read.pod_of(n) for n in range(3)] == [("a", "n1"), ("b", "n2"), ("", "")]


def test_the_mac_tells_whose_entry_it_is() -> None:
    raw = ledger.seal(entry(0, ledger.GENESIS), "me", SECRET)
    assert ledger.is_authentic(raw, "me", SECRET)
    assert not ledger.is_authentic(raw, "another job", SECRET)
    assert not ledger.is_authentic(raw, "me", b"another key")
    changed = raw.replace(b"SUCCEEDED", b"SUCCEEDEd")
    assert not ledger.is_authentic(changed, "me", SECRET)


async def test_a_reader_follows_as_the_ledger_grows() -> None:
    objects, digest = chain(20)
    following = reader(objects)
    first = ledger.digest_of(objects[ledger.key("p", 4)])
    assert [one.n async for one in following.read(5, first)] == list(range(5))
    assert [one.n async for one in following.read(20, digest)] == list(range(5, 20))
    assert [one.n async for one in following.read(20, digest)] == []


async def test_entries_too_many_to_hold_are_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "HELD_SIZE", 500)
    objects, digest = chain(30)
    assert [one.n async for one in reader(objects).read(30, digest)] == list(range(30))


@pytest.mark.parametrize("attack", ["changed", "swapped", "shortened", "not an entry"])
async def test_nothing_is_read_from_a_ledger_that_was_tampered_with(attack: str) -> None:
    objects, digest = chain(6)
    keys = sorted(objects)
    if attack == "changed":
        objects[keys[2]] = objects[keys[2]].replace(b"two", b"TWO", 1)
    elif attack == "swapped":
        objects[keys[2]], objects[keys[3]] = objects[keys[3]], objects[keys[2]]
    elif attack == "shortened":
        objects[keys[5]] = objects[keys[4]]
    else:
        objects[keys[0]] = b"nonsense"
    got = []
    with pytest.raises(LedgerTampered):
        async for one in reader(objects).read(6, digest):
            got.append(one)
    assert got == []


async def test_a_ledger_never_shrinks() -> None:
    objects, digest = chain(3)
    following = reader(objects)
    assert len([one async for one in following.read(3, digest)]) == 3
    with pytest.raises(LedgerTampered, match="shrank from 3 to 2"):
        _ = [one async for one in following.read(2, digest)]
