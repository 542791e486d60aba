"""A queue as its scripts keep it, in plain Python: what each step answers and leaves (spec/asynq.md 1 and 3).

It is written from the specification, not from the scripts. The methods are named as those of `QueueStore`, `Queue` and
`Go`, and return the same, so that one history can run through both. A value that depends on the clock is one of
`Window`'s, which equals whatever the server can have meant.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

from pulsewire.tasks.keys import QueueKeys
from pulsewire.tasks.states import MOVES, TaskState
from pulsewire.tasks.store import Gathered, Lapsed, Leaving, Order, Plan, Taken
from tests.tasks.content import Between, Content, Kept, Window, text
from tests.tasks.scenes import DAY, LONG_AGO, misplaced

OWNER_FIELD, LOST_FIELD, ALONE_FIELD = "pulsewire:owner", "pulsewire:lost", "pulsewire:alone"
KEPT = 600.0
DAYS_90 = 90 * 86400.0
GRACE = 30.0
NOT_LONG_AGO = LONG_AGO * 2
"""Scores below are past, those above are to come: nothing in a history is in between."""


class Anything:
    """Equals whatever there is."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # what equals many things has none

    def __repr__(self) -> str:
        return "<anything>"


class ModelQueue:
    """One queue. After each step, `adopt` what the server has made of it."""

    def __init__(self, keys: QueueKeys) -> None:
        self.keys = keys
        self.content: Content = {}
        self.window = Window(0.0, 0.0)
        self._replies: dict[tuple[str, int], list[Any]] = {}

    def adopt(self, content: Content) -> None:
        """What equals what was foretold; from now on exactly known."""
        self.content = copy.deepcopy(content)

    # --- the keys

    def hash(self, task_id: str) -> dict[str, Any] | None:
        """The HASH of a task."""
        found: dict[str, Any] | None = self.content.get(f"t:{task_id}")
        return found

    def state(self, task_id: str) -> str:
        """The state that it names; "" if there is none."""
        found = self.hash(task_id)
        return text(found["state"]) if found else ""

    def zset(self, name: str) -> dict[str, Any]:
        """Members and scores."""
        found: dict[str, Any] = self.content.setdefault(name, {})
        return found

    def members_of(self, name: str) -> list[str]:
        """Members, the head first."""
        found: list[str] = self.content.setdefault(name, [])
        return found

    def _tidy(self) -> None:
        for name in [name for name, value in self.content.items() if value in ([], {}, set())]:
            del self.content[name]

    def _count(self, succeeded: int, failed: int) -> None:
        for name, count in (("processed", succeeded + failed), ("failed", failed)):
            if count:
                self.content[name] = b"%d" % (int(self.content.get(name, b"0")) + count)
                day = f"{name}:{DAY}"
                known = self.content.get(day, Kept(b"0", self.window.seconds(DAYS_90)))
                self.content[day] = Kept(b"%d" % (int(known.value) + count), known.until)

    def _release(self, lock: str, task_id: str) -> None:
        name = lock.removeprefix(self.keys.prefix)
        held = self.content.get(name)
        if held is not None and text(held.value) == task_id:
            del self.content[name]

    def _delete(self, task_id: str) -> None:
        """The HASH goes, and the lock that it holds by its field."""
        fields = self.content.pop(f"t:{task_id}", None) or {}
        if "unique_key" in fields:
            self._release(text(fields["unique_key"]), task_id)

    # --- new tasks

    def enqueue(self, *orders: Order, request: int = 1, client: str = "client") -> list[Any]:
        """The same request again is answered alike, and does nothing."""
        known = self._replies.get((client, request))
        if known is not None:
            return known
        words = [self._put(order).encode() for order in orders]
        window = self.window
        reply = [Between(window.low * 1000 - 1, window.high * 1000 + 1), *words]
        name = f"pulsewire:requests:{client}"
        record = dict(self.content[name].value) if name in self.content else {}
        self.content[name] = Kept({**record, str(request): Anything()}, window.exact(KEPT))
        self._replies[client, request] = reply
        self._tidy()
        return reply

    def _put(self, order: Order) -> str:
        plan, window = order.plan or Plan(), self.window
        tick = ""
        is_later = bool(plan.delay) or (plan.at or 0) > NOT_LONG_AGO * 1000
        if plan.tick is not None:
            tick = "pulsewire:tick:" + order.own[plan.tick - 1].rpartition("tick:")[2]
            if tick in self.content and int(self.content[tick].value) >= (plan.due or 0):
                return "fired"
        lock = order.own[plan.lock - 1] if plan.lock else ""
        if lock and lock.removeprefix(self.keys.prefix) in self.content:
            return "duplicate"
        if self.hash(order.task_id) is not None:
            return "conflict"
        fields: dict[str, Any] = {"msg": order.message}
        if lock:
            fields["unique_key"] = lock.encode()
            until = self._lock_until(plan, is_later=is_later)
            self.content[lock.removeprefix(self.keys.prefix)] = Kept(order.task_id.encode(), until)
        if plan.group:
            fields["pulsewire:group" if is_later else "group"] = (plan.name or "").encode()
        if is_later:
            state = "scheduled"
            score = window.rounded_up(plan.delay / 1000) if plan.delay else _seconds(plan.at)
            self.zset("scheduled")[order.task_id] = score
        elif plan.group:
            state = "aggregating"
            self._join(order.task_id, plan.name or "", window.seconds())
        else:
            state = "pending"
            fields["pending_since"] = window.stamp()
            self.members_of("pending").insert(0, order.task_id)
        self.content[f"t:{order.task_id}"] = {**fields, "state": state.encode()}
        if plan.tick is not None:
            self.content[tick] = Kept(b"%d" % (plan.due or 0), window.exact(86400))
        return state

    def _lock_until(self, plan: Plan, *, is_later: bool) -> Between:
        window, ttl = self.window, plan.ttl or 0
        if not is_later:
            return window.exact(ttl)
        if plan.delay:  # the time is rounded up to a second, and what is left until then, too
            after = ttl + plan.delay / 1000
            return Between(window.low + after - 0.1, window.high + after + 2.1)
        return Between(_seconds(plan.at) + ttl - 0.1, _seconds(plan.at) + ttl + 1.1)

    def _join(self, task_id: str, group: str, score: Any) -> None:
        self.zset(f"g:{group}")[task_id] = score
        self.content.setdefault("groups", set()).add(group)

    # --- running them

    def take(self, count: int, lease: float, owner: str) -> Taken:
        """The oldest ones."""
        if "paused" in self.content:
            return Taken("paused")
        pending = self.members_of("pending")
        ids = [pending.pop() for _ in range(min(count, len(pending)))]
        found, lost = [], {}
        for task_id in ids:
            fields = self.hash(task_id)
            assert fields is not None
            if LOST_FIELD in fields:
                lost[task_id.encode()] = int(fields[LOST_FIELD])
            since = fields.pop("pending_since", b"")
            fields |= {"state": b"active", OWNER_FIELD: owner.encode()}
            self.members_of("active").insert(0, task_id)
            self.zset("lease")[task_id] = self.window.lease(lease)
            found.append((task_id.encode(), fields["msg"], since))
        self._tidy()
        if not found:
            return Taken("empty")
        now: Any = self.window.exact()
        return Taken("taken", now, [], lost=lost, tasks=found)

    def _is_of(self, task_id: str, owner: str) -> bool:
        """Whether an active task is this owner's, and has not been taken over by Go."""
        fields, score = self.hash(task_id), self.content.get("lease", {}).get(task_id)
        is_mine = fields is not None and fields.get(OWNER_FIELD) == owner.encode()
        return is_mine and score is not None and not score.is_integer()

    def mine(
        self, owner: str, start: int, lease: float
    ) -> tuple[int, list[tuple[bytes, bytes, int]]]:
        """From the head on."""
        ids = self.content.get("active", [])[start:]
        found = [task_id for task_id in ids if self._is_of(task_id, owner)]
        for task_id in found:
            self.zset("lease")[task_id] = self.window.lease(lease)
        return len(ids), [
            (task_id.encode(), fields["msg"], int(fields.get(LOST_FIELD, b"0")))
            for task_id in found
            for fields in (self.content[f"t:{task_id}"],)
        ]

    def _leave_active(self, task_id: str) -> None:
        self.members_of("active").remove(task_id)
        del self.zset("lease")[task_id]

    def done(self, *task_ids: str, owner: str) -> set[str]:
        """Those of others stay."""
        lost = {task_id for task_id in task_ids if not self._is_of(task_id, owner)}
        for task_id in task_ids:
            if task_id not in lost:
                self._leave_active(task_id)
                del self.content[f"t:{task_id}"]
        self._count(len(task_ids) - len(lost), 0)
        self._tidy()
        return lost

    def extend(self, owner: str, task_ids: Sequence[str], lease: float) -> list[str]:
        """As long as nobody else has taken it."""
        lost = [task_id for task_id in task_ids if not self._is_of(task_id, owner)]
        for task_id in task_ids:
            if task_id not in lost:
                self.zset("lease")[task_id] = self.window.lease(lease)
        self._tidy()
        return lost

    def write_result(self, owner: str, task_id: str, result: bytes) -> bool:
        """Into what is there."""
        if not self._is_of(task_id, owner):
            return False
        self.content[f"t:{task_id}"]["result"] = result
        return True

    def note_alone(self, owner: str, task_id: str) -> bool:
        """By its mark alone."""
        fields = self.hash(task_id)
        if fields is None or fields.get(OWNER_FIELD) != owner.encode():
            return False
        fields[ALONE_FIELD] = owner.encode()
        return True

    def leave(self, owner: str, tasks: Sequence[Leaving], day: str) -> list[str]:
        """Each in its own way."""
        assert day == DAY
        words = [self._leave(owner, leaving) for leaving in tasks]
        self._tidy()
        return words

    def _leave(self, owner: str, leaving: Leaving) -> str:
        task_id = leaving.task_id
        score = self.content.get("lease", {}).get(task_id)
        fields = self.hash(task_id)
        if fields is None:
            return "gone"
        if not owner and score is not None and score > NOT_LONG_AGO:
            return "held"
        if score is None or (owner and not self._is_of(task_id, owner)):
            return "other"
        self._leave_active(task_id)
        if leaving.message:
            fields["msg"] = leaving.message
        if leaving.verb not in ("back", "defer", "recover"):
            fields.pop(LOST_FIELD, None)
        fields.pop(OWNER_FIELD, None)
        fields.pop(ALONE_FIELD, None)
        if leaving.verb in ("done", "complete"):
            self._count(1, 0)
            self._release(leaving.lock, task_id)
        elif leaving.verb in ("retry", "archive", "shelve"):
            self._count(0, 1)
        self._arrive(leaving, fields)
        return "left"

    def _arrive(self, leaving: Leaving, fields: dict[str, Any]) -> None:
        task_id, window = leaving.task_id, self.window
        if leaving.verb == "done":
            del self.content[f"t:{task_id}"]
        elif leaving.verb == "complete":
            self._put_into("completed", task_id, window.seconds(leaving.number))
        elif leaving.verb in ("retry", "again", "defer"):
            self._put_into("retry", task_id, window.rounded_up(leaving.number))
        elif leaving.verb in ("archive", "shelve"):
            self._put_into("archived", task_id, window.seconds())
            self._drop_lapsed("archived")
        else:
            self.members_of("pending").append(task_id)
            fields |= {"state": b"pending", "pending_since": window.stamp()}
            if leaving.verb == "recover":
                lost = int(fields.get(LOST_FIELD, b"0")) + int(leaving.number)
                fields[LOST_FIELD] = b"%d" % lost

    def _put_into(self, state: str, task_id: str, score: Any) -> None:
        self.content[f"t:{task_id}"]["state"] = state.encode()
        self.zset(state)[task_id] = score

    # --- upkeep

    def lapsed(self) -> list[Lapsed]:
        """The oldest first."""
        found = []
        for task_id, score in _by_score(self.content.get("lease", {})):
            if score <= NOT_LONG_AGO:
                fields = self.content[f"t:{task_id}"]
                alone = fields.get(ALONE_FIELD) == fields.get(OWNER_FIELD, b"nobody")
                is_ours, lost = not score.is_integer(), int(fields.get(LOST_FIELD, b"0"))
                found.append(Lapsed(task_id, fields["msg"], is_ours, lost, alone))
        return found

    def _due(self, name: str) -> list[str]:
        scores = self.content.get(name, {})
        exact = {member: s for member, s in scores.items() if not isinstance(s, Between)}
        return [member for member, score in _by_score(exact) if score <= NOT_LONG_AGO]

    def forward(self) -> int:
        """How many; when the next one is due is not foretold."""
        moved = 0
        for source in ("scheduled", "retry"):
            for task_id in self._due(source):
                moved += 1
                fields = self.content[f"t:{task_id}"]
                del self.zset(source)[task_id]
                group = fields.get("group") or fields.get("pulsewire:group")
                if group:
                    fields.pop("pulsewire:group", None)
                    fields |= {"state": b"aggregating", "group": group}
                    self._join(task_id, text(group), self.window.seconds())
                else:
                    fields |= {"state": b"pending", "pending_since": self.window.stamp()}
                    pending = self.members_of("pending")
                    has_lost_servers = int(fields.get(LOST_FIELD, b"0")) > 0
                    pending.insert(len(pending) if has_lost_servers else 0, task_id)
        self._tidy()
        return moved

    def _drop_lapsed(self, name: str) -> int:
        due = self._due(name)
        for task_id in due:
            del self.zset(name)[task_id]
            self._delete(task_id)
        return len(due)

    def forget(self, count: int) -> int:
        """Also from the archive, uncounted."""
        assert count >= len(self._due("completed"))
        forgotten = self._drop_lapsed("completed")
        self._drop_lapsed("archived")
        self._tidy()
        return forgotten

    # --- groups

    def gather(
        self, group: str, set_id: str, *, most: int, delay: float, grace: float, life: float
    ) -> Gathered:
        """Members whose score is past are beyond every delay and grace here; the others are within."""
        assert delay == 0 or delay > 60
        members = _by_score(self.content.get(f"g:{group}", {}))
        if not members:
            self.content.get("groups", set()).discard(group)
            self._tidy()
            return Gathered("empty")
        is_late = bool(delay) and members[0][1] <= NOT_LONG_AGO
        is_quiet = members[-1][1] <= NOT_LONG_AGO
        if not ((most and len(members) >= most) or is_late or is_quiet):
            return Gathered("wait")
        chosen = members[: most or None]
        for task_id, _ in chosen:
            del self.zset(f"g:{group}")[task_id]
        if len(chosen) == len(members):
            self.content["groups"].discard(group)
        self.content[f"g:{group}:{set_id}"] = dict(chosen)
        ends: Any = self.window.seconds(life)
        self.zset("aggregation_sets")[self.keys.aggregation_set(group, set_id)] = ends
        self._tidy()
        return Gathered("gathered", len(chosen), ends)

    def members(self, group: str, set_id: str, start: int) -> list[tuple[str, bytes]]:
        """The oldest first."""
        found = _by_score(self.content.get(f"g:{group}:{set_id}", {}))[start:]
        return [(task_id, self.content[f"t:{task_id}"]["msg"]) for task_id, _ in found]

    def bundle(self, group: str, set_id: str, order: Order) -> str:
        """All at once, or nothing."""
        key, name = self.keys.aggregation_set(group, set_id), f"g:{group}:{set_id}"
        ends = self.content.get("aggregation_sets", {}).get(key)
        if ends is None or ends <= NOT_LONG_AGO:
            return "bundled" if self.hash(order.task_id) is not None else "lapsed"
        word = self._put(order)
        if word in ("conflict", "duplicate"):
            return word
        for task_id in self.content.pop(name):
            self._delete(task_id)
        del self.zset("aggregation_sets")[key]
        self._tidy()
        return word

    def reclaim(self, group: str = "", set_id: str = "") -> int:
        """Back to their groups, with their scores."""
        sets = self.content.get("aggregation_sets", {})
        wanted = (
            [self.keys.aggregation_set(group, set_id)] if set_id else self._due("aggregation_sets")
        )
        back = 0
        for key in wanted:
            name = key.removeprefix(self.keys.prefix)
            sets.pop(key, None)
            members = self.content.pop(name, {})
            for task_id, score in members.items():
                self._join(task_id, name[2:].rpartition(":")[0], score)
            back += bool(members)
        self._tidy()
        return back

    # --- Go

    def go_dequeue(self, lease: int) -> str | None:
        """One; our field stays as it was."""
        pending = self.members_of("pending")
        if "paused" in self.content or not pending:
            self._tidy()
            return None
        task_id = pending.pop()
        fields = self.content[f"t:{task_id}"]
        fields.pop("pending_since", None)
        fields["state"] = b"active"
        self.members_of("active").insert(0, task_id)
        self.zset("lease")[task_id] = float(lease)
        self._tidy()
        return task_id

    def go_done(self, task_id: str) -> None:
        """By whoever: Go does not look."""
        self._leave_active(task_id)
        del self.content[f"t:{task_id}"]
        self._count(1, 0)
        self._tidy()

    def go_retry(self, task_id: str, message: bytes, at: int) -> None:
        """Not counted here."""
        self._leave_active(task_id)
        self.content[f"t:{task_id}"] |= {"msg": message, "state": b"retry"}
        self.zset("retry")[task_id] = float(at)
        self._tidy()

    def go_requeue(self, task_id: str) -> None:
        """Without noting since when it is pending."""
        self._leave_active(task_id)
        self.content[f"t:{task_id}"]["state"] = b"pending"
        self.members_of("pending").append(task_id)
        self._tidy()

    def go_run(self, task_id: str) -> bool:
        """It keeps its group (7.3, 3)."""
        if not self._take_out(task_id, ("", "active", "pending")):
            return False
        self.content[f"t:{task_id}"]["state"] = b"pending"
        self.members_of("pending").insert(0, task_id)
        self._tidy()
        return True

    def go_delete(self, task_id: str) -> bool:
        """With its lock."""
        if not self._take_out(task_id, ("", "active")):
            return False
        self._delete(task_id)
        self._tidy()
        return True

    def _take_out(self, task_id: str, but: tuple[str, ...]) -> bool:
        state = self.state(task_id)
        if state in but:
            return False
        if state == "pending":
            self.members_of("pending").remove(task_id)
            return True
        fields = self.content[f"t:{task_id}"]
        name = f"g:{text(fields['group'])}" if state == "aggregating" else state
        if self.content.get(name, {}).pop(task_id, None) is None:
            return False  # it is in an aggregation set (7.3, 25)
        if state == "aggregating" and not self.content[name]:
            self.content["groups"].discard(name[2:])
        return True

    # --- time, and what a user may do

    def pass_by(self, name: str, member: str, score: float) -> None:
        """The time of a member has come."""
        if member in self.content.get(name, {}):
            self.zset(name)[member] = score
        self._tidy()

    def unlock(self, name: str) -> None:
        """The TTL of a lock is over."""
        self.content.pop(name, None)

    def pause(self) -> None:
        """Until `resume`."""
        self.content["paused"] = b"1"

    def resume(self) -> None:
        """Go on."""
        self.content.pop("paused", None)


def _seconds(at_ms: int | None) -> int:
    return math.ceil((at_ms or 0) / 1000)


def _by_score(members: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(members.items(), key=lambda pair: (pair[1], pair[0].encode()))


def broken_rules(before: Content, after: Content) -> list[str]:
    """What one step has done against the rules (spec/asynq.md 1.4, 4.1; faults.md F32). Empty for a good one."""
    wrong = misplaced(after, with_go=True)
    names = {name for name in before.keys() | after.keys() if name.startswith("t:")}
    for name in names:
        was, now = _state_of(before.get(name)), _state_of(after.get(name))
        if was != now and now not in MOVES[was]:
            wrong.append(f"{name}: moved from {was} to {now}")
        lost = [
            int((fields or {}).get(LOST_FIELD, b"0"))
            for fields in (before.get(name), after.get(name))
        ]
        if was == now == "pending" and lost[0] != lost[1]:
            wrong.append(f"{name}: lost while nobody ran it")
    for counter in ("processed", "failed"):
        if int(after.get(counter, b"0")) < int(before.get(counter, b"0")):
            wrong.append(f"{counter} went back")
    if int(after.get("failed", b"0")) > int(after.get("processed", b"0")):
        wrong.append("more have failed than were processed")
    return wrong


def _state_of(fields: dict[str, bytes] | None) -> TaskState | None:
    return TaskState(text(fields["state"])) if fields else None
