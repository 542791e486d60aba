"""Arguments of functions as payloads: one JSON object that Go reads, checked on both sides."""

from __future__ import annotations

import enum
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial, wraps
from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.errors import ConfigurationError, DecodeError
from pulsewire.tasks.apps.signature import Arguments, Results
from pulsewire.tasks.task import Task


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    city: str
    lines: list[str] = field(default_factory=list)


class Order(msgspec.Struct):
    number: int
    ship_to: Address | None = None


class Point(TypedDict):
    x: float
    y: float


class Connection:
    """What no JSON can say."""


def round_trip(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `function` with what arrives of these arguments."""
    arguments = Arguments(function)
    there, named = arguments.decode(arguments.encode(args, kwargs))
    return function(*there, **named)


# --- the bytes


def test_arguments_are_one_json_object() -> None:
    """What a Go program reads and writes for the same task."""

    def welcome(user_id: int, greeting: str = "hi") -> None: ...

    arguments = Arguments(welcome)
    assert arguments.encode((), {"user_id": 42}) == b'{"user_id":42}'
    assert arguments.encode((42, "yo"), {}) == b'{"greeting":"yo","user_id":42}'
    assert arguments.decode(b'{"user_id": 42, "greeting": "yo"}') == (
        [],
        {"user_id": 42, "greeting": "yo"},
    )


def test_equal_calls_are_equal_bytes() -> None:
    """However a call is written, it holds the same unique lock."""

    def export(rows: dict[str, int], tags: set[str], limit: int = 5) -> None: ...

    arguments = Arguments(export)
    tags = {"one", "two", "three"}
    one = arguments.encode(({"b": 1, "a": 2}, tags), {"limit": 3})
    other = arguments.encode(
        (), {"limit": 3, "tags": {"three", "two", "one"}, "rows": {"a": 2, "b": 1}}
    )
    assert one == other == b'{"limit":3,"rows":{"a":2,"b":1},"tags":["one","three","two"]}'


def test_argument_that_was_not_given_is_left_to_the_worker() -> None:
    """Its default may have changed by then, and it counts."""

    def old(a: int, b: int = 1) -> tuple[int, int]:
        return a, b

    def new(a: int, b: int = 2) -> tuple[int, int]:
        return a, b

    _, named = Arguments(new).decode(Arguments(old).encode((7,), {}))
    assert new(**named) == (7, 2)


def test_no_payload_is_no_arguments() -> None:
    """The tools of asynq enqueue without one."""

    def tick(every: int = 5) -> int:
        return every

    assert Arguments(tick).encode((), {}) == b"{}"
    assert Arguments(tick).decode(b"") == ([], {})


def test_field_without_a_parameter_is_passed_over() -> None:
    """A newer producer may say more than this worker knows, as between Go programs."""

    def welcome(user_id: int) -> None: ...

    assert Arguments(welcome).decode(b'{"user_id":1,"locale":"nl"}') == ([], {"user_id": 1})


# --- kinds of values


def test_every_kind_of_value_arrives_as_its_annotation_says() -> None:
    def everything(  # type: ignore[no-untyped-def]  # annotations may be missing
        colour: Colour,
        address: Address,
        order: Order,
        point: Point,
        when: datetime,
        day: date,
        span: timedelta,
        key: UUID,
        price: Decimal,
        data: bytes,
        either: int | list[int] | None,
        word: Literal["a", "b"],
        pair: tuple[int, str],
        few: Annotated[int, msgspec.Meta(ge=0, le=9)],
        whatever: object,
        unsaid,  # noqa: ANN001  # as above
    ) -> dict[str, Any]:
        return locals()

    given_values = {
        "colour": Colour.BLUE,
        "address": Address("Utrecht", ["Oudegracht 1"]),
        "order": Order(7, Address("Gent")),
        "point": {"x": 1.5, "y": -2.0},
        "when": datetime(2026, 11, 22, 8, 30, tzinfo=UTC),
        "day": date(2026, 11, 22),
        "span": timedelta(hours=1, milliseconds=5),
        "key": UUID(int=5),
        "price": Decimal("12.50"),
        "data": b"\x00\xff",
        "either": [1, 2],
        "word": "b",
        "pair": (1, "x"),
        "few": 9,
        "whatever": {"any": [1, None]},
        "unsaid": [True, "x"],
    }
    assert round_trip(everything, **given_values) == given_values


@given(
    st.dictionaries(
        st.text(max_size=3), st.integers(-(2**60), 2**60) | st.text() | st.none(), max_size=4
    ),
    st.lists(st.booleans() | st.floats(allow_nan=False, allow_infinity=False), max_size=4),
)
def test_plain_values_arrive_as_they_were(one: dict[str, Any], many: list[Any]) -> None:
    def keep(one: Any, *, many: Any) -> tuple[Any, Any]:
        return one, many

    assert round_trip(keep, one, many=many) == (one, many)


def test_parameters_may_be_called_anything() -> None:
    """Also like what a Struct has itself, or a decoder."""

    def odd(__init__: int, class_: int, _x: int, __struct_fields__: int, field0: int) -> list[int]:
        return [__init__, class_, _x, __struct_fields__, field0]

    assert round_trip(odd, 1, 2, 3, 4, 5) == [1, 2, 3, 4, 5]


def test_positional_only_and_keyword_only_parameters() -> None:
    def mixed(a: int = 1, b: int = 2, /, c: int = 3, *, d: int = 4) -> tuple[int, ...]:
        return a, b, c, d

    assert round_trip(mixed) == (1, 2, 3, 4)
    assert round_trip(mixed, 5, 6, 7, d=8) == (5, 6, 7, 8)
    there, named = Arguments(mixed).decode(b'{"b":9,"d":0}')
    assert mixed(*there, **named) == (1, 9, 3, 0)


def test_function_of_bytes_gets_the_payload_as_it_is() -> None:
    """For payloads that are no JSON, or that Go has defined."""

    def raw(payload: bytes) -> bytes:
        return payload

    arguments = Arguments(raw)
    assert arguments.encode((b"\x00{",), {}) == b"\x00{"
    assert arguments.encode((), {"payload": bytearray(b"x")}) == b"x"
    assert arguments.decode(b"\x00{") == ([], {"payload": b"\x00{"})
    with pytest.raises(TypeError, match="takes bytes, not str"):
        arguments.encode(("text",), {})


def test_function_of_optional_bytes_has_its_default_where_nothing_came() -> None:
    def raw(payload: bytes = b"default") -> bytes:
        return payload

    def needed(payload: bytes) -> bytes:
        return payload

    assert Arguments(raw).encode((), {}) == b""
    assert Arguments(raw).decode(b"") == ([], {})
    assert Arguments(raw).decode(b"x") == ([], {"payload": b"x"})
    assert Arguments(needed).decode(b"") == ([], {"payload": b""})


def test_arguments_say_what_a_person_wants_to_know() -> None:
    def welcome(user_id: int, name: str = "") -> None: ...

    def sweep(share: float = 0.0) -> None: ...

    arguments = Arguments(welcome)
    assert arguments.function.endswith("welcome()")
    assert repr(arguments) == f"<Arguments {arguments.function} {inspect.signature(welcome)}>"
    assert arguments.are_optional is False
    assert Arguments(sweep).are_optional is True


def test_bytes_beside_another_parameter_are_json() -> None:
    """As Go writes a []byte: base64."""

    def keep(name: str, data: bytes) -> None: ...

    assert Arguments(keep).encode(("a", b"\xff\x00"), {}) == b'{"data":"/wA=","name":"a"}'


# --- refusals


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'user_id'"),
        ((1, "x", 3), {}, "too many positional arguments"),
        ((1,), {"user_id": 2}, "multiple values for argument 'user_id'"),
        ((1,), {"colour": "red"}, "unexpected keyword argument 'colour'"),
        (("42",), {}, "Expected `int`, got `str` - at `$.user_id`"),
        ((1, float("nan")), {}, "Expected `float`, got `null` - at `$.share`"),
        ((Connection(),), {}, "objects of type Connection have no form in JSON"),
        (("\ud800",), {}, "surrogates"),
    ],
)
def test_call_that_cannot_be_a_task_is_a_type_error(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    """It is told to the caller, where its cause is, and not to a worker that can do nothing about it."""

    def welcome(user_id: int, share: float = 0.0) -> None: ...

    with pytest.raises(TypeError) as raised:
        Arguments(welcome).encode(args, kwargs)
    assert words in str(raised.value)
    assert "welcome()" in str(raised.value)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b'{"user_id":"42"}', "Expected `int`, got `str` - at `$.user_id`"),
        (b"{}", "missing required field `user_id`"),
        (b"", "missing required field `user_id`"),
        (b"[42]", "Expected `object`, got `array`"),
        (b"\x80binary", "malformed"),
        (b'{"user_id":1,"name":"\xff"}', "utf-8"),
        (b'{"user_id":1,"home":{"lines":[]}}', "missing required field `city` - at `$.home`"),
        (b'{"x":' + b"[" * 100_000, "recursion"),
    ],
)
def test_payload_that_does_not_fit_names_the_field(payload: bytes, words: str) -> None:
    def welcome(user_id: int, name: str = "", home: Address | None = None) -> None: ...

    with pytest.raises(DecodeError) as raised:
        Arguments(welcome).decode(payload)
    assert words.lower() in str(raised.value).lower()
    assert "welcome()" in str(raised.value)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def many(*args: int) -> None: ...


def named(**kwargs: int) -> None: ...


def method(self, user_id: int) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001


def class_method(cls, user_id: int) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001


@dataclass
class Early:
    """The part that has no form comes before the type itself."""

    db: Connection
    next: Early | None = None


@dataclass
class Late:
    """And here behind it."""

    next: Late | None = None
    db: Connection | None = None


def with_early(one: Early) -> None: ...


def with_late(one: Late) -> None: ...


def with_task(task: Task, user_id: int) -> None: ...


def with_connection(db: Connection) -> None: ...


def with_connections(db: dict[str, list[Connection | None]]) -> None: ...


def two_of_text(when: datetime | UUID) -> None: ...


def two_objects(which: Address | Order) -> None: ...


def unknown(user: Nobody) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # which is the point


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (generator, "it yields"),
        (async_generator, "it yields"),
        (many, "take a list"),
        (named, "take a dict"),
        (method, "is a method"),
        (class_method, "is a method"),
        (with_early, "objects of type Connection have no form in JSON"),
        (with_late, "objects of type Connection have no form in JSON"),
        (with_task, "current_task()"),
        (with_connection, "'db' of tests.tasks.apps.test_signature.with_connection()"),
        (with_connections, "objects of type Connection have no form in JSON"),
        (two_of_text, "not contain more than one str-like type"),
        (two_objects, "not contain more than one dict-like type"),
        (unknown, "name 'Nobody' is not defined"),
        (Connection, "it is not a function"),
        (partial(with_connection, Connection()), "it is not a function"),
        (print, "it is not a function"),
    ],
)
def test_function_that_cannot_be_a_task_is_refused_when_it_is_decorated(
    function: Any, words: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Arguments(function)
    assert words in str(raised.value)


def test_decorated_function_has_the_parameters_of_what_is_inside() -> None:
    def inside(user_id: int) -> int:
        return user_id

    @wraps(inside)
    def outside(*args: Any, **kwargs: Any) -> int:
        return inside(*args, **kwargs)

    assert round_trip(outside, 42) == 42
    with pytest.raises(TypeError, match="Expected `int`"):
        Arguments(outside).encode(("42",), {})


def test_type_that_contains_itself_is_looked_at_once() -> None:
    arguments = Arguments(plant)
    tree = Tree(1, [Tree(2), Tree(3)])
    assert arguments.decode(arguments.encode((tree,), {})) == ([], {"tree": tree})


@dataclass
class Tree:
    number: int
    children: list[Tree] = field(default_factory=list)


def plant(tree: Tree) -> None: ...


# --- results


async def ship(order: Order) -> Address:
    return Address(str(order.number))


def connect() -> Connection:
    return Connection()


def say_nothing(word):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # annotations may be missing
    return word


def test_result_arrives_as_the_function_says() -> None:
    results = Results(ship)
    assert results.encode(Address("Gent")) == b'{"city":"Gent","lines":[]}'
    assert results.decode(b'{"city":"Gent"}') == Address("Gent")
    assert Results(say_nothing).decode(b"[1,2]") == [1, 2]


def test_result_of_another_shape_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="missing required field `city`"):
        Results(ship).decode(b"{}")


def test_result_without_a_form_in_json() -> None:
    """A function may return what it likes, as long as nobody wants it to be kept."""
    with pytest.raises(TypeError, match="the result of .*connect\\(\\) cannot be kept"):
        Results(connect).encode(Connection())
    with pytest.raises(ConfigurationError, match="cannot be read from JSON"):
        Results(connect).decode(b"{}")


# --- pydantic


def test_pydantic_models_travel_alone_and_inside_others() -> None:
    """A model is asked itself: aliases, strict types and its own rules hold."""
    pydantic = pytest.importorskip("pydantic")

    class User(pydantic.BaseModel):  # type: ignore[name-defined,misc]  # pydantic may be missing
        model_config = pydantic.ConfigDict(
            strict=True, ser_json_bytes="base64", val_json_bytes="base64"
        )
        user_id: int = pydantic.Field(alias="userId", gt=0)
        born: date
        token: bytes = b""

    def welcome(user, friends): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202

    welcome.__annotations__ = {"user": User, "friends": dict[str, list[User]]}
    arguments = Arguments(welcome)
    user = User(userId=42, born=date(2000, 1, 2), token=b"\xff")
    payload = arguments.encode((user, {"close": [user]}), {})
    assert payload.startswith(
        b'{"friends":{"close":[{"born":"2000-01-02","token":"_w==","userId":42}]}'
    )
    assert arguments.decode(payload) == ([], {"user": user, "friends": {"close": [user]}})
    with pytest.raises(DecodeError) as raised:
        arguments.decode(b'{"user":{"userId":0,"born":"x"},"friends":{}}')
    assert "userId: Input should be greater than 0; born: " in str(raised.value)
    assert "at `$.user`" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert Results(partial_return(User)).decode(Results(welcome).encode(user)) == user

    class Team(pydantic.BaseModel):  # type: ignore[name-defined,misc]  # as above
        lead: User

    def gather(team): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202

    gather.__annotations__ = {"team": Team}
    with pytest.raises(DecodeError) as raised:
        Arguments(gather).decode(b'{"team":{"lead":{"userId":0,"born":"2000-01-02"}}}')
    assert "lead.userId: Input should be greater than 0" in str(raised.value)


def partial_return(kind: type) -> Callable[..., Any]:
    def function() -> None: ...

    function.__annotations__ = {"return": kind}
    return function


class Model:
    """What asks for as little as a model of pydantic's may."""

    @classmethod
    def model_validate_json(cls, data: bytes) -> Model:
        raise ValueError("not today")


def with_model(one: Model) -> None: ...


def test_complaint_without_details_is_passed_on() -> None:
    with pytest.raises(DecodeError, match="not today"):
        Arguments(with_model).decode(b'{"one":{}}')
