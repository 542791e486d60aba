"""What the pool writes and reads: golden bytes, fields of newer versions, and what is in no known format."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import DecodeError
from pulsewire.pool import JobInfo, JobState, WorkerInfo
from pulsewire.pool.wire import (
    JOB_FIELDS,
    SHUTDOWN_ENTRY,
    VERSION,
    Order,
    Reply,
    decode_job,
    decode_order,
    decode_reply,
    decode_worker,
    encode_worker,
)

WORKER = WorkerInfo("01J", "node-1", "active", 2.5, "höst", 42, 1700000000.25)
GOLDEN = (
    '{"node":"node-1","state":"active","weight":2.5,"host":"höst","pid":42,"started":1700000000.25}'
)
Fields = list[bytes]


def fields_of(**fields: str | bytes | int) -> Fields:
    """Fields and values as a stream has them."""
    found: Fields = []
    for name, value in fields.items():
        found += [name.encode(), value if isinstance(value, bytes) else str(value).encode()]
    return found


any_fields = st.lists(
    st.sampled_from([b"do", b"key", b"epoch", b"starts", b"created", b"node", b"request"])
    | st.sampled_from([b"outcome", b"text", b"start", b"5", b"\xff", b""])
    | st.binary(max_size=4),
    max_size=16,
)

# --- workers


def test_worker_is_written_byte_for_byte() -> None:
    assert encode_worker(WORKER) == GOLDEN
    assert decode_worker("01J", GOLDEN) == WORKER


@given(
    st.builds(
        WorkerInfo,
        st.just("w"),
        st.text(max_size=9),
        st.sampled_from(["active", "draining"]),
        st.floats(1e-6, 1e6),
        st.text(max_size=9),
        st.integers(0, 2**31),
        st.floats(0, 1e11),
    )
)
def test_worker_comes_back_as_it_was(worker: WorkerInfo) -> None:
    assert decode_worker("w", encode_worker(worker)) == worker


def test_fields_of_a_newer_version_are_ignored() -> None:
    """Protocol 8."""
    newer = json.dumps({**json.loads(GOLDEN), "zone": "eu", "tags": [1, {"a": None}]})
    assert decode_worker("01J", newer) == WORKER


def test_only_the_node_is_needed() -> None:
    assert decode_worker("w", '{"node":"n"}') == WorkerInfo("w", "n", "active", 1.0, "", 0, 0.0)


@pytest.mark.parametrize("state", ["draining", "resting", ""])
def test_worker_in_an_unknown_state_gets_no_jobs(state: str) -> None:
    """What a newer version means by it is not to run new ones."""
    said = json.dumps({"node": "n", "state": state})
    assert decode_worker("w", said).state == "draining"


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "{}",
            "[]",
            "null",
            "5",
            '"x"',
            "{",
            '{"node":5}',
            '{"node":null}',
            "\0",
            "!shutdown",
        ),
        *('{"node":"n","weight":0}', '{"node":"n","weight":-1}', '{"node":"n","weight":"1"}'),
        *('{"node":"n","weight":null}', '{"node":"n","weight":NaN}', '{"node":"n","weight":1e400}'),
        *('{"node":"n","pid":"x"}', '{"node":"n","pid":1.5}', '{"node":"n","started":[]}'),
        '{"node":"n","state":5}',
    ],
)
def test_entry_that_is_no_worker_is_refused(value: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_worker("w", value)
    assert caught.value.what == "worker"


@given(st.text(max_size=40))
def test_any_entry_is_a_worker_or_refused(value: str) -> None:
    with suppress(DecodeError):
        assert decode_worker("w", value).weight > 0


def test_protocol_s_version_and_the_sign_of_the_shutdown_are_what_older_nodes_know() -> None:
    assert (VERSION, SHUTDOWN_ENTRY) == (1, "!shutdown")


# --- orders


def test_start_is_read() -> None:
    said = fields_of(
        do="start", key="ü", epoch=7, starts=2, payload=b"\0\xff", created=1700, node="N"
    )
    assert decode_order("5-1", said) == Order(
        "5-1", "start", "ü", 7, payload=b"\0\xff", created=1700, starts=2, node="N"
    )


def test_order_needs_what_to_do_the_key_and_the_epoch() -> None:
    said = fields_of(do="stop", key="k", epoch=7)
    assert decode_order("5-1", said) == Order("5-1", "stop", "k", 7)
    for missing in range(0, len(said), 2):
        with pytest.raises(DecodeError) as caught:
            decode_order("5-1", said[:missing] + said[missing + 2 :])
        assert caught.value.what == "inbox entry"


def test_unknown_fields_and_orders_are_read() -> None:
    """A worker discards what it cannot do (protocol 8)."""
    said = fields_of(do="paint", key="k", epoch=7, colour="red")
    assert decode_order("5-1", said) == Order("5-1", "paint", "k", 7)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"epoch": b""}, {"epoch": b"x"}, {"epoch": b"1.5"}, {"epoch": b"1e3"}),
        *({"key": b"\xff"}, {"do": b"\xff"}, {"node": b"\xff"}, {"starts": b"x"}, {"created": b""}),
    ],
)
def test_malformed_order_is_refused(wrong: dict[str, bytes]) -> None:
    said: dict[str, Any] = {"do": "start", "key": "k", "epoch": 7, **wrong}
    with pytest.raises(DecodeError):
        decode_order("5-1", fields_of(**said))


@given(any_fields)
def test_any_entry_is_an_order_or_refused(fields: Fields) -> None:
    with suppress(DecodeError):
        assert decode_order("5-1", fields).entry == "5-1"


# --- replies


def test_reply_is_read() -> None:
    said = fields_of(request="R", outcome="failed", text="ü")
    assert decode_reply(said) == Reply("R", "failed", "ü")
    assert decode_reply([*said, b"more", b"x"]) == Reply("R", "failed", "ü")
    assert decode_reply(fields_of(request="R", outcome="started")) == Reply("R", "started", "")


def test_reply_keeps_words_that_are_no_utf8() -> None:
    """They are for people."""
    assert decode_reply(fields_of(request="R", outcome="failed", text=b"a\xff")).text == "a\ufffd"


def test_reply_needs_the_request_and_its_outcome() -> None:
    said = fields_of(request="R", outcome="started", text="ü")
    for missing in (0, 2):
        with pytest.raises(DecodeError) as caught:
            decode_reply(said[:missing] + said[missing + 2 :])
        assert caught.value.what == "reply"


@given(any_fields)
def test_any_entry_is_a_reply_or_refused(fields: Fields) -> None:
    with suppress(DecodeError):
        assert isinstance(decode_reply(fields), Reply)


# --- jobs


def test_job_is_read() -> None:
    values = [b"running", b"W", b"7", b"1700000000250", b"1700000001000", b"2", b"half", b"oh"]
    assert decode_job("k", values, b"\xff") == JobInfo(
        "k",
        JobState.RUNNING,
        "W",
        7,
        datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC),
        datetime(2023, 11, 14, 22, 13, 21, 0, UTC),
        2,
        progress="half",
        error="oh",
        payload=b"\xff",
    )


def test_job_that_waits_has_no_owner() -> None:
    values = [b"waiting", b"", None, b"0", b"0", b"0", None, None]
    job = decode_job("k", values, None)
    assert job is not None
    assert (job.state, job.owner, job.token, job.starts) == (JobState.WAITING, "", 0, 0)
    assert (job.progress, job.error, job.payload) == ("", "", None)


@pytest.mark.parametrize("state", [None, b"", b"resting", b"\xff"])
def test_nothing_or_an_unknown_state_is_no_job(state: bytes | None) -> None:
    assert decode_job("k", [state, *[None] * 7], None) is None


def test_job_has_no_progress_no_error_and_no_payload_until_there_is_one() -> None:
    moment = datetime(2023, 11, 14, tzinfo=UTC)
    info = JobInfo("k", JobState.WAITING, "", 0, moment, moment, 0)
    assert (info.progress, info.error, info.payload) == ("", "", None)


def test_number_that_is_too_long_for_one_is_none() -> None:
    """Of 18 digits each is one of 64 bits."""
    values = [b"running", b"W", b"9" * 18, b"0", b"9" * 18, b"9" * 19, None, None]
    job = decode_job("k", values, None)
    assert job is not None
    assert (job.token, job.starts) == (10**18 - 1, 0)
    assert job.since == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


numbers = st.sampled_from([b"", b"-1", b"1.5", b"x", b"\xff", "²".encode(), b"9" * 15, b"9" * 30])


@given(st.lists(numbers | st.none(), min_size=7, max_size=7))
def test_numbers_that_are_none_do_no_harm(values: list[bytes | None]) -> None:
    """Somebody has written into the hash: looking at the pool must still work (protocol 8)."""
    job = decode_job("k", [b"running", *values], None)
    assert job is not None
    assert len(JOB_FIELDS) == 8
