"""Names of keys: prefixes, and bookkeeping that a cluster keeps beside its main key."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pulsewire._redis.namespace import Namespace, check_braces, hash_tag
from pulsewire._redis.slots import key_slot
from pulsewire.errors import InvalidName

characters = st.characters(exclude_characters=" \0*?[]", exclude_categories=["Cs"])
names = st.text(characters, min_size=1, max_size=60)
braced = st.text("{}ab:", min_size=1, max_size=12)
prefixes = st.one_of(
    st.just(""),
    st.text(
        st.characters(exclude_characters=" \0*?[]{}", exclude_categories=["Cs"]),
        min_size=1,
        max_size=20,
    ),
)


def accepted(name: str) -> str:
    """`name`, if a stream may have it."""
    try:
        return check_braces("stream", name)
    except InvalidName:
        assume(False)
        raise


@given(prefix=prefixes, name=names | braced, parts=st.lists(names | braced, max_size=3))
def test_bookkeeping_hashes_to_the_slot_of_its_main_key(
    prefix: str, name: str, parts: list[str]
) -> None:
    """Whatever the names are: a script that touches both works on a cluster."""
    space = Namespace(prefix)
    main = space.key("pulse", "stream", accepted(name))
    assert key_slot(space.beside(main, *parts)) == key_slot(main)


@given(prefix=prefixes, name=names | braced)
def test_bookkeeping_of_foreign_keys_hashes_to_their_slot_too(prefix: str, name: str) -> None:
    space = Namespace(prefix)
    main = space.key(accepted(name))
    assert key_slot(space.beside(main, "positions")) == key_slot(main)


@given(prefix=prefixes, one=names | braced, other=names | braced)
def test_different_main_keys_have_different_bookkeeping(prefix: str, one: str, other: str) -> None:
    """Two streams that share a hash tag do not share their positions."""
    assume(one != other)
    space = Namespace(prefix)
    first, second = space.key(accepted(one)), space.key(accepted(other))
    assert space.beside(first, "positions") != space.beside(second, "positions")


def test_keys_carry_the_prefix_and_the_parts() -> None:
    assert Namespace("shop").key("pulse", "stream", "orders") == "shop:pulse:stream:orders"
    assert Namespace().key("pulse", "stream", "orders") == "pulse:stream:orders"


def test_bookkeeping_is_named_as_the_design_says() -> None:
    space = Namespace("shop")
    main = space.key("pulse", "stream", "orders")
    assert space.beside(main, "positions") == (
        "shop:pulsewire:{shop:pulse:stream:orders}:positions"
    )
    assert Namespace().beside("pulse:stream:{eu}x", "positions") == (
        "pulsewire:{eu}:pulse:stream:{eu}x:positions"
    )


@given(prefix=prefixes, name=names | braced)
def test_everything_a_namespace_names_begins_with_its_prefix(prefix: str, name: str) -> None:
    """So that an ACL with `~prefix:*` is enough."""
    assume(prefix)
    space = Namespace(prefix)
    main = space.key("pulse", "stream", accepted(name))
    assert main.startswith(f"{prefix}:")
    assert space.beside(main, "positions").startswith(f"{prefix}:")


@pytest.mark.parametrize("prefix", ["a b", "a*", "x" * 513, "a\0"])
def test_namespace_follows_the_rules_of_names(prefix: str) -> None:
    with pytest.raises(InvalidName) as caught:
        Namespace(prefix)
    assert caught.value.what == "namespace"


@pytest.mark.parametrize("prefix", ["{shop}", "a{", "}b"])
def test_namespace_with_braces_is_refused(prefix: str) -> None:
    """It would move every key into one slot."""
    with pytest.raises(InvalidName, match="slot") as caught:
        Namespace(prefix)
    assert caught.value.what == "namespace"


@pytest.mark.parametrize("name", ["{eu}", "{eu}:orders", "orders{eu}", "a}b{c}", "plain", "{{x}"])
def test_name_with_a_hash_tag_is_accepted(name: str) -> None:
    assert check_braces("stream", name) == name


@pytest.mark.parametrize("name", ["{", "}", "a{b", "a}b", "{}", "{}{a}", "}{"])
def test_name_with_braces_that_are_no_tag_is_refused(name: str) -> None:
    assert hash_tag(name) == name
    with pytest.raises(InvalidName, match="hash tag"):
        check_braces("stream", name)
