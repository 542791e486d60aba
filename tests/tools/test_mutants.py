"""What the mutation run changes, and what it leaves alone."""

from __future__ import annotations

import ast

import pytest

from tools.mutants.operators import meaning_of, mutants_of
from tools.mutants.rooms import ROOMS


def changed(source: str) -> list[str]:
    """The module as each mutant makes it."""
    found = []
    for number in range(len(mutants_of(ast.parse(source)))):
        tree = ast.parse(source)
        mutants_of(tree)[number].apply()
        compile(tree, "changed", "exec")
        found.append(ast.unparse(tree))
    return found


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = a < b == c", ["x = a <= b == c", "x = a >= b == c", "x = a < b != c"]),
        ("x = a is None", ["x = a is not None"]),
        ("x = a and b", ["x = a or b", "x = not a and b", "x = a and (not b)"]),
        ("x = not a", ["x = a"]),
        ("x = b if a else c", ["x = b if not a else c"]),
        ("x = [a for a in b if a]", ["x = [a for a in b if not a]"]),
        ("x = a // b", ["x = a * b"]),
        ("x = -a", ["x = a"]),
        ("x = min(a)", ["x = max(a)"]),
        ("x = a.startswith(b)", ["x = a.endswith(b)"]),
        ("x = 1", ["x = 2"]),
        ("x = 0.5", ["x = 1.5"]),
        ("x = True", ["x = False"]),
        ("x = 'a'", ["x = 'XXaXX'"]),
        ("x = b''", ["x = b'XXXX'"]),
        ("x = f'a{b}'", ["x = f'XXaXX{b}'"]),
        ("x += a", ["pass", "x -= a"]),
        ("x.y = a", ["pass"]),
        ("x[y]: int = a", ["pass"]),
        ("f(a)", ["pass"]),
        ("del x", ["pass"]),
        ("raise E", ["pass"]),
        ("raise E('option', 'words for people')", ["pass", "raise E('XXoptionXX', 'words for people')"]),
        ("while a:\n    break", ["while not a:\n    break", "while a:\n    continue"]),
        ("def f(a=1):\n    return a", ["def f(a=2):\n    return a", "def f(a=1):\n    return None"]),
    ],
)  # fmt: skip
def test_small_slips(source: str, mutants: list[str]) -> None:
    assert changed(source) == mutants


@pytest.mark.parametrize(
    "source",
    [
        "'words'",
        "x = a",
        "x = None",
        "x = 'it says: why'",
        "x = f'{a} of {b} are missing'",
        "x = f'{a:>8}'",
        "__all__ = ['x']",
        "x: Literal['a']",
        "X: TypeAlias = 'Y'",
        "X = Literal['a', 'b']",
        "V = TypeVar('V')",
        "x = cast('X', y)",
        "if TYPE_CHECKING:\n    x = 1",
        "raise AssertionError('a')",
        "def f(a: 'A') -> 'B':\n    ...",
        "@cached(size=1)\ndef f():\n    return",
        "@overload\ndef f(a=1):\n    ...",
        "class A(Protocol):\n    x = 1",
        "class A(Struct, frozen=True):\n    x: int",
        "class A:\n    __slots__ = ('x',)",
    ],
)
def test_what_no_behaviour_follows_from_is_left_alone(source: str) -> None:
    assert changed(source) == []


def test_mutant_says_where_it_is_and_what_it_changes() -> None:
    (mutant,) = mutants_of(ast.parse("\nx = a == b"))
    assert (mutant.line, mutant.operator) == (2, "comparison")
    assert (mutant.before, mutant.after) == ("a == b", "a != b")


def test_words_for_people_may_change_without_a_new_run() -> None:
    """But not what they stand in, nor a word that is data."""
    module = "def f(a):\n    'Do it.'\n    raise E('option', f'{a} is too long', 'it is too long')"
    said = meaning_of(ast.parse(module))
    for old, new in (("Do it.", "Do that."), ("too long", "much too long")):
        assert meaning_of(ast.parse(module.replace(old, new))) == said
    for old, new in (("'option'", "'options'"), ("raise", "return"), ("f(a)", "f(b)")):
        assert meaning_of(ast.parse(module.replace(old, new))) != said


@pytest.mark.parametrize("name", [room.name for room in ROOMS])
def test_each_room_has_tests_and_hardly_awaits(name: str) -> None:
    """An event can ack itself; beside that nothing waits."""
    (room,) = (room for room in ROOMS if room.name == name)
    assert room.tests
    tree = ast.parse(room.path.read_text(encoding="utf-8"))
    waits = [node for node in ast.walk(tree) if isinstance(node, ast.Await)]
    assert len(waits) <= (name == "streaming.wire")
