"""The child that works, the one in stock, and what becomes of both.

Everything here happens in the agent's main thread. A child serves one job; where it dies, what it
was fed and has not begun goes to the next one.
"""

from __future__ import annotations

import os
import select
import selectors
import time

from . import cgroup
from .children import Child, NotLoaded
from .holdings import Holdings
from .inputs import Fatal, JobInputs, Piece
from .note import Note
from .outbox import Outbox
from .output import PodLog
from .processes import kill_strangers
from .zygote import Zygote


class Crew:
    """The children of one worker."""

    def __init__(
        self,
        zygote: Zygote,
        scratch: str,
        note: Note,
        selector: selectors.BaseSelector,
        outbox: Outbox,
        holdings: Holdings,
    ) -> None:
        """`selector` is told which pipes the main thread waits for."""
        self._zygote, self._scratch, self._note = zygote, scratch, note
        self._selector, self._outbox, self._holdings = selector, outbox, holdings
        self._log = PodLog()
        self._child: Child | None = None
        self._asked: list[Child] = []
        self._waiting: list[Piece] = []
        self._inputs: JobInputs
        self._kills = cgroup.oom_kills()
        selector.register(zygote.socket, selectors.EVENT_READ)
        self._spare = self._new_child()

    def _new_child(self) -> Child:
        child = Child()
        self._zygote.fork(child.theirs)
        child.close_theirs()
        self._asked.append(child)
        return child

    @property
    def fed(self) -> int:
        """How many tasks are in the child's hands."""
        return len(self._child.fed) if self._child is not None else 0

    def has_room(self, job: str) -> bool:
        """Tell whether tasks of the job could be taken now: those of another are not disturbed."""
        child = self._child
        return not self.fed or (child is not None and child.job == job and not child.wants_to_write)

    def seconds_left(self) -> float:
        """Return for how long there is nothing to do if nothing happens."""
        if self._child is None:
            return float("inf")
        return max(0.0, self._child.deadline - time.monotonic())

    # the way of a child

    def feed(self, inputs: JobInputs, piece: Piece) -> None:
        """Give tasks to the child, or to a new one if theirs is another job."""
        if self._child is not None and self._child.job != inputs.id:
            self._retire()
        self._inputs = inputs
        if self._child is None:
            self._waiting.append(piece)
            self._begin()
        else:
            self._child.feed(piece)
            self._watch(self._child)

    def _begin(self) -> None:
        """Take the spare child for the job and put another one in stock."""
        child, waiting = self._spare, self._waiting
        self._waiting = []
        self._kills = cgroup.oom_kills()
        try:
            child.open(self._inputs)
        except OSError as error:
            text = f"the job's folder cannot be made: {error}"
            self._outbox.add_fatal(self._inputs.id, Fatal("InputsCorrupt", text))
            return
        self._child = child
        for piece in waiting:
            child.feed(piece)
        self._selector.register(child.results, selectors.EVENT_READ)
        self._selector.register(child.output, selectors.EVENT_READ)
        self._watch(child)
        self._spare = self._new_child()

    def _watch(self, child: Child) -> None:
        """Listen for room in what the child reads only while something waits for it."""
        for wants, descriptor in (
            (child.wants_to_write, child.tasks),
            (child.turns.wants_to_write, child.turns.fileno()),
        ):
            registered = descriptor in self._selector.get_map()
            if wants and not registered:
                self._selector.register(descriptor, selectors.EVENT_WRITE)
            elif registered and not wants:
                self._selector.unregister(descriptor)

    def serve(self) -> None:
        """Take from the child what it wrote and give it what it has room for."""
        child = self._child
        if child is None:
            return
        ended = child.status is not None
        if ended:
            self._kill_others(child)
        try:
            self._pass_on(child)
        except NotLoaded as error:
            kind, message, trace = error.args
            fatal = Fatal("TaskFailed", _hint(kind, message), (kind, message, trace))
            self._outbox.add_fatal(child.job, fatal)
            child.leftovers()
            self._retire()
            return
        if ended:
            self._bury(child)
            return
        child.turns.write()
        child.write()
        self._watch(child)
        self._ignore_closed(child)
        if not self.seconds_left():
            self._know_pids()
            child.look_at_deadline()

    def _pass_on(self, child: Child) -> None:
        """Pass on what the child printed, to the Pod's log and the dispatcher, and its outcomes."""
        for label, text in child.read():
            self._log.write(label if self._inputs.kind == "map" else None, text)
            if label is not None:
                self._outbox.add_output(child.job, label.task, label.attempt, text)
        self._outbox.add(child.job, child.outcomes())

    def _ignore_closed(self, child: Child) -> None:
        """Stop listening to a pipe that a living child closed: it would always be readable."""
        for closed, pipe in (
            (child.output_ended, child.output),
            (child.results_ended, child.results),
        ):
            if closed and pipe in self._selector.get_map():
                self._selector.unregister(pipe)

    def revoke(self, job: str) -> None:
        """Give back the job's tasks that have not begun."""
        begun = self._outbox.unacknowledged(job)
        if self._child is not None and self._child.job == job:
            self._child.revoke()
            self._watch(self._child)
            begun.update((fed.claim, fed.task) for fed in self._child.fed)
        self._holdings.give_back(job, begun)

    # ends

    def hear_zygote(self) -> None:
        """Learn which processes there are, and which are dead."""
        for event in self._zygote.events():
            if "pid" in event:
                self._asked.pop(0).pid = event["pid"]
                continue
            if self._child is not None and self._child.pid == event["ended"]:
                self._child.status, self._child.memory = event["status"], event["memory"]
            elif self._spare.pid == event["ended"]:  # a task kills whatever it can
                self._spare.close()
                self._spare = self._new_child()

    def _know_pids(self) -> None:
        """Wait until every child that was asked for has a process: it is to be killed, or not."""
        while self._asked:
            select.select([self._zygote.socket], [], [])
            self.hear_zygote()

    def _bury(self, child: Child) -> None:
        """Report the task that the child died in; let another child do the rest."""
        outcome = child.death(out_of_memory=cgroup.oom_kills() > self._kills)
        self._note.clear()
        if outcome is not None:
            self._outbox.add(child.job, [outcome])
        self._waiting = child.leftovers()
        self._forget(child)
        if self._waiting:
            self._begin()

    def drop(self, job: str) -> None:
        """Let go of a job: it is over, or has another life, whose claims are kept."""
        self._outbox.drop(job)
        if self._child is not None and self._child.job == job:
            kept = [one for one in self._child.leftovers() if self._holdings.holds(one.claim)]
            self._retire()
            self._waiting = kept
            if kept:
                self._begin()

    def _retire(self) -> None:
        """End the child and everything that its job left running or lying about."""
        child = self._child
        if child is None:
            return
        self._know_pids()
        child.kill()
        self._kill_others(child)
        self._note.clear()
        self._forget(child)
        import shutil

        for name in ("work", "tmp", "results"):
            folder = os.path.join(self._scratch, name)
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder, exist_ok=True)

    def _kill_others(self, child: Child) -> None:
        """Kill what the child's tasks left running, and the child."""
        self._know_pids()
        kill_strangers(self._zygote.pid, child.pid, (self._zygote.pid, self._spare.pid))

    def _forget(self, child: Child) -> None:
        self._child = None
        for descriptor in (child.results, child.output, child.tasks, child.turns.fileno()):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        child.close()

    def kill(self) -> None:
        """Kill the children: the worker leaves."""
        for child in (self._child, self._spare):
            if child is not None:
                child.kill()


def _hint(kind: str, message: str) -> str:
    """Add the remedy where a module is missing in the image."""
    text = f"the function could not be loaded: {kind}: {message}"
    if kind == "ModuleNotFoundError":
        text += (
            "; check the name, and if it is right, name an image that has the module, or the "
            "packages that it is in (deployment.image, deployment.environment)"
        )
    return text
