"""The ledger's entries and their chain."""

import dataclasses

import pytest

from shoal import ledger, ledger_reader
from shoal.errors import LedgerTampered
from shoal.ledger import Charge, Entry, Terminal
from shoal.ledger_reader import LedgerReader
from shoal.worker.records import Record, Ref

SECRET = b"s" * 32


def entry(n: int, prev: str, **more: object) -> Entry:
    records = [
        Record(2 * n, 1, "SUCCEEDED", "pickle", b"two"),
        Record(2 * n + 1, 3, "SUCCEEDED", "pickle", b"", Ref("k", "d", 7)),
    ]
    return Entry(n=n, prev=prev, records=records, pods=[(1, "a", "n1"), (1, "b", "n2")], **more)  # type: ignore[arg-type]


def chain(length: int, roll_up: int = 0) -> tuple[dict[str, bytes], str]:
    objects, digest = {}, ledger.GENESIS
    since: list[bytes] = []
    last = -1
    for n in range(length):
        if roll_up and len(since) == roll_up:
            raw = ledger.seal(
                Entry(n=n, prev=digest, rolled=since, last_roll_up=last), "me", SECRET
            )
            since, last = [], n
        else:
            raw = ledger.seal(entry(n, digest, last_roll_up=last), "me", SECRET)
            since.append(raw)
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
    monkeypatch.setattr(ledger_reader, "HELD_SIZE", 500)
    objects, digest = chain(30)
    assert [one.n async for one in reader(objects).read(30, digest)] == list(range(30))


@pytest.mark.parametrize("start", [0, 1, 10, 11, 12, 25, 99, 100])
@pytest.mark.parametrize("held", [1 << 20, 0])
async def test_roll_ups_spare_most_of_the_way(
    start: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_reader, "HELD_SIZE", held)
    objects, digest = chain(100, roll_up=10)
    asked: list[str] = []

    async def get(key: str) -> bytes:
        asked.append(key)
        return objects[key]

    following = LedgerReader(get, "p")
    if start:
        middle = ledger.digest_of(objects[ledger.key("p", start - 1)])
        assert [one.n async for one in following.read(start, middle)] == list(range(start))
    asked.clear()
    assert [one.n async for one in following.read(100, digest)] == list(range(start, 100))
    if not start and held:
        assert len(set(asked)) < 25


async def test_a_roll_up_that_repeats_other_bytes_is_not_believed() -> None:
    objects, _ = chain(10)
    digest = ledger.digest_of(objects[ledger.key("p", 9)])
    lies = [raw.replace(b"two", b"TWO") for _, raw in sorted(objects.items())]
    raw = ledger.seal(Entry(n=10, prev=digest, rolled=lies), "me", SECRET)
    objects[ledger.key("p", 10)] = raw
    with pytest.raises(LedgerTampered, match="rolls up other bytes"):
        _ = [one async for one in reader(objects).read(11, ledger.digest_of(raw))]


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
