"""What readers and sinks need of a stream."""

from __future__ import annotations

import logging

import pytest

import pulsewire
from pulsewire import BYTES, DecodeError
from pulsewire.streaming.filters import topic_filter
from pulsewire.streaming.source import Source
from pulsewire.streaming.wire import PulseFormat
from tests.streaming.facts import Facts, on_one_server

pytestmark = on_one_server


@pytest.fixture
def source(hub: pulsewire.Hub, facts: Facts) -> Source[bytes]:
    store, rules = hub.stream("events").store, hub.stream("events").source.rules
    logger = logging.getLogger("pulsewire.streaming")
    return Source("events", store, PulseFormat(BYTES), facts, logger, rules)


def test_entry_becomes_an_event_that_knows_where_it_was(source: Source[bytes]) -> None:
    event = source.decode("5-1", [b"n", b"e", b"p", b"x", b"t", b"eu"], "mailer", 3)
    assert (event.id, event.stream, event.sink, event.deliveries) == ("5-1", "events", "mailer", 3)
    assert (event.name, event.payload, event.topic) == ("e", b"x", "eu")


def test_filter_sees_the_topic_alone(source: Source[bytes]) -> None:
    """The payload need not even be decodable."""
    eu, us = [b"t", b"eu"], [b"n", b"e", b"p", b"", b"t", b"us"]
    assert source.wants(eu, None)
    assert source.wants(eu, topic_filter("eu", None))
    assert not source.wants(us, topic_filter("eu", None))


def test_malformed_entry_is_counted_and_said(
    source: Source[bytes], facts: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    """With where it is and why; never with what is in it."""
    source.report_malformed("5-1", DecodeError("entry", "no n"), "mailer")
    assert facts.of("entry_malformed") == [("events", "mailer", "5-1", "no n")]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    told = record.__dict__
    assert (told["stream"], told["sink"], told["entry_id"]) == ("events", "mailer", "5-1")
    assert told["why"] == "no n"
