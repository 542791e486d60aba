"""Identifiers are unique: in a process, between processes, and in a child that a fork made."""

from __future__ import annotations

import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from pulsewire._core.ids import RequestIds, new_ulid


def test_ulid_has_26_characters_of_crockford_base32() -> None:
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", new_ulid())


def test_ulids_are_distinct() -> None:
    assert len({new_ulid() for _ in range(10_000)}) == 10_000


def test_request_ids_are_distinct_in_one_series() -> None:
    ids = RequestIds()
    assert len({ids.next() for _ in range(10_000)}) == 10_000


def test_series_has_one_prefix_of_64_bits_and_counts() -> None:
    ids = RequestIds()
    first, second, third = (ids.next() for _ in range(3))
    assert re.fullmatch(r"[0-9a-f]{16}", first[:-1])
    assert [first, second, third] == [f"{first[:-1]}{count}" for count in (1, 2, 3)]


def test_two_series_have_nothing_in_common() -> None:
    """As of two processes: the random part differs."""
    one, other = RequestIds(), RequestIds()
    assert not {one.next() for _ in range(1000)} & {other.next() for _ in range(1000)}


def test_threads_share_a_series_without_doubles() -> None:
    ids = RequestIds()
    with ThreadPoolExecutor(8) as pool:
        batches = pool.map(lambda _: [ids.next() for _ in range(2000)], range(8))
    found = [request for batch in batches for request in batch]
    assert len(set(found)) == len(found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_child_does_not_continue_its_parents_series() -> None:
    """Both would give the same ids otherwise, and one's event would count as the other's."""
    ids = RequestIds()
    ids.next()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on: forking beside threads is dangerous. This child only writes to a pipe.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, " ".join(ids.next() for _ in range(100)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        of_child = pipe.read().split()
    os.waitpid(child, 0)
    of_parent = [ids.next() for _ in range(100)]
    assert len(set(of_child)) == 100
    assert not set(of_child) & set(of_parent)
