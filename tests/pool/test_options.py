"""What can be said about a node: defaults, bounds, and what follows from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pulsewire
from pulsewire import InvalidName, InvalidOption
from pulsewire.pool.options import LEAST_TTL, NodeOptions
from tests.facts import on_one_server
from tests.pool.facts import MakeNode

SECONDS = ["worker_ttl", "worker_shutdown_ttl", "ack_grace"]
COUNTS = ["max_queued_jobs", "max_payload", "concurrency"]
IMPOSSIBLE: list[tuple[str, Any]] = [
    *(
        (name, value)
        for name in SECONDS
        for value in (0, -1.0, math.nan, math.inf, True, "1", None)
    ),
    *((name, value) for name in COUNTS for value in (0, -1, 1.5, True, "1", None)),
    ("worker_ttl", LEAST_TTL - 0.01),
    ("routing", "ketama"),
    ("routing", ""),
    ("routing", 5),
]


def test_defaults_are_those_of_go_where_go_has_one() -> None:
    """30 s of silence, 120 s for leaving, 20 s of grace, 1000 jobs that wait."""
    options = NodeOptions()
    assert (options.worker_ttl, options.worker_shutdown_ttl) == (30.0, 120.0)
    assert (options.ack_grace, options.max_queued_jobs) == (20.0, 1000)
    assert (options.client_only, options.wanted_routing) == (False, "rendezvous")
    assert (options.max_payload, options.concurrency) == (2**20, 100)


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_impossible_option_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        NodeOptions(**{name: value})
    assert caught.value.option == name


def test_client_only_node_takes_the_routing_of_the_pool_unless_it_names_one() -> None:
    assert NodeOptions(client_only=True).wanted_routing is None
    assert NodeOptions(client_only=True, routing="jump").wanted_routing == "jump"
    assert NodeOptions(routing="jump").wanted_routing == "jump"


@pytest.mark.parametrize("name", SECONDS)
def test_seconds_may_be_whole_numbers(name: str) -> None:
    assert getattr(NodeOptions(**{name: 2}), name) == 2  # type: ignore[arg-type]  # each of SECONDS is a float


@given(st.floats(LEAST_TTL, 1e9))
def test_three_renewals_fit_into_a_lease_and_the_margin_before_its_end(ttl: float) -> None:
    """So one renewal may get lost, and the next come late, before anything is stopped (protocol 2.3)."""
    options = NodeOptions(worker_ttl=ttl)
    assert 3 * options.renew_every == pytest.approx(ttl)
    assert 0 < options.margin <= 1.0
    assert 2 * options.renew_every + options.margin < ttl


# --- as the hub takes them


@on_one_server
async def test_hub_checks_options_before_anything_is_sent(make_node: MakeNode) -> None:
    for name, value in IMPOSSIBLE:
        if (name, value) in (("max_payload", None), ("concurrency", None)):
            continue  # the default
        with pytest.raises(InvalidOption):
            make_node(**{name: value})


@on_one_server
@pytest.mark.parametrize(
    "pool", ["", "a b", "a*", "a?", "[a]", "a\0", "{a}", "a{", "a}", "x" * 513, 5]
)
async def test_hub_refuses_impossible_pool_names(hub: pulsewire.Hub, pool: Any) -> None:
    """Braces too, since the name is a hash tag."""
    with pytest.raises(InvalidName):
        hub.node(pool)


@on_one_server
async def test_hub_hands_every_option_on(make_node: MakeNode) -> None:
    said: dict[str, Any] = {
        "worker_ttl": 1.5,
        "worker_shutdown_ttl": 2.5,
        "ack_grace": 3.5,
        "max_queued_jobs": 4,
        "client_only": True,
        "routing": "jump",
        "max_payload": 5,
        "concurrency": 6,
    }
    assert make_node(**said).options == NodeOptions(**said)
