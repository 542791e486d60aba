"""What one map leaves in Redis, by name, and where its notices are heard."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import InvalidName
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.slots import key_slot
from pulsewire.rmap.keys import MapKeys

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \0*?[]{}"),
    min_size=1,
    max_size=512,
)
tagged = st.builds("{}{{{}}}{}".format, names, names, names).filter(lambda name: len(name) <= 512)
spaces = st.sampled_from(["", "shop"]).map(Namespace)


def test_content_and_channel_are_go_s() -> None:
    """Byte for byte (spec/pulse.md 0): Go programs read the same hash and hear the same channel."""
    keys = MapKeys(Namespace(), "flags")
    assert keys.content == "map:flags:content"
    assert keys.updates(sharded=False) == "map:flags:updates"


def test_writer_is_beside_the_content() -> None:
    keys = MapKeys(Namespace(), "flags")
    assert keys.writer("01J") == "pulsewire:{map:flags:content}:writer:01J"


def test_sharded_channel_is_beside_the_content() -> None:
    """SPUBLISH from a script needs the slot of its key, and Go's name for the channel has another one."""
    keys = MapKeys(Namespace(), "flags")
    assert keys.updates(sharded=True) == "pulsewire:{map:flags:content}:updates"


def test_sharded_channel_of_a_tagged_name_is_go_s() -> None:
    keys = MapKeys(Namespace(), "{shop}flags")
    assert keys.updates(sharded=True) == keys.updates(sharded=False) == "map:{shop}flags:updates"


def test_namespace_prefixes_every_key_and_channel() -> None:
    keys = MapKeys(Namespace("shop"), "flags")
    assert keys.content == "shop:map:flags:content"
    assert keys.writer("01J") == "shop:pulsewire:{shop:map:flags:content}:writer:01J"
    assert keys.updates(sharded=False) == "shop:map:flags:updates"
    assert keys.updates(sharded=True) == "shop:pulsewire:{shop:map:flags:content}:updates"


@given(spaces, names | tagged, st.text(max_size=26))
def test_keys_and_sharded_channel_share_a_slot(space: Namespace, name: str, session: str) -> None:
    """So that one script may use them on a cluster."""
    keys = MapKeys(space, name)
    slot = key_slot(keys.content)
    assert key_slot(keys.writer(session)) == slot
    assert key_slot(keys.updates(sharded=True)) == slot


@given(spaces, names | tagged)
def test_name_is_found_in_the_key(space: Namespace, name: str) -> None:
    content = MapKeys(space, name).content
    assert MapKeys.name_of(space, content) == name
    assert fnmatch.fnmatchcase(content, MapKeys.pattern(space))


def test_pattern_finds_contents_alone() -> None:
    """What lies beside a content is no map."""
    space = Namespace("shop")
    keys, pattern = MapKeys(space, "flags"), MapKeys.pattern(space)
    assert fnmatch.fnmatchcase(keys.content, pattern)
    assert not fnmatch.fnmatchcase(keys.writer("01J"), pattern)
    assert not fnmatch.fnmatchcase(MapKeys(Namespace(), "flags").content, pattern)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a b", "a*", "a?", "[a]", "a]", "nul\0", "x" * 513, "\ud800"),
        *("{", "}", "{}", "a{}b", "}{", None, 5, b"bytes"),
    ],
)
def test_illegal_names_are_refused(name: Any) -> None:
    with pytest.raises(InvalidName) as caught:
        MapKeys(Namespace(), name)
    assert caught.value.what == "map"


@pytest.mark.parametrize("name", ["a", "x" * 512, "line\nbreak\n", "ü", "a:b", "a=b", "{a}"])
def test_legal_names_are_those_of_go(name: str) -> None:
    """A `=` is forbidden in the keys of a map, not in its name."""
    assert MapKeys(Namespace(), name).content == f"map:{name}:content"
