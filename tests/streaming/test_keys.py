"""What one stream leaves in Redis, by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire import InvalidName
from pulsewire._redis.namespace import Namespace
from pulsewire._redis.slots import key_slot
from pulsewire.streaming.keys import StreamKeys

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \0*?[]{}"),
    min_size=1,
    max_size=512,
)


def test_keys_are_go_s_and_their_bookkeeping() -> None:
    keys = StreamKeys(Namespace(), "users")
    assert keys.main == "pulse:stream:users"
    assert keys.positions == "pulsewire:{pulse:stream:users}:positions"
    assert keys.once("order 7") == "pulsewire:{pulse:stream:users}:once:order 7"


def test_namespace_prefixes_every_key() -> None:
    keys = StreamKeys(Namespace("shop"), "users")
    assert keys.main == "shop:pulse:stream:users"
    assert keys.positions == "shop:pulsewire:{shop:pulse:stream:users}:positions"


def test_foreign_stream_has_the_key_it_was_given() -> None:
    keys = StreamKeys(Namespace("shop"), "tickets", "other:{tag}:key")
    assert keys.main == "shop:other:{tag}:key"
    assert StreamKeys(Namespace(), "tickets", "tickets").main == "tickets"


@given(names, st.sampled_from(["", "shop"]), st.text(max_size=20), st.one_of(st.none(), names))
def test_all_keys_share_a_slot(name: str, prefix: str, once: str, foreign: str | None) -> None:
    """So that one script may use them on a cluster."""
    keys = StreamKeys(Namespace(prefix), name, foreign)
    slot = key_slot(keys.main)
    assert key_slot(keys.positions) == slot
    assert key_slot(keys.once(once)) == slot


@pytest.mark.parametrize("name", ["{shop}:users", "a{shop}", "{a}{b}", "x{y}}"])
def test_names_with_a_hash_tag_keep_their_slot(name: str) -> None:
    for keys in (StreamKeys(Namespace("n"), name), StreamKeys(Namespace(), "s", name)):
        assert key_slot(keys.positions) == key_slot(keys.once("k}{")) == key_slot(keys.main)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            "a b",
            "a*",
            "a?",
            "[a]",
            "a]",
            "nul\0",
            "x" * 513,
            "\ud800",
            "{",
            "}",
            "{}",
            "a{}b",
            "}{",
        ),
        *(None, 5, b"bytes"),
    ],
)
def test_illegal_names_are_refused(name: Any) -> None:
    with pytest.raises(InvalidName) as caught:
        StreamKeys(Namespace(), name)
    assert caught.value.what == "stream"
    if name is not None:
        with pytest.raises(InvalidName) as caught:
            StreamKeys(Namespace(), "fine", name)
        assert caught.value.what == "key"


@pytest.mark.parametrize("name", ["a", "x" * 512, "line\nbreak\n", "ü", "a:b", "{a}"])
def test_legal_names_are_those_of_go(name: str) -> None:
    assert StreamKeys(Namespace(), name).main == f"pulse:stream:{name}"


def test_pattern_finds_the_main_keys_of_all_streams() -> None:
    assert StreamKeys.pattern(Namespace()) == "pulse:stream:*"
    assert StreamKeys.pattern(Namespace("shop")) == "shop:pulse:stream:*"


@given(names)
def test_name_is_found_in_the_key(name: str) -> None:
    space = Namespace("shop")
    assert StreamKeys.name_of(space, StreamKeys(space, name).main) == name
