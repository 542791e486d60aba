"""A pool as its scripts keep it, in plain Python: what each step answers and leaves (docs/internals/pool-protocol.md).

It is written from the protocol, not from the scripts. The methods are named as those of `PoolStore` and return the
same, so that one history can run through both. Times are in ms; `now` is set before each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pulsewire.pool.jobs import MOVES, JobState
from pulsewire.pool.store import Answer, Ended, Stopped, Survey

Fields = dict[str, str]


@dataclass
class Entry:
    """Of a stream. The id is not foreseen: the server's is adopted."""

    fields: Fields
    id: str = ""


@dataclass
class Content:
    """Everything that lies in Redis, but for `meta` and the tickers."""

    jobs: dict[str, Fields] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    owned: dict[str, set[str]] = field(default_factory=dict)
    inboxes: dict[str, list[Entry]] = field(default_factory=dict)
    replies: dict[str, list[Entry]] = field(default_factory=dict)
    starting: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    janitor: str = ""
    shutdown: str = ""

    def told(self) -> dict[str, object]:
        """As it compares: without what is empty, and without ids of entries."""
        return {
            "jobs": self.jobs,
            "leases": self.leases,
            "owned": {worker: keys for worker, keys in self.owned.items() if keys},
            "inboxes": {w: [e.fields for e in box] for w, box in self.inboxes.items() if box},
            "replies": {n: [e.fields for e in box] for n, box in self.replies.items() if box},
            "starting": self.starting,
            "waiting": self.waiting,
            "epoch": self.epoch,
            "janitor": self.janitor,
            "shutdown": self.shutdown,
        }


class ModelPool:
    """One pool."""

    def __init__(self) -> None:
        self.content = Content()
        self.now = 0

    def holds(self, worker: str) -> bool:
        """Whether a worker's lease holds."""
        return self.content.leases.get(worker, 0) > self.now

    def _state(self, key: str) -> str:
        return self.content.jobs[key]["state"] if key in self.content.jobs else ""

    def _is_of(self, key: str, worker: str, epoch: int) -> bool:
        job = self.content.jobs.get(key, {})
        return (job.get("owner"), job.get("epoch")) == (worker, str(epoch))

    # --- how a job gets an owner, loses it, and ends

    def _give(self, key: str, worker: str) -> int:
        content, job = self.content, self.content.jobs[key]
        content.epoch = epoch = max(content.epoch + 1, self.now)
        starts = int(job["starts"]) + 1
        job |= {"state": "starting", "owner": worker, "epoch": str(epoch)}
        job |= {"since": str(self.now), "starts": str(starts)}
        content.owned.setdefault(worker, set()).add(key)
        content.waiting.pop(key, None)
        content.starting[key] = self.now
        order = {"do": "start", "key": key, "epoch": str(epoch), "starts": str(starts)}
        known = {name: job[name] for name in ("payload", "created", "node")}
        self._order(worker, order | known)
        return epoch

    def _order(self, worker: str, fields: Fields) -> None:
        self.content.inboxes.setdefault(worker, []).append(Entry(fields))

    def _take_from(self, worker: str, key: str) -> None:
        self.content.owned.get(worker, set()).discard(key)

    def _park(self, key: str, due: int) -> None:
        self.content.jobs[key] |= {"state": "waiting", "owner": "", "since": str(self.now)}
        self.content.starting.pop(key, None)
        self.content.waiting[key] = due

    def _finish(self, key: str) -> None:
        del self.content.jobs[key]
        self.content.starting.pop(key, None)
        self.content.waiting.pop(key, None)

    def _tell(self, key: str, outcome: str, text: str) -> None:
        job = self.content.jobs[key]
        if job["node"]:
            reply = {"request": job["request"], "outcome": outcome, "text": text}
            self.content.replies.setdefault(job["node"], []).append(Entry(reply))

    def _discard(self, worker: str, entry: str) -> None:
        box = self.content.inboxes.get(worker, [])
        box[:] = [one for one in box if one.id != entry]

    # --- workers

    def enrol(self, worker: str, ttl: float) -> Answer:
        """Not once the flag is up."""
        if self.content.shutdown:
            return Answer("shutdown", 0, self.content.shutdown)
        self.content.leases[worker] = self.now + int(ttl * 1000)
        return Answer("enrolled")

    def renew(self, workers: Sequence[str], ttl: float) -> list[str]:
        """Only while a lease holds."""
        lost = [worker for worker in workers if not self.holds(worker)]
        kept = [worker for worker in workers if worker not in lost]
        self.content.leases |= dict.fromkeys(kept, self.now + int(ttl * 1000))
        return lost

    def leave(self, worker: str, *, is_dead: bool) -> Answer:
        """Only without jobs."""
        if is_dead and self.holds(worker):
            return Answer("alive")
        if self.content.owned.get(worker):
            return Answer("owns", len(self.content.owned[worker]))
        self.content.leases.pop(worker, None)
        self.content.inboxes.pop(worker, None)
        return Answer("left")

    # --- jobs

    def dispatch(
        self,
        key: str,
        payload: bytes,
        worker: str,
        *,
        request: str,
        node: str,
        max_queued: int,
        park: bool,
    ) -> Answer:
        """Refusals are told in this order."""
        content = self.content
        if key in content.jobs:
            job = content.jobs[key]
            epoch = int(job.get("epoch", "0"))
            if job["request"] == request:
                return Answer("repeated", epoch, job["state"])
            return Answer("exists", epoch, job["owner"])
        if content.shutdown:
            return Answer("shutdown", 0, content.shutdown)
        queued = len(content.starting) + len(content.waiting)
        if queued >= max_queued:
            return Answer("full", queued)
        if worker and not self.holds(worker):
            return Answer("lapsed", 0, worker)
        if not worker and not park and any(self.holds(known) for known in content.leases):
            return Answer("wanted")
        job = {"payload": payload.decode(), "created": str(self.now), "starts": "0"}
        content.jobs[key] = job | {"request": request, "node": node}
        if worker:
            return Answer("given", self._give(key, worker), worker)
        self._park(key, self.now)
        return Answer("parked")

    def started(self, key: str, worker: str, epoch: int, entry: str, node: str) -> str:
        """The dispatcher is told once, also when it shall stop again."""
        self._discard(worker, entry)
        if not self._is_of(key, worker, epoch):
            return "stale"
        job = self.content.jobs[key]
        assert job["node"] in ("", node)
        self.content.starting.pop(key, None)
        self._tell(key, "started", worker)
        job["node"] = ""
        if job["state"] == "stopping":
            return "stopping"
        job |= {"state": "running", "since": str(self.now)}
        return "running"

    def failed(
        self,
        key: str,
        worker: str,
        epoch: int,
        entry: str,
        *,
        node: str,
        error: str,
        again_in: float,
        is_start: bool,
    ) -> str:
        """The first start of a job decides over it."""
        self._discard(worker, entry)
        if not self._is_of(key, worker, epoch):
            return "stale"
        job = self.content.jobs[key]
        assert job["node"] in ("", node)
        if job["state"] == "stopping":
            return "stopping"
        self._take_from(worker, key)
        if is_start and job["starts"] == "1":
            self._tell(key, "failed", error)
            self._finish(key)
            return "ended"
        job["error"] = error
        self._park(key, self.now + int(again_in * 1000))
        return "waiting"

    def ended(self, key: str, worker: str, epoch: int, entry: str) -> Ended:
        """Whoever waits for that is named."""
        self._discard(worker, entry)
        if not self._is_of(key, worker, epoch):
            return Ended("stale")
        job = self.content.jobs[key]
        stoppers = [pair.partition("@") for pair in job.get("stoppers", "").split()]
        self._take_from(worker, key)
        self._finish(key)
        named = tuple((request, node) for request, _, node in stoppers)
        return Ended("ended", job["request"], job["node"], named)

    def assign(self, key: str, old: str, epoch: int | None, new: str) -> Answer:
        """Refusals are told in this order."""
        content = self.content
        job = content.jobs.get(key, {})
        if not job or job["owner"] != old or (epoch is not None and job.get("epoch") != str(epoch)):
            return Answer("stale")
        if content.shutdown:
            return Answer("shutdown")
        if old and epoch is None and self.holds(old):
            return Answer("alive")
        if not old and content.waiting[key] > self.now:
            return Answer("early")
        if job["state"] == "stopping":
            return Answer("stopping", int(job["epoch"]))
        if new and not self.holds(new):
            return Answer("lapsed")
        self._take_from(old, key)
        if new:
            return Answer("given", self._give(key, new))
        if old:
            self._park(key, self.now)
        return Answer("parked")

    def stop(self, key: str, worker: str, request: str, node: str) -> Stopped:
        """The owner is told once; everybody who waits is noted."""
        job = self.content.jobs.get(key)
        if job is None:
            return Stopped("missing", "", "", was_repeated=False)
        if job["state"] == "waiting":
            self._finish(key)
            return Stopped("ended", job["request"], job.get("node", ""), was_repeated=False)
        if job["owner"] != worker:
            return Stopped("elsewhere", job["owner"], "", was_repeated=False)
        mine = f"{request}@{node} "
        if node and mine not in job.get("stoppers", ""):
            job["stoppers"] = job.get("stoppers", "") + mine
        if job["state"] != "stopping":
            job["state"] = "stopping"
            self.content.starting.pop(key, None)
            self._order(worker, {"do": "stop", "key": key, "epoch": job["epoch"]})
        return Stopped("stopping", "", "", was_repeated=False)

    def notify(self, key: str, worker: str, payload: bytes) -> Answer:
        """Behind the start."""
        job = self.content.jobs.get(key)
        if job is None:
            return Answer("missing")
        if job["state"] == "waiting":
            return Answer("waiting")
        if job["owner"] != worker:
            return Answer("elsewhere", 0, job["owner"])
        order = {"do": "notify", "key": key, "epoch": job["epoch"], "payload": payload.decode()}
        self._order(worker, order)
        return Answer("sent")

    def progress(self, key: str, worker: str, epoch: int, text: str | None) -> str:
        """The state of a job that is the worker's."""
        if not self._is_of(key, worker, epoch):
            return "stale"
        if text is not None:
            self.content.jobs[key]["progress"] = text
        return self._state(key)

    def done(self, worker: str, entry: str) -> None:
        """An entry needs nothing more."""
        self._discard(worker, entry)

    def survey(self, node: str) -> Survey:
        """Waiting jobs are of interest when there is somebody to give them to."""
        content = self.content
        dead = [worker for worker in _by_score(content.leases) if not self.holds(worker)]
        due = [key for key in _by_score(content.waiting) if content.waiting[key] <= self.now]
        if not any(self.holds(worker) for worker in content.leases):
            due = []
        if not dead and not due:
            return Survey("idle", [], [])
        if content.janitor not in ("", node):
            return Survey("busy", [], [])
        content.janitor = node
        return Survey("work", dead, due)

    # --- what else happens

    def lapse(self, worker: str, end: int) -> None:
        """Time passes for this worker."""
        if worker in self.content.leases:
            self.content.leases[worker] = end

    def come_due(self, key: str, due: int) -> None:
        """Time passes for this job."""
        if key in self.content.waiting:
            self.content.waiting[key] = due

    def run_ahead(self, epoch: int) -> None:
        """Other jobs of the pool have got epochs."""
        self.content.epoch = epoch

    def end_janitor(self) -> None:
        """Its lease is over."""
        self.content.janitor = ""

    def end_shutdown(self) -> None:
        """Whoever has asked for it has died."""
        self.content.shutdown = ""

    def ask_for_shutdown(self, node: str) -> str:
        """The first one stays."""
        self.content.shutdown = self.content.shutdown or node
        return self.content.shutdown


def _by_score(members: dict[str, int]) -> list[str]:
    return sorted(members, key=lambda member: (members[member], member.encode()))


def broken_rules(before: Content, after: Content, now: int) -> list[str]:
    """What one step has done against the rules of the protocol. Empty for a good one."""
    wrong = [*_misplaced(after)]
    for key in before.jobs.keys() | after.jobs.keys():
        wrong += [f"{key}: {what}" for what in _ill_moved(key, before, after, now)]
    if after.epoch < before.epoch:
        wrong.append("the last epoch went back (1.2)")
    for worker, end in after.leases.items():
        had = before.leases.get(worker)
        if had is None and before.shutdown:
            wrong.append(f"{worker}: enrolled after the shutdown was asked for (7.2)")
        if had is not None and had <= now < end:
            wrong.append(f"{worker}: its lapsed lease was renewed (2.1)")
    return wrong


def _ill_moved(key: str, before: Content, after: Content, now: int) -> list[str]:
    """What was done to one job against the rules."""
    wrong = []
    old, new = before.jobs.get(key, {}), after.jobs.get(key, {})
    moved = (_state_of(old), _state_of(new))
    if moved[0] != moved[1] and moved[1] not in MOVES[moved[0]]:
        wrong.append(f"moved from {moved[0]} to {moved[1]}")
    if before.shutdown and new and not old:
        wrong.append("dispatched after the shutdown was asked for (7.2)")
    epochs = (int(old.get("epoch", 0)), int(new.get("epoch", 0)))
    if new and epochs[1] < epochs[0]:
        wrong.append("its epoch went back (1.2)")
    owner = new.get("owner", "")
    if not owner or (owner == old.get("owner") and epochs[0] == epochs[1]):
        return wrong
    if epochs[1] <= before.epoch:
        wrong.append("its new owner has no epoch larger than any before (1.2)")
    if before.leases.get(owner, 0) <= now:
        wrong.append(f"given to {owner}, whose lease has lapsed")
    if before.shutdown:
        wrong.append(f"given to {owner} after the shutdown was asked for (7.2)")
    return wrong


def _state_of(job: Fields) -> JobState | None:
    return JobState(job["state"]) if job else None


def _misplaced(content: Content) -> list[str]:
    """Jobs that are not in exactly one place (1.3), or counted wrongly (1.4)."""
    wrong = []
    places: dict[str, list[str]] = {key: [] for key in content.jobs}
    for worker, keys in content.owned.items():
        for key in keys:
            places.setdefault(key, []).append(worker)
    for key in content.waiting:
        places.setdefault(key, []).append("")
    for key, where in places.items():
        if key not in content.jobs:
            wrong.append(f"{key}: no job, and at {where} (1.3)")
        elif where != [content.jobs[key]["owner"]]:
            wrong.append(f"{key}: of {content.jobs[key]['owner']!r}, and at {where} (1.3)")
    for key, job in content.jobs.items():
        if (job["state"] == "waiting") != (job["owner"] == ""):
            wrong.append(f"{key}: {job['state']} with the owner {job['owner']!r}")
        if (job["state"] == "starting") != (key in content.starting):
            wrong.append(f"{key}: {job['state']}, and counted otherwise (1.4)")
    wrong += [f"{key}: no job, and counted (1.4)" for key in content.starting.keys() - content.jobs]
    return wrong
