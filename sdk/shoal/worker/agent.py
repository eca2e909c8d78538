"""The agent: the worker's first process, between the dispatcher and the child that runs user code.

Four threads: `_poll` asks for claims, `_fetch` gets their inputs, the outbox reports, each on its
own connection, and the main thread moves bytes to and from the child. The agent never unpickles
anything of the user's. What only some jobs need is imported when they need it, since a new Pod's
first task waits for every import here.
"""

from __future__ import annotations

import os
import queue
import selectors
import signal
import sys
import threading
import time
from typing import Any, Callable

from . import PROTOCOL
from .crew import Crew
from .holdings import Holdings
from .inputs import Fatal, JobInputs, Piece
from .note import Note
from .objects import ObjectError, Objects
from .outbox import Outbox
from .processes import hide_environment, reap
from .transport import Refused, Unreachable, line_from_environment
from .zygote import Zygote, start

#: How long a poll waits for work, in seconds; the dispatcher answers sooner.
POLL_SECONDS = 20.0
#: A worker that holds nothing gives up after this long without an answer, in seconds.
GIVE_UP_SECONDS = 300.0
#: A worker that is refused gives up after this long, in seconds.
REFUSED_SECONDS = 60.0
#: A worker that may leave, but for what is not durable yet, asks again after this long, in seconds.
LEAVE_SECONDS = 1.0
#: Pieces of claims that lie ready for the child; more are not fetched before.
READY = 2

#: With more tasks than this in a child's hands outcomes are gathered for a moment, in seconds.
MANY = 8
GATHER_SECONDS = 0.001

_RETRIES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

Ready = tuple[JobInputs, Piece]


class Agent:
    """One worker."""

    def __init__(self, zygote: Zygote, scratch: str, note: Note) -> None:
        """`scratch` is a folder of the worker's own."""
        self._scratch = scratch
        self._holdings = Holdings()
        self._poll_line = line_from_environment(PROTOCOL)
        self._outbox = Outbox(
            line_from_environment(PROTOCOL),
            self._holdings,
            self._over,
            os.path.join(scratch, "unsent"),
        )
        self._objects = Objects()
        self._fetch_line = line_from_environment(PROTOCOL)
        self._claims: queue.Queue[tuple[dict[str, Any], dict[str, Any] | None]] = queue.Queue()
        self._known: set[str] = set()
        self._ready: queue.Queue[Ready] = queue.Queue(READY)
        self._next: Ready | None = None
        self._gone: list[str] = []
        self._asks_lock = threading.Lock()
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._crew = Crew(zygote, scratch, note, self._selector, self._outbox, self._holdings)
        self._revoked: list[str] = []
        self._given_back = threading.Event()
        self._exit: str | None = None
        # on one machine a dispatcher that is gone does not come back
        self._orphaned_after = float(os.environ.get("SHOAL_ORPHAN_SECONDS") or "inf")

    # the poller's thread

    def _poll(self) -> None:
        """Ask for claims and make them ready, until told to exit."""
        contact, failures = time.monotonic(), 0
        refused: float | None = None
        while self._exit is None or self._holdings:
            message = {
                **self._holdings.wire(),
                "knows": sorted(self._known),
                "wait": POLL_SECONDS,
            }
            try:
                answer = self._poll_line.call("/v1/poll", message, timeout=POLL_SECONDS + 15.0)
            except (Unreachable, Refused) as error:
                now = time.monotonic()
                refused = (refused or now) if isinstance(error, Refused) else None
                if refused is not None and now - refused > REFUSED_SECONDS:
                    _say(f"refused: {error}")
                    self._crew.kill()
                    os._exit(1)  # nobody will ever take what it holds
                if not self._holdings and now - contact > GIVE_UP_SECONDS:
                    return self._leave(f"no contact: {error}")
                if now - contact > self._orphaned_after:
                    self._crew.kill()
                    os._exit(1)
                if failures in (0, 10, 100):
                    _say(f"no answer from the dispatcher: {error}")
                time.sleep(_RETRIES[min(failures, len(_RETRIES) - 1)])
                failures += 1
                continue
            contact, failures, refused = time.monotonic(), 0, None
            self._holdings.returns_told()
            if answer.get("gone"):
                self._over(answer["gone"])
            if answer.get("revoke"):
                self._give_back_unbegun(answer["revoke"])
            for claim in answer["claims"]:
                self._holdings.add(claim)
                about = answer.get("jobs", {}).get(claim["job"])
                if about is not None:
                    self._known = {claim["job"]}
                self._claims.put((claim, about))
            if answer.get("exit"):
                self._leave("")

    def _give_back_unbegun(self, jobs: list[str]) -> None:
        """Let the main thread find what has not begun, and wait for it: the next poll tells it."""
        self._given_back.clear()
        with self._asks_lock:
            self._revoked.extend(jobs)
        self._wake()
        self._given_back.wait()

    # the fetcher's thread

    def _fetch(self) -> None:
        """Fetch what claims need, piece by piece as the child takes them."""
        inputs: JobInputs | None = None
        while True:
            claim, about = self._claims.get()
            try:
                if about is not None:
                    inputs = JobInputs(about, self._objects, self._describe, self._scratch)
                if inputs is not None and inputs.id == claim["job"]:
                    self._hand_over(inputs, claim)
                else:  # its description never came: the dispatcher sees that we do not hold it
                    self._holdings.drop(claim["job"])
            except Fatal as fatal:
                self._outbox.add_fatal(claim["job"], fatal)
            except (ObjectError, Unreachable, Refused) as error:
                _say(f"the inputs of {claim['job']} cannot be read now: {error}")
                self._give_back(claim["job"])
                time.sleep(1.0)
            except Exception as error:  # a broken zip, a full disk: no other worker fares better
                text = f"the inputs cannot be unpacked: {type(error).__name__}: {error}"
                self._outbox.add_fatal(claim["job"], Fatal("InputsCorrupt", text))

    def _hand_over(self, inputs: JobInputs, claim: dict[str, Any]) -> None:
        """Lay the claim's pieces ready for the child, as long as it is ours."""
        if not self._holdings.may_begin(claim["id"]):
            return
        for piece in inputs.pieces(claim):
            while self._holdings.may_begin(claim["id"]):
                try:
                    self._ready.put((inputs, piece), timeout=0.2)
                except queue.Full:
                    continue
                self._wake()
                break
            else:
                return

    def _give_back(self, job: str) -> None:
        """Let go of a job's claims, and of its description, for another try."""
        self._known.discard(job)
        self._holdings.drop(job)

    def _describe(self, job: str) -> dict[str, Any]:
        about = self._fetch_line.call("/v1/job", {"job": job}).get("job")
        if about is None:
            raise ObjectError(f"job {job} is over")
        return dict(about)

    # what any thread may say

    def _over(self, jobs: list[str]) -> None:
        """Let the main thread drop jobs that are over."""
        for job in jobs:
            self._give_back(job)
        with self._asks_lock:
            self._gone.extend(jobs)
        self._wake()

    def _leave(self, why: str) -> None:
        """Leave once nothing is held; the poller's thread says so."""
        self._exit = why
        self._wake()
        if self._holdings:  # it is reported, and not durable yet
            time.sleep(LEAVE_SECONDS)

    def _wake(self) -> None:
        try:
            os.write(self._wake_out, b".")
        except BlockingIOError:
            return  # it is full: the main thread has not even woken from earlier ones

    # the main thread

    def run(self) -> int:
        """Work until told to leave; return the exit code."""
        threads = {"outbox": self._outbox.run, "poller": self._poll, "fetcher": self._fetch}
        for name, target in threads.items():
            threading.Thread(target=_or_die, args=(target,), name=name, daemon=True).start()
        crew = self._crew
        while True:
            # with tasks unanswered the child's pipes tell; else somebody wakes us
            for key, _ in self._selector.select(min(1.0, crew.seconds_left())):
                if key.fileobj == self._wake_in:
                    os.read(self._wake_in, 1 << 12)
            if crew.fed > MANY:
                time.sleep(GATHER_SECONDS)  # many short outcomes are cheaper to read together
            reap()
            crew.hear_zygote()
            self._drop_gone()
            crew.serve()
            self._revoke()
            self._feed()
            if self._exit is not None and not self._holdings:
                self._outbox.wait_until_empty(5.0)
                if self._exit:
                    _say(self._exit)
                crew.kill()
                return 1 if self._exit else 0

    def _drop_gone(self) -> None:
        with self._asks_lock:
            gone, self._gone = self._gone, []
        for job in gone:
            self._crew.drop(job)

    def _revoke(self) -> None:
        """Give back what the poller was asked for; it waits for that."""
        with self._asks_lock:
            jobs, self._revoked = self._revoked, []
        for job in jobs:
            self._crew.revoke(job)
        if jobs:
            self._given_back.set()

    def _feed(self) -> None:
        """Give the child what lies ready for its job, or begin with the next job."""
        while True:
            try:
                inputs, piece = self._next = self._next or self._ready.get_nowait()
            except queue.Empty:
                return
            if self._holdings.may_begin(piece.claim):  # else it was given up while it lay here
                if not self._crew.has_room(inputs.id):
                    return
                self._crew.feed(inputs, piece)
            self._next = None

    def on_signal(self, number: int, _frame: Any) -> None:
        """Leave at once: the Pod is going. What was not acknowledged is not lost, only undone."""
        self._crew.kill()
        os._exit(128 + number)


def _or_die(target: Callable[[], None]) -> None:
    """Run a thread's target; should it fail, end the worker, so that others get its tasks."""
    try:
        target()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def _say(text: str) -> None:
    print(f"shoal worker: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run a worker as the Pod's environment says; return the exit code."""
    if os.environ.get("SHOAL_ENVIRONMENT"):
        from . import environment

        environment.enter()
    if any(name.startswith("SHOAL_GIT_") for name in os.environ):
        hide_environment()
    scratch = os.environ["SHOAL_SCRATCH"]
    for name in ("work", "tmp", "results", "unsent", "code"):
        os.makedirs(os.path.join(scratch, name), exist_ok=True)
    os.environ["TMPDIR"] = os.path.join(scratch, "tmp")
    os.environ["SHOAL_IN_WORKER"] = "1"
    library = os.environ.get("SHOAL_LIBRARY", "")
    note = os.environ.get("SHOAL_TERMINATION_LOG", "/dev/termination-log")
    noted = Note(note if os.path.isfile(note) else "")
    sys.path[:] = [path for path in sys.path if path]  # not the folder that happens to be current
    zygote = start(noted, os.path.join(scratch, "results"), library)
    agent = Agent(zygote, scratch, noted)
    signal.signal(signal.SIGTERM, agent.on_signal)
    signal.signal(signal.SIGINT, agent.on_signal)
    return agent.run()
