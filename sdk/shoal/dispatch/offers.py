"""Which waiting poll gets which tasks.

Jobs of one pool share its workers, the least served first, each within its parallelism; a worker
stays with its job while that has tasks. Where all that is left of a job is in workers' hands, idle
ones take a part of it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from shoal.dispatch.claims import Claim
from shoal.dispatch.description import describe
from shoal.dispatch.run import Run
from shoal.dispatch.sessions import Session

_log = logging.getLogger(__name__)


class Offers:
    """Answers waiting polls with claims."""

    def __init__(self, sessions: Mapping[str, Session], runs: Mapping[str, Run]) -> None:
        """`sessions` (by the Pod's uid) and `runs` (by id) are the dispatcher's, as they are."""
        self._sessions, self._runs = sessions, runs
        self._epoch = secrets.token_hex(4)
        self._claims = 0

    def made(self, claim_id: str) -> bool:
        """Tell whether a claim was handed out here, and not by a dispatcher before this one."""
        return claim_id.startswith(self._epoch)

    def busy(self) -> set[str]:
        """Return the uids of the Pods that have something in hand."""
        busy = {uid for run in self._runs.values() for uid in run.work.claims.workers()}
        return busy | {uid for uid, one in self._sessions.items() if one.awaited_claims}

    def of(self, run: Run) -> None:
        """Hand out what a job has."""
        for pool in run.work.pools():
            self.to_pool(pool)

    def to_pool(self, pool: str) -> None:
        """Answer every poll of the pool that can be answered."""
        for session in self._sessions.values():
            if session.identity.pool == pool:
                self.to(session)

    def to(self, session: Session) -> None:
        """Answer a waiting poll if there is something to say."""
        if not session.is_waiting:
            return
        uid, pool = session.identity.pod_uid, session.identity.pool
        own = [run for run in self._runs.values() if run.work.claims.of(uid)]
        if own:  # in jobs of which it has nothing it keeps no place
            for run in self._runs.values():
                run.work.leaves(uid)
        if session.awaited_claims and not own:
            return  # it is at work for a job that is still to be attached
        if session.leaving:
            if not own:
                session.answer({"claims": [], "exit": True})
            return
        if any(run.work.enough(uid) for run in own):
            return
        for run in own or self._waiting(uid, pool):
            claim = run.work.claim(self._claim_id(), uid, pool)
            if claim is not None:
                self._hand_out(session, run, claim)
                return

    def help_out(self) -> None:
        """Let idle workers take a part of what others have in hand."""
        tails = [run for run in self._runs.values() if run.work.at_its_tail]
        if not tails:
            return
        busy = self.busy()
        for session in self._sessions.values():
            idle = session.identity.pod_uid not in busy and not session.leaving
            for run in tails if session.is_waiting and idle else ():
                if self._helps(session, run):
                    break

    def _helps(self, session: Session, run: Run) -> bool:
        """Have an idle worker copy a task, or the busiest give back what it has not begun."""
        uid, pool = session.identity.pod_uid, session.identity.pool
        other = self._sessions.get(run.work.stalled(uid, pool) or "")
        if other is not None and other.is_waiting:
            run.work.asked(other.identity.pod_uid)
            other.answer({"claims": [], "revoke": [run.spec.id]})
            return True
        if (twin := run.work.copy(self._claim_id(), uid, pool)) is not None:
            self._hand_out(session, run, twin)
            return True
        return False

    def _waiting(self, uid: str, pool: str) -> list[Run]:
        """Return the jobs that have tasks for a worker: its own first, then the least served."""
        runs = [run for run in self._runs.values() if run.work.claimable(pool)]
        return sorted(runs, key=lambda run: (not run.work.is_member(uid), run.work.size))

    def _claim_id(self) -> str:
        self._claims += 1
        return f"{self._epoch}-{self._claims}"

    def _hand_out(self, session: Session, run: Run, claim: Claim) -> None:
        _log.debug("%s gets claim %s of %s", session.identity.pod, claim.id, run.spec.name)
        answer: dict[str, Any] = {"claims": [claim.wire()]}
        if claim.job not in session.knows:
            session.knows.add(claim.job)
            answer["jobs"] = {claim.job: describe(run.spec, run.store, for_offer=True)}
        session.answer(answer)
