"""Identifiers that no two processes share."""

from __future__ import annotations

import itertools
import os

from ulid import ULID


def new_ulid() -> str:
    """A ULID: 26 characters, sortable by time (github.com/ulid/spec)."""
    return str(ULID())


class Forks:
    """How often this process was forked from one that had loaded this module."""

    count = 0

    @classmethod
    def note(cls) -> None:
        """Called in each new child."""
        cls.count += 1


os.register_at_fork(after_in_child=Forks.note)


class RequestIds:
    """Short ids for single requests: a random prefix for the process part, then a counter.

    Cheaper than a ULID per request (about 0.1 microseconds), and unique as long as 64 random bits are.
    """

    __slots__ = ("_counter", "_forks", "_prefix")

    def __init__(self) -> None:
        self._fresh()

    def _fresh(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._counter = itertools.count(1)
        self._forks = Forks.count

    def next(self) -> str:
        """An id that has not been given before, in this process or any other."""
        if self._forks != Forks.count:  # a child must not continue its parent's series
            self._fresh()
        return f"{self._prefix}{next(self._counter)}"
