"""Each key in order, different keys side by side."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from pulsewire.streaming.ordering import KeyedOrder


def test_second_of_a_key_waits_for_the_first() -> None:
    order: KeyedOrder[str] = KeyedOrder()
    assert order.offer("a", "a1") is True
    assert order.offer("a", "a2") is False
    assert order.offer("b", "b1")
    assert order.parked == 1
    assert order.done("a") == "a2"
    assert order.parked == 0
    assert order.done("a") is None
    assert order.offer("a", "a3")


def test_none_and_tuples_are_keys_too() -> None:
    order: KeyedOrder[int] = KeyedOrder()
    assert order.offer(None, 1)
    assert not order.offer(None, 2)
    assert order.offer(("a", 1), 3)
    assert order.done(None) == 2


def test_what_is_parked_can_be_abandoned() -> None:
    """When handling ends for good; what runs is not among it."""
    order: KeyedOrder[int] = KeyedOrder()
    for number, key in enumerate("aabab"):
        order.offer(key, number)
    assert sorted(order.abandon()) == [1, 3, 4]
    assert order.parked == 0
    assert order.offer("a", 5)


@given(
    st.lists(st.sampled_from("abc"), max_size=40),
    st.lists(st.integers(min_value=0), max_size=80),
)
def test_any_history_keeps_each_key_in_order(keys: list[str], choices: list[int]) -> None:
    """Whatever order things end in: at most one of a key runs, all run, each key's in the order they came."""
    order: KeyedOrder[tuple[str, int]] = KeyedOrder()
    running: dict[Hashable, tuple[str, int]] = {}
    begun: list[tuple[str, int]] = []
    waiting = list(enumerate(keys))

    def begin(item: tuple[str, int]) -> None:
        assert item[0] not in running
        running[item[0]] = item
        begun.append(item)

    for choice in [*choices, *[0] * 200]:
        if waiting and (choice % 2 == 0 or not running):
            number, key = waiting.pop(0)
            if order.offer(key, (key, number)):
                begin((key, number))
        elif running:
            key = sorted(map(str, running))[choice % len(running)]
            del running[key]
            following = order.done(key)
            if following is not None:
                begin(following)
    assert not waiting
    assert not running
    assert order.parked == 0
    assert sorted(begun, key=lambda item: item[1]) == [(key, n) for n, key in enumerate(keys)]
    for key in "abc":
        numbers = [number for owner, number in begun if owner == key]
        assert numbers == sorted(numbers)
