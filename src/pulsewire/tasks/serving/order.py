"""Which queues are asked for how many tasks: priorities, weighted or strict (spec/asynq.md 5.1). Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from itertools import accumulate

from pulsewire._core.checks import check_count
from pulsewire.errors import InvalidOption
from pulsewire.tasks.keys import check_queue


def check_queues(queues: Mapping[str, int] | Iterable[str]) -> dict[str, int]:
    """Queues and their priorities, highest first.

    Args:
        queues: name -> priority, at least 1; or names, which get 1 each.

    Raises:
        InvalidOption, InvalidName: there is none, or one is impossible.
    """
    if isinstance(queues, str):
        queues = [queues]
    pairs = queues.items() if isinstance(queues, Mapping) else [(name, 1) for name in queues]
    checked = {
        check_queue(name): check_count(f"priority of {name!r}", weight) for name, weight in pairs
    }
    if not checked:
        raise InvalidOption("queues", queues, "name at least one queue")
    return dict(sorted(checked.items(), key=lambda pair: -pair[1]))


class Order:
    """Shares free places among queues."""

    __slots__ = ("_is_strict", "_random", "_weights")

    def __init__(
        self, weights: Mapping[str, int], *, strict: bool, chance: random.Random | None = None
    ) -> None:
        self._weights = dict(weights)
        self._is_strict = strict
        self._random = chance or random.Random()

    def share(self, places: int, ready: list[str]) -> dict[str, int]:
        """How many tasks to ask of each of the queues that may have some, `places` in all.

        Strict: all of the queue with the highest priority. Weighted: each place draws its queue with a probability
        proportional to the weights, as asynq draws the first queue of each of its single dequeues.
        """
        if not ready or places <= 0:
            return {}
        if len(ready) == 1:
            return {ready[0]: places}
        weights = [self._weights[name] for name in ready]
        if self._is_strict:
            best = max(range(len(ready)), key=weights.__getitem__)
            return {ready[best]: places}
        shares: dict[str, int] = {}
        for name in self._random.choices(ready, cum_weights=list(accumulate(weights)), k=places):
            shares[name] = shares.get(name, 0) + 1
        return shares


def how_many_ahead(concurrency: int, mean_seconds: float, *, patience: float = 0.02) -> int:
    """How many tasks to take beyond the free places, so that handlers need not wait for Redis.

    As many as would be begun within `patience` seconds, judged by how long attempts take: none where they are long,
    since a task taken ahead is one that no other server can begin.
    """
    if mean_seconds <= 0:
        return concurrency
    return min(concurrency, int(concurrency * patience / mean_seconds))
