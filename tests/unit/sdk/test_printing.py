"""Output of many tasks at once is whole lines, each with its task, however it was cut."""

from __future__ import annotations

import random

from shoal.machinery import Output
from shoal.printing import LONGEST_LINE, Printer


def shown(*pieces: tuple[int, int, str, bytes], prefixed: bool = True) -> str:
    text: list[str] = []
    printer = Printer(prefixed=prefixed, write=text.append)
    for piece in pieces:
        printer.show([Output(*piece)])
    printer.close()
    return "".join(text)


def test_lines_of_several_tasks_and_attempts_do_not_mix() -> None:
    assert shown(
        (0, 1, "a", b"first "),
        (1, 1, "b", b"other\nand "),
        (0, 1, "a", b"line\n"),
        (0, 2, "b", b"again\n"),
        (1, 1, "b", b"more"),
    ) == ("[task 1] other\n[task 0] first line\n[task 0, attempt 2] again\n[task 1] and more\n")


def test_two_pods_with_the_same_attempt_do_not_mix() -> None:
    """A copy of a slow task, or one that began again elsewhere when its Pod was taken away."""
    assert shown(
        (3, 1, "a", b"one, "),
        (3, 1, "b", b"\xc3"),
        (3, 1, "a", b"two\n"),
        (3, 1, "b", b"\xa4\n"),
    ) == ("[task 3] one, two\n[task 3] ä\n")


def test_lines_cut_anywhere_are_the_same_lines() -> None:
    rng = random.Random(7)
    lines = {task: [f"{task}: {'äß€🙂'[n % 4] * n}" for n in range(20)] for task in range(5)}
    left = {task: "".join(line + "\n" for line in lines[task]).encode() for task in lines}
    pieces = []
    while left:
        task = rng.choice(list(left))
        size = rng.randint(1, 9)
        pieces.append((task, 1, "pod", left[task][:size]))
        left[task] = left[task][size:]
        if not left[task]:
            del left[task]
    found = shown(*pieces).splitlines()
    for task, wanted in lines.items():
        prefix = f"[task {task}] "
        assert [x.removeprefix(prefix) for x in found if x.startswith(prefix)] == wanted


def test_nothing_is_kept_of_tasks_whose_lines_have_ended() -> None:
    printer = Printer(prefixed=True, write=lambda _: None)
    for task in range(1000):
        printer.show([Output(task, 1, "pod", "ä\n".encode())])
    assert (printer._lines, printer._decoders) == ({}, {})


def test_a_line_without_an_end_is_written_in_parts() -> None:
    found = shown(*[(0, 1, "pod", b"." * 1000)] * 200).splitlines()
    assert len(found) == 4
    assert sum(len(line.removeprefix("[task 0] ")) for line in found) == 200_000
    assert max(map(len, found)) < LONGEST_LINE + 1100


def test_a_single_calls_output_is_shown_as_it_is() -> None:
    assert shown((0, 1, "a", b"10 %\r"), (0, 1, "a", b"20 %"), prefixed=False) == "10 %\r20 %"
