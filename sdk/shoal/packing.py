"""Turns a call into the objects that a worker reads: `inputs/job`, for large maps `inputs/items`.

Each item is pickled by itself, as Meadowrun does, so that two tasks never share an object; they are
laid into blocks of about 1 MiB, each with its own sha256, so that a worker reads whole blocks and
unpickles nothing unverified. The digest of `inputs/job`, which names every block's digest, stands
in the custom resource.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import cloudpickle

from shoal.errors import ConfigurationError, Unpicklable
from shoal.worker import blocks, frames
from shoal.worker.portable import Pickler as PortablePickler

#: Pickles travel between Python versions that are equal in major and minor, 3.9 at the least.
PROTOCOL = 5
#: A block of items is closed once it is this large, in bytes.
BLOCK_SIZE = 1 << 20
#: Items stay in memory, in bytes, before they go to a temporary file.
SPOOL_SIZE = 64 << 20

Function = Callable[..., Any] | str


@dataclass(frozen=True, kw_only=True)
class PackedInputs:
    """What is to be uploaded for one call.

    Attributes:
        job: the bytes of `inputs/job`.
        sha256: their digest, hexadecimal; it stands in the custom resource.
        count: the number of tasks.
        items: the bytes of `inputs/items` from its start, or None where they stand in `job`.
        items_size: the length of `items` in bytes.
        python: the client's minor version, for example "3.11".
    """

    job: bytes
    sha256: str
    count: int
    items: IO[bytes] | None
    items_size: int
    python: str


def python_version() -> str:
    """Return this interpreter's major and minor version, for example "3.11"."""
    return ".".join(platform.python_version_tuple()[:2])


def check_reader(function: object, theirs: str, whose: str) -> None:
    """Refuse a callable for a Python that can't read this one's pickles.

    `theirs` is that one's minor version, `whose` says where it stands.
    """
    ours = python_version()
    if callable(function) and theirs != ours:
        raise ConfigurationError(
            f"{whose} is {theirs}, this is Python {ours}: a function that is handed over as an "
            f"object can't be read there. Take {ours!r}, or name the function as 'module.function'"
        )


def pack_function(
    function: Function,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    portable: bool = False,
) -> PackedInputs:
    """Pack one call of `function(*args, **kwargs)`.

    `portable` means that another version of Python reads the arguments.

    Raises:
        Unpicklable: the function or an argument cannot be pickled; the message says which.
    """
    pickler = _Pickler(portable=portable)
    try:
        call = pickler.dumps((tuple(args), dict(kwargs or {})))
    except Exception as error:
        raise _refusal(_culprit(pickler, args, kwargs or {}), error) from error
    return _pack("function", function, iter([call]))


def pack_map(function: Function, items: Iterable[Any], *, portable: bool = False) -> PackedInputs:
    """Pack `function` and `items`, each of which becomes one task.

    `portable` means that another version of Python reads the items.

    Raises:
        Unpicklable: the function or an item cannot be pickled; the message names the item.
    """
    return _pack("map", function, _pickled(items, portable))


def pack_command(argv: Sequence[str], context: Mapping[str, Any] | None = None) -> PackedInputs:
    """Pack a command and, where given, the variables that it finds in its context file.

    Raises:
        Unpicklable: a context variable cannot be pickled.
    """
    header: dict[str, Any] = {"kind": "command", "argv": list(argv)}
    blobs: list[bytes] = []
    if context is not None:
        header["context"] = 0
        try:
            blobs.append(pickle.dumps(dict(context), PROTOCOL))
        except Exception as error:
            raise _refusal("context_variables", error) from error
    return _seal(header, blobs, count=1)


def _pack(kind: str, function: Function, pickles: Iterator[bytes]) -> PackedInputs:
    header: dict[str, Any] = {"kind": kind}
    blobs: list[bytes] = []
    if isinstance(function, str):
        header["function"] = {"name": function}
    else:
        header["function"] = {"blob": 0}
        try:
            blobs.append(cloudpickle.dumps(function, PROTOCOL))
        except Exception as error:
            raise _refusal(f"the function {function!r}", error) from error
    items = tempfile.SpooledTemporaryFile(max_size=SPOOL_SIZE)  # noqa: SIM115 - its reader closes it
    table: list[list[int | str]] = []
    first = offset = 0
    try:
        for block, count in blocks.build(pickles, BLOCK_SIZE):
            items.write(block)
            table.append([first, count, offset, len(block), hashlib.sha256(block).hexdigest()])
            first += count
            offset += len(block)
    except BaseException:
        items.close()
        raise
    items.seek(0)
    header["items"] = {"count": first, "blocks": table, "inline": None}
    if len(table) <= 1:
        header["items"]["inline"] = len(blobs)
        blobs.append(items.read())
        items.close()
        return _seal(header, blobs, count=first)
    return _seal(header, blobs, count=first, items=items, items_size=offset)


def _seal(
    header: dict[str, Any],
    blobs: list[bytes],
    *,
    count: int,
    items: IO[bytes] | None = None,
    items_size: int = 0,
) -> PackedInputs:
    version = python_version()
    job = frames.pack({**header, "python": version, "cloudpickle": cloudpickle.__version__}, blobs)
    return PackedInputs(
        job=job,
        sha256=hashlib.sha256(job).hexdigest(),
        count=count,
        items=items,
        items_size=items_size,
        python=version,
    )


class _Pickler:
    """Pickles many objects one by one at little more than the C pickler's cost."""

    def __init__(self, *, portable: bool) -> None:
        self._buffer = io.BytesIO()
        kind = PortablePickler if portable else cloudpickle.Pickler
        self._pickler = kind(self._buffer, PROTOCOL)

    def dumps(self, value: Any) -> bytes:
        self._buffer.seek(0)
        self._buffer.truncate()
        self._pickler.clear_memo()
        self._pickler.dump(value)
        return self._buffer.getvalue()


def _pickled(items: Iterable[Any], portable: bool) -> Iterator[bytes]:
    pickler = _Pickler(portable=portable)
    for index, item in enumerate(items):
        try:
            yield pickler.dumps(item)
        except Exception as error:
            what = f"item {index} ({type(item).__name__})"
            raise _refusal(what, error, item=index) from error


def _culprit(pickler: _Pickler, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the name of the first argument that cannot be pickled."""
    named = [(f"args[{n}]", value) for n, value in enumerate(args)]
    named += [(f"kwargs[{name!r}]", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            pickler.dumps(value)
        except Exception:
            return f"{name} ({type(value).__name__})"
    return "the arguments"


def _refusal(what: str, error: Exception, item: int | None = None) -> Unpicklable:
    remedy = "pass what it is made from, and make it inside the function"
    return Unpicklable(f"{what} can't be pickled ({type(error).__name__}: {error}); {remedy}", item)
