"""The agent: the worker's first process, between the dispatcher and the child that runs user code.

Four threads: `_poll` asks for claims, `_fetch` gets their inputs, the outbox reports, each on its
own connection, and the main thread moves bytes to and from the child. The agent never unpickles
anything of the user's. What only some jobs need is imported when they need it, since a new Pod's
first task waits for every import here.
"""

from __future__ import annotations

import os
import queue
import select
import selectors
import signal
import sys
import threading
import time
from typing import Any, Callable

from . import PROTOCOL, cgroup
from .children import Child, NotLoaded, Outcome
from .holdings import Holdings
from .inputs import Fatal, JobInputs, Piece
from .objects import ObjectError, Objects
from .outbox import Outbox
from .processes import kill_strangers, reap
from .transport import Refused, Unreachable, line_from_environment
from .zygote import Zygote, start

#: How long a poll waits for work, in seconds; the dispatcher answers sooner.
POLL_SECONDS = 20.0
#: A worker that holds nothing gives up after this long without an answer, in seconds.
GIVE_UP_SECONDS = 300.0
#: A worker that is refused gives up after this long, in seconds.
REFUSED_SECONDS = 60.0
#: Pieces of claims that lie ready for the child; more are not fetched before.
READY = 2

#: With more tasks than this in a child's hands outcomes are gathered for a moment, in seconds.
MANY = 8
GATHER_SECONDS = 0.001

_RETRIES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

Ready = tuple[JobInputs, Piece]


class Agent:
    """One worker."""

    def __init__(self, zygote: Zygote, scratch: str) -> None:
        """`scratch` is a folder of the worker's own."""
        self._zygote, self._scratch = zygote, scratch
        self._holdings = Holdings()
        self._poll_line = line_from_environment(PROTOCOL)
        self._outbox = Outbox(line_from_environment(PROTOCOL), self._holdings, self._over)
        self._objects = Objects()
        self._fetch_line = line_from_environment(PROTOCOL)
        self._claims: queue.Queue[tuple[dict[str, Any], dict[str, Any] | None]] = queue.Queue()
        self._known: set[str] = set()
        self._ready: queue.Queue[Ready] = queue.Queue(READY)
        self._gone: list[str] = []
        self._gone_lock = threading.Lock()
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._selector.register(zygote.socket, selectors.EVENT_READ)
        self._child: Child | None = None
        self._spare: Child | None = None
        self._asked: list[Child] = []
        self._waiting: list[Piece] = []
        self._exit: str | None = None
        # on one machine a dispatcher that is gone does not come back
        self._orphaned_after = float(os.environ.get("SHOAL_ORPHAN_SECONDS") or "inf")
        self._kills = cgroup.oom_kills()

    # the poller's thread

    def _poll(self) -> None:
        """Ask for claims and make them ready, until told to exit."""
        contact, failures = time.monotonic(), 0
        refused: float | None = None
        while self._exit is None:
            message = {
                "held": self._holdings.wire(),
                "knows": sorted(self._known),
                "wait": POLL_SECONDS,
            }
            try:
                answer = self._poll_line.call("/v1/poll", message, timeout=POLL_SECONDS + 15.0)
            except (Unreachable, Refused) as error:
                now = time.monotonic()
                refused = (refused or now) if isinstance(error, Refused) else None
                if refused is not None and now - refused > REFUSED_SECONDS:
                    return self._leave(f"refused: {error}")
                if not self._holdings and now - contact > GIVE_UP_SECONDS:
                    return self._leave(f"no contact: {error}")
                if now - contact > self._orphaned_after:
                    self._end_processes()
                    os._exit(1)
                if failures in (0, 10, 100):
                    _say(f"no answer from the dispatcher: {error}")
                time.sleep(_RETRIES[min(failures, len(_RETRIES) - 1)])
                failures += 1
                continue
            contact, failures, refused = time.monotonic(), 0, None
            if answer.get("gone"):
                self._over(answer["gone"])
            for claim in answer["claims"]:
                self._holdings.add(claim)
                about = answer.get("jobs", {}).get(claim["job"])
                if about is not None:
                    self._known = {claim["job"]}
                self._claims.put((claim, about))
            if answer.get("exit"):
                return self._leave("")

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
        for piece in inputs.pieces(claim):
            while self._holdings.holds(claim["id"]):
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
        with self._gone_lock:
            self._gone.extend(jobs)
        self._wake()

    def _leave(self, why: str) -> None:
        self._exit = why
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_out, b".")
        except BlockingIOError:
            return  # it is full: the main thread has not even woken from earlier ones

    # the main thread

    def run(self) -> int:
        """Work until told to leave; return the exit code."""
        self._spare = self._new_child()
        threads = {"outbox": self._outbox.run, "poller": self._poll, "fetcher": self._fetch}
        for name, target in threads.items():
            threading.Thread(target=_or_die, args=(target,), name=name, daemon=True).start()
        while True:
            # with tasks unanswered the child's pipes tell; else somebody wakes us
            for key, _ in self._selector.select(1.0):
                if key.fileobj == self._wake_in:
                    os.read(self._wake_in, 1 << 12)
            if self._child is not None and len(self._child.fed) > MANY:
                time.sleep(GATHER_SECONDS)  # many short outcomes are cheaper to read together
            reap()
            self._hear_zygote()
            self._drop_gone()
            self._serve_child()
            self._feed()
            if self._exit is not None and not self._holdings:
                self._outbox.wait_until_empty(5.0)
                if self._exit:
                    _say(self._exit)
                self._end_processes()
                return 1 if self._exit else 0

    def _new_child(self) -> Child:
        child = Child()
        self._zygote.fork(child.theirs)
        for descriptor in child.theirs:
            os.close(descriptor)
        self._asked.append(child)
        return child

    def _hear_zygote(self) -> None:
        for event in self._zygote.events():
            if "pid" in event:
                self._asked.pop(0).pid = event["pid"]
                continue
            for child in (self._child, self._spare):
                if child is not None and child.pid == event["ended"]:
                    child.status = event["status"]

    def _drop_gone(self) -> None:
        with self._gone_lock:
            gone, self._gone = self._gone, []
        for job in gone:
            self._outbox.drop(job)
            if self._child is not None and self._child.job == job:
                self._retire_child()

    def _serve_child(self) -> None:
        child = self._child
        if child is None:
            return
        ended = child.status is not None
        try:
            self._pass_output(child)
            for outcome in child.read_outcomes():
                self._report(child, outcome)
        except NotLoaded as error:
            kind, message, trace = error.args
            self._outbox.add_fatal(
                child.job, Fatal("TaskFailed", _hint(kind, message), (kind, message, trace))
            )
            child.leftovers()
            self._retire_child()
            return
        if child.wants_to_write:
            child.write()
        self._watch(child)
        if ended:
            self._bury(child)
        else:
            self._ignore_closed(child)

    def _ignore_closed(self, child: Child) -> None:
        """Stop listening to a pipe that a living child closed: it would always be readable."""
        for closed, pipe in (
            (child.output_ended, child.output),
            (child.results_ended, child.results),
        ):
            if closed and pipe in self._selector.get_map():
                self._selector.unregister(pipe)

    def _pass_output(self, child: Child) -> None:
        """Pass on what the child printed: to the Pod's log, and to the dispatcher."""
        text = child.read_output()
        if text:
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
            if child.fed:
                self._outbox.add_output(child.job, child.fed[0].task, child.fed[0].attempt, text)

    def _report(self, child: Child, outcome: Outcome) -> None:
        self._outbox.add(child.job, outcome.claim, outcome.record, outcome.seconds, outcome.path)

    def _bury(self, child: Child) -> None:
        """Report the task that the child died in; let another child do the rest."""
        kills = cgroup.oom_kills()
        outcome = child.death(out_of_memory=kills > self._kills)
        self._kills = kills
        if outcome is not None:
            self._report(child, outcome)
        self._waiting = child.leftovers()
        job = child.job
        self._forget_child()
        if self._waiting:
            self._begin(job)

    def _feed(self) -> None:
        """Give the child what lies ready for its job, or begin with the next job."""
        while True:
            if self._child is not None and len(self._child.fed) > 0 and self._child.wants_to_write:
                return
            try:
                inputs, piece = self._ready.get_nowait()
            except queue.Empty:
                return
            if not self._holdings.holds(piece.claim):
                continue  # its job ended while the piece lay here
            if self._child is not None and self._child.job != inputs.id:
                self._retire_child()
            if self._child is None:
                self._current = inputs
                try:
                    self._begin(inputs.id)
                except OSError as error:
                    text = f"the job's folder cannot be made: {error}"
                    self._outbox.add_fatal(inputs.id, Fatal("InputsCorrupt", text))
                    continue
            assert self._child is not None
            self._child.feed(piece)
            self._watch(self._child)

    _current: JobInputs

    def _begin(self, job: str) -> None:
        """Take the spare child for a job and put another one in stock."""
        assert self._spare is not None
        opening = self._current.opening()
        child, self._spare = self._spare, None
        self._child = child
        child.open(job, opening)
        for piece in self._waiting:
            child.feed(piece)
        self._waiting = []
        self._selector.register(child.results, selectors.EVENT_READ)
        self._selector.register(child.output, selectors.EVENT_READ)
        self._watch(child)
        self._spare = self._new_child()

    def _watch(self, child: Child) -> None:
        """Listen for room in the child's pipe only while something waits for it."""
        registered = child.tasks in self._selector.get_map()
        if child.wants_to_write and not registered:
            self._selector.register(child.tasks, selectors.EVENT_WRITE)
        elif registered and not child.wants_to_write:
            self._selector.unregister(child.tasks)

    def _retire_child(self) -> None:
        """End the child and everything that its job left running or lying about."""
        child = self._child
        if child is None:
            return
        child.kill()
        child.leftovers()
        self._forget_child()
        while self._asked:  # the spare one's pid is on its way, and must be spared
            select.select([self._zygote.socket], [], [])
            self._hear_zygote()
        import shutil

        spared = [self._zygote.pid, self._spare.pid if self._spare is not None else 0]
        kill_strangers(child.pid, spared)
        for name in ("work", "tmp", "results"):
            folder = os.path.join(self._scratch, name)
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder, exist_ok=True)

    def _forget_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for descriptor in (child.results, child.output, child.tasks):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        child.close()

    def _end_processes(self) -> None:
        for child in (self._child, self._spare):
            if child is not None:
                child.kill()

    def on_signal(self, number: int, _frame: Any) -> None:
        """Leave at once: the Pod is going. What was not acknowledged is not lost, only undone."""
        self._end_processes()
        os._exit(128 + number)


def _or_die(target: Callable[[], None]) -> None:
    """Run a thread's target; should it fail, end the worker, so that others get its tasks."""
    try:
        target()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def _hint(kind: str, message: str) -> str:
    """Add the remedy where a module is missing in the image."""
    text = f"the function could not be loaded: {kind}: {message}"
    if kind == "ModuleNotFoundError":
        text += (
            "; check the name, and if it is right, name an image that has the module "
            "(deployment.image; in Python Deployment.container_image('repository', 'tag'))"
        )
    return text


def _say(text: str) -> None:
    print(f"shoal worker: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run a worker as the Pod's environment says; return the exit code."""
    scratch = os.environ["SHOAL_SCRATCH"]
    for name in ("work", "tmp", "results", "code"):
        os.makedirs(os.path.join(scratch, name), exist_ok=True)
    os.environ["TMPDIR"] = os.path.join(scratch, "tmp")
    os.environ["SHOAL_IN_WORKER"] = "1"
    library = os.environ.get("SHOAL_LIBRARY", "")
    note = os.environ.get("SHOAL_TERMINATION_LOG", "/dev/termination-log")
    note = note if os.path.isfile(note) else ""
    sys.path[:] = [path for path in sys.path if path]  # not the folder that happens to be current
    zygote = start(note, os.path.join(scratch, "results"), library)
    agent = Agent(zygote, scratch)
    signal.signal(signal.SIGTERM, agent.on_signal)
    signal.signal(signal.SIGINT, agent.on_signal)
    return agent.run()
