"""Cluster routing, the pure part: slots, the map of them, and redirections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire._redis.namespace import hash_tag
from pulsewire._redis.slots import (
    SLOT_COUNT,
    NodeAddress,
    Redirection,
    SlotMap,
    key_slot,
    parse_redirection,
)

ASKED = NodeAddress("10.0.0.1", 6379)


# --- slots of keys


@pytest.mark.parametrize(
    ("key", "slot"),
    [("123456789", 0x31C3), ("foo", 12182), ("", 0), ("bar", 5061), ("{foo}.x", 12182)],
)
def test_slot_is_that_of_the_specification(key: str, slot: int) -> None:
    """CRC16 (XMODEM) modulo 16384; 0x31C3 is the specification's own check value."""
    assert key_slot(key) == slot


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("{user1000}.following", "user1000"),
        ("{user1000}.followers", "user1000"),
        ("foo{}{bar}", "foo{}{bar}"),
        ("foo{{bar}}zap", "{bar"),
        ("foo{bar}{zap}", "bar"),
        ("{", "{"),
        ("}", "}"),
        ("}{", "}{"),
        ("a}b{c}", "c"),
        ("{}", "{}"),
        ("no tag", "no tag"),
        ("{größe}", "größe"),
    ],
)
def test_hash_tag_is_that_of_the_specification(key: str, tag: str) -> None:
    """The first { and the first } after it; nothing between them means the whole key."""
    assert hash_tag(key) == tag
    assert key_slot(key) == key_slot(f"{{{tag}}}x" if "}" not in tag and tag else key)


def test_keys_of_one_tag_share_a_slot() -> None:
    assert key_slot("{user1000}.following") == key_slot("{user1000}.followers")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_key_has_a_slot(key: str) -> None:
    assert 0 <= key_slot(key) < SLOT_COUNT


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_server_computes_the_same_slots(topology: object) -> None:
    """The vectors above, asked of a real node."""
    from pulsewire.testing import ClusterGroup

    assert isinstance(topology, ClusterGroup)
    keys = [
        "foo",
        "{user1000}.x",
        "foo{}{bar}",
        "foo{{bar}}zap",
        "foo{bar}{zap}",
        "}{",
        "größe",
        "",
    ]
    replies = await topology.nodes[0].pipeline(*(("CLUSTER", "KEYSLOT", key) for key in keys))
    assert replies == [key_slot(key) for key in keys]


# --- redirections


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (
            "MOVED 3999 127.0.0.1:6381",
            Redirection("MOVED", 3999, NodeAddress("127.0.0.1", 6381)),
        ),
        ("ASK 0 example.org:7000", Redirection("ASK", 0, NodeAddress("example.org", 7000))),
        ("MOVED 3999 :6381", Redirection("MOVED", 3999, NodeAddress("10.0.0.1", 6381))),
        ("MOVED 16383 ::1:6381", Redirection("MOVED", 16383, NodeAddress("::1", 6381))),
        ("ASK 5 [2001:db8::7]:1", Redirection("ASK", 5, NodeAddress("2001:db8::7", 1))),
        (
            "MOVED 1 a:2 extra words",
            Redirection("MOVED", 1, NodeAddress("a", 2)),
        ),
    ],
)
def test_redirection_is_understood(reply: str, expected: Redirection) -> None:
    """An empty host means the node that was asked; IPv6 comes with or without brackets."""
    assert parse_redirection(reply, ASKED) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "MOVED",
        "MOVED x y",
        "MOVED 1",
        "MOVED 1 host",
        "MOVED 1 host:port",
        "ERR no",
        "ASKING 1 a:1",
    ],
)
def test_what_is_no_redirection_is_none(reply: str) -> None:
    assert parse_redirection(reply, ASKED) is None


@pytest.mark.parametrize("reply", ["MOVED 16384 a:1", "ASK -1 a:1"])
def test_redirection_of_an_impossible_slot_is_none(reply: str) -> None:
    assert parse_redirection(reply, ASKED) is None


def test_redirection_to_nowhere_is_none() -> None:
    """Neither the reply nor we know a host."""
    assert parse_redirection("MOVED 3999 :6381", NodeAddress("", 0)) is None


# --- the map

REPLY = [
    [0, 100, [b"10.0.0.1", 6379, b"id1"], [b"10.0.0.4", 6379, b"id4"]],
    [101, 16000, [b"host.example", 7000, b"id2", {b"ip": b"10.0.0.2"}]],
    [16001, 16001, [None, 6380, b"id3"]],
    [16002, 16002, [b"", 6381, b"id3"]],
    [16003, 16003, [b"?", 6382, b"id3"]],
]


def test_map_knows_the_owner_of_each_slot() -> None:
    """Missing and unknown host names mean the node that was asked."""
    slots = SlotMap.from_reply(REPLY, ASKED)
    assert slots.owners[0] == slots.owners[100] == NodeAddress("10.0.0.1", 6379)
    assert slots.owners[101] == slots.owners[16000] == NodeAddress("host.example", 7000)
    assert [slots.owners[slot] for slot in (16001, 16002, 16003)] == [
        NodeAddress("10.0.0.1", port) for port in (6380, 6381, 6382)
    ]
    assert len(slots.owners) == SLOT_COUNT


def test_slots_that_nobody_serves_have_no_owner() -> None:
    slots = SlotMap.from_reply(REPLY, ASKED)
    assert slots.owners[16004] is None
    assert slots.owners.count(None) == SLOT_COUNT - 16004
    assert SlotMap.empty().owners.count(None) == SLOT_COUNT
    assert SlotMap.empty().masters() == []


def test_masters_are_named_once_and_in_order() -> None:
    reply = [[0, 1, [b"b", 1]], [2, 3, [b"a", 2]], [4, 5, [b"b", 1]]]
    assert SlotMap.from_reply(reply, ASKED).masters() == [NodeAddress("a", 2), NodeAddress("b", 1)]


def test_move_changes_one_slot_alone() -> None:
    slots = SlotMap.from_reply(REPLY, ASKED)
    slots.move(50, NodeAddress("new", 1))
    assert slots.owners[49] == slots.owners[51] == NodeAddress("10.0.0.1", 6379)
    assert slots.owners[50] == NodeAddress("new", 1)


@pytest.mark.parametrize(
    ("node", "text"),
    [(NodeAddress("a", 1), "a:1"), (NodeAddress("::1", 2), "[::1]:2")],
)
def test_address_is_written_as_people_write_it(node: NodeAddress, text: str) -> None:
    assert str(node) == text
