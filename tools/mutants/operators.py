"""What is changed: every mutant of a module, found in its syntax tree. Pure.

Each operator is a small slip that somebody could make, and that a test should notice:

* comparison: `<` becomes `<=` and `>=`, `==` becomes `!=`, `is` becomes `is not`, `in` becomes `not in`
* condition: what is tested for truth is negated; a `not` is dropped
* boolean: `and` becomes `or`
* arithmetic: `+` becomes `-`, `*` becomes `/`, and so on; a minus sign is dropped
* constant: a number grows by one, True becomes False, "a" becomes "XXaXX"; also in defaults and tables
* return: `return x` becomes `return None`
* statement: a call, a raise, a deletion, a change of an attribute or an item is left out
* loop: `break` becomes `continue`
* name: `min` becomes `max`, `any` becomes `all`, `sorted` becomes `list`, and the like

Left alone is what no behaviour follows from, whether a test would see it or not:

* declarations: docstrings, annotations, type variables and aliases, `cast`, decorators, the arguments of a class
  (`frozen=True`), `__all__`, `__slots__`
* bodies of protocols and overloads, and what stands under TYPE_CHECKING
* texts for people: a string with words and blanks between them, an f-string with such a part, and any f-string that is
  raised. A single word that is raised is data (the name of an option), and is changed.
* `raise AssertionError`, which says that its line is never reached
* how a value is formatted (`:>8`), since that is for people, too
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "meaning_of", "mutants_of"]

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
_PAIRS = (
    ("min", "max"),
    ("any", "all"),
    ("floor", "ceil"),
    ("startswith", "endswith"),
    ("removeprefix", "removesuffix"),
    ("lstrip", "rstrip"),
    ("partition", "rpartition"),
    ("lower", "upper"),
)
NAMES = dict(_PAIRS) | {right: left for left, right in _PAIRS} | {"sorted": "list"}

PROSE = re.compile(r"[A-Za-z]{2,}[,;:.]? [A-Za-z(\"']|[A-Za-z)\"'] [A-Za-z]{2,}")
PROSE_PIECE = re.compile(PROSE.pattern + r"|^,? [A-Za-z]{2,}|[A-Za-z]{2,}:? $")
"""In an f-string: what stands before or after a value."""

TYPE_MAKERS = {"TypeVar", "NewType", "ParamSpec"}
NOT_RUN = {"__all__", "__slots__"}
FIELDS_LEFT = {"annotation", "returns", "decorator_list", "format_spec", "type_params"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to one tree.

    Attributes:
        operator: which kind of change.
        line: where.
        before: the code that is changed.
        after: what becomes of it.
        parent: whose field holds the node to be replaced.
        field: its name.
        index: the place in it, where it is a list.
        node: what stands there instead.
    """

    operator: str
    line: int
    before: str
    after: str
    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST

    def apply(self) -> None:
        """Change the tree that the mutant was found in. There is no way back."""
        if self.index is None:
            setattr(self.parent, self.field, self.node)
        else:
            getattr(self.parent, self.field)[self.index] = self.node


def mutants_of(tree: ast.Module) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    found = list(_Finder().inside(tree))
    return sorted(found, key=lambda mutant: mutant.line)


def meaning_of(tree: ast.Module) -> str:
    """All of a module but the words for people in it: where two are alike, so are their mutants."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
        elif isinstance(node, ast.JoinedStr) and _is_prose(node):
            node.values = []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = "" if PROSE.search(node.value) else node.value
    return ast.dump(tree)


class _Finder:
    """A walk through one tree. It knows whether it is inside a `raise`."""

    def __init__(self) -> None:
        self._is_raised = False

    def inside(self, parent: ast.AST) -> Iterator[Mutant]:
        """The mutants of a node's children."""
        for field, value in ast.iter_fields(parent):
            if field in FIELDS_LEFT or (field == "keywords" and isinstance(parent, ast.ClassDef)):
                continue
            children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
            for index, child in children:
                is_type = field == "args" and index == 0 and _name_of(parent) == "cast"
                if isinstance(child, ast.AST) and not is_type and not _is_left(child):
                    yield from self._at(parent, field, index, child)

    def _at(
        self, parent: ast.AST, field: str, index: int | None, node: ast.AST
    ) -> Iterator[Mutant]:
        if isinstance(node, (ast.expr, ast.stmt)):
            is_tested = field in ("test", "ifs", "guard") or isinstance(parent, ast.BoolOp)
            for operator, changed in _changes(node, is_tested=is_tested):
                ast.copy_location(changed, node)
                ast.fix_missing_locations(changed)
                yield Mutant(
                    operator,
                    node.lineno,
                    _shown(node),
                    _shown(changed),
                    parent,
                    field,
                    index,
                    changed,
                )
        if isinstance(node, ast.JoinedStr) and (self._is_raised or _is_prose(node)):
            return
        was_raised = self._is_raised
        self._is_raised |= isinstance(node, ast.Raise)
        yield from self.inside(node)
        self._is_raised = was_raised


def _changes(node: ast.expr | ast.stmt, *, is_tested: bool) -> Iterator[tuple[str, ast.AST]]:
    """The operators that fit a node, each with what it makes of it."""
    match node:
        case ast.stmt():
            yield from _statement_changes(node)
        case ast.Compare():
            yield from _comparison_changes(node)
        case ast.BoolOp():
            swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "boolean", ast.BoolOp(swapped, node.values)
        case ast.UnaryOp():
            yield "condition" if isinstance(node.op, ast.Not) else "arithmetic", node.operand
        case ast.Constant():
            yield from _constant_changes(node.value)
        case _ if is_tested:
            yield "condition", ast.UnaryOp(ast.Not(), node)
    if isinstance(node, ast.BinOp):
        yield "arithmetic", ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    elif isinstance(node, ast.Call):
        yield from _name_changes(node)


def _comparison_changes(node: ast.Compare) -> Iterator[tuple[str, ast.Compare]]:
    for place, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            operators = [*node.ops[:place], other(), *node.ops[place + 1 :]]
            yield "comparison", ast.Compare(node.left, operators, node.comparators)


def _constant_changes(value: object) -> Iterator[tuple[str, ast.Constant]]:
    match value:
        case bool():
            yield "constant", ast.Constant(not value)
        case int() | float():
            yield "constant", ast.Constant(value + 1)
        case str() if not PROSE.search(value):
            yield "constant", ast.Constant(f"XX{value}XX")
        case bytes():
            yield "constant", ast.Constant(b"XX" + value + b"XX")


def _statement_changes(node: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    if isinstance(node, ast.Return):
        if node.value is not None and not _is_none(node.value):
            yield "return", ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Break):
        yield "loop", ast.Continue()
    elif isinstance(node, ast.Continue):
        yield "loop", ast.Break()
    elif isinstance(node, ast.AugAssign):
        yield "statement", ast.Pass()
        changed = ARITHMETIC[type(node.op)]()
        yield "arithmetic", ast.AugAssign(node.target, changed, node.value)
    elif isinstance(node, (ast.Raise, ast.Delete)) or _is_effect(node):
        yield "statement", ast.Pass()


def _is_effect(node: ast.stmt) -> bool:
    """Whether it is a call for its own sake, or changes an attribute or an item."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.Assign):
        return any(isinstance(one, (ast.Attribute, ast.Subscript)) for one in node.targets)
    return (
        isinstance(node, ast.AnnAssign)
        and node.value is not None
        and isinstance(node.target, (ast.Attribute, ast.Subscript))
    )


def _name_changes(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    function = node.func
    if isinstance(function, ast.Name) and function.id in NAMES:
        other: ast.expr = ast.Name(NAMES[function.id], ast.Load())
    elif isinstance(function, ast.Attribute) and function.attr in NAMES:
        other = ast.Attribute(function.value, NAMES[function.attr], ast.Load())
    else:
        return
    yield "name", ast.Call(other, node.args, node.keywords)


# --- what is left alone


def _is_left(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # docstrings, and `...`
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(one, ast.Name) and one.id in NOT_RUN for one in targets):
            return True
        return isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation)
    if isinstance(node, ast.Subscript):
        return _name_of(node.value) == "Literal"
    if isinstance(node, ast.Call):
        return _name_of(node.func) in TYPE_MAKERS
    if isinstance(node, ast.If):
        return _name_of(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.ClassDef):
        return any(_name_of(base) == "Protocol" for base in node.bases)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return any(_name_of(one) == "overload" for one in node.decorator_list)
    if isinstance(node, ast.Raise):
        return node.exc is not None and _name_of(node.exc) == "AssertionError"
    return False


def _name_of(node: ast.AST) -> str:
    """The last name in `a.b.c`, `c[...]` or `c(...)`."""
    if isinstance(node, ast.Call):
        return _name_of(node.func)
    if isinstance(node, ast.Subscript):
        return _name_of(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_prose(node: ast.JoinedStr) -> bool:
    pieces = [one.value for one in node.values if isinstance(one, ast.Constant)]
    return any(isinstance(piece, str) and PROSE_PIECE.search(piece) for piece in pieces)


def _shown(node: ast.AST) -> str:
    """One line of code."""
    if isinstance(node, ast.Constant):
        return repr(node.value)
    return " ".join(ast.unparse(node).split())
