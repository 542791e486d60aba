"""How values look: tables and colours on a terminal, plain lines and JSON elsewhere.

Whoever prints goes through here, so that a pipe or a log file never gets a control code, a frame or a wrapped line.
Knows nothing of streams and maps.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "as_json",
    "columns",
    "err",
    "fail",
    "fields",
    "how_long",
    "how_many",
    "how_much",
    "is_terminal",
    "json_document",
    "json_line",
    "note",
    "out",
    "outcome",
    "raw",
    "readable",
    "say",
    "sentence",
    "table",
    "warn",
]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_KIBI = 1024
_GAP = "  "
_BETWEEN = 3
"""Columns of a terminal between two of a framed table."""
_LEGIBLE = 8
"""Columns of a terminal that a long cell needs to be read when it is folded."""
_NOTHING = ("0", "-", "")
"""What a cell says that says nothing."""


def is_terminal() -> bool:
    """Whether a person looks at the output as it appears."""
    return out.is_terminal


def say(text: str = "", style: str = "") -> None:
    """Print one line, whatever its length."""
    out.print(Text(text, style=style), soft_wrap=True)


def fail(message: str, hint: str = "") -> None:
    """Print an error as one red line on standard error, and what can be done about it below it."""
    err.print(Text(f"error: {message}", style="bold red"), soft_wrap=True)
    if hint:
        err.print(Text(f"hint: {hint}"), soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning as one line on standard error.

    Where both outputs are the terminal it goes through `out`, which moves a live picture out of its way.
    """
    console = out if out.is_terminal and err.is_terminal else err
    console.print(Text(f"warning: {message}", style="yellow"), soft_wrap=True)


def note(message: str) -> None:
    """Print a remark for people as one line on standard error, where it is in no program's way."""
    err.print(Text(message), soft_wrap=True)


def raw(value: bytes) -> None:
    """Print a value and a line end: on a terminal as readable text, elsewhere byte for byte."""
    if is_terminal():
        say(readable(value))
    else:
        typer.echo(value)


def as_json(value: object) -> str:
    """Return one JSON document for programs."""
    return json.dumps(value, indent=2, default=_plain_value)


def json_document(value: object) -> None:
    """Print one JSON document for programs."""
    out.print(Text(as_json(value)), soft_wrap=True)


def outcome(value: object, words: str, *, as_json: bool) -> None:
    """Print what a command has done: as a JSON document for programs, in words for people."""
    if as_json:
        json_document(value)
    else:
        say(words)


def json_line(value: object) -> None:
    """Print one line of JSON, for output that has no end."""
    out.print(Text(json.dumps(value, default=_plain_value)), soft_wrap=True)


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    whole: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Print a table: framed on a terminal, aligned columns elsewhere. A terminal too narrow for it gets row after row.

    Args:
        headings: The heading of each column.
        rows: The cells, as text.
        numbers: Headings of the columns that are aligned to the right.
        whole: Headings of columns that a narrow terminal must not break, since people copy from them.
        spare: Headings of columns that a narrow terminal does without where they say nothing.
    """
    if not is_terminal():
        for line in columns(headings, rows, numbers=numbers):
            say(line)
        return
    if _width(headings, rows) > out.width:
        headings, rows = _without_idle(headings, rows, spare)
    unbroken = {*numbers, *whole}
    if _least_width(headings, rows, unbroken, are_broken=True) > out.width:
        _one_by_one(headings, rows)
        return
    are_broken = _least_width(headings, rows, unbroken, are_broken=False) > out.width
    framed = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        framed.add_column(
            heading.replace(" ", "\n") if are_broken else heading,
            justify="right" if heading in numbers else "left",
            overflow="fold",
            no_wrap=heading in numbers or heading in whole,
        )
    for row in rows:
        framed.add_row(*(Text(cell) for cell in row))
    out.print(framed)


def _width(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of a terminal that a framed table wants."""
    lines = [headings, *rows]
    cells = [max(cell_len(line[column]) for line in lines) for column in range(len(headings))]
    return sum(cells) + _BETWEEN * len(cells)


def _least_width(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    unbroken: Collection[str],
    *,
    are_broken: bool,
) -> int:
    """Columns of a terminal below which a table cannot be read any more, its headings being broken or not."""
    needed = 0
    for column, heading in enumerate(headings):
        cells = max((cell_len(row[column]) for row in rows), default=0)
        words = heading.split() if are_broken else [heading]
        needed += (
            max(
                max(map(cell_len, words), default=0),
                cells if heading in unbroken else min(cells, _LEGIBLE),
            )
            + _BETWEEN
        )
    return needed


def _one_by_one(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as names and values, with an empty line between."""
    for number, row in enumerate(rows):
        if number:
            say()
        fields(dict(zip(headings, row, strict=True)))


def _without_idle(
    headings: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """A table without those of its spare columns that say nothing in any row."""
    kept = [
        column
        for column, heading in enumerate(headings)
        if heading not in spare or any(row[column] not in _NOTHING for row in rows)
    ]
    return [headings[column] for column in kept], [[row[column] for column in kept] for row in rows]


def columns(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()
) -> list[str]:
    """Return the lines of a table as plain text with aligned columns."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return [
        _GAP.join(
            cell.rjust(width) if heading in numbers else cell.ljust(width)
            for heading, cell, width in zip(headings, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


def sentence(text: str, style: str = "") -> None:
    """Print what people read: a terminal breaks it between words, elsewhere it is one line."""
    out.print(Text(text, style=style), soft_wrap=not is_terminal())


def fields(pairs: Mapping[str, str], *, are_sentences: bool = False) -> None:
    """Print names and values, one pair a line.

    Args:
        pairs: The names and their values.
        are_sentences: The values are for reading, not for copying: a terminal breaks them between words.
    """
    if are_sentences and is_terminal():
        grid = Table.grid(padding=(0, len(_GAP)))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in pairs.items():
            grid.add_row(Text(name), Text(value))
        out.print(grid)
        return
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        out.print(Text.assemble((name.ljust(width), "dim"), _GAP, value), soft_wrap=True)


def how_many(number: int | None) -> str:
    """Return a count with separators; a dash when it is not known."""
    return "-" if number is None else f"{number:,}"


def how_long(seconds: float) -> str:
    """Return a duration in the unit a person would choose."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def how_much(size: int | None) -> str:
    """Return a number of bytes in the unit a person would choose; a dash when it is not known."""
    if size is None:
        return "-"
    if size < _KIBI:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= _KIBI
        if amount < _KIBI:
            return f"{amount:.1f} {unit}"
    return f"{amount / _KIBI:.1f} TiB"


def readable(payload: object) -> str:
    """Return a payload as text for one line: UTF-8 where it is that, escaped where it is not."""
    if isinstance(payload, bytes):
        try:
            return _one_line(payload.decode())
        except UnicodeDecodeError:
            return repr(payload)
    if isinstance(payload, str):
        return _one_line(payload)
    if isinstance(payload, Mapping):
        pairs = payload.items()
        return " ".join(f"{readable(name)}={_quoted(readable(value))}" for name, value in pairs)
    return json.dumps(payload, default=_plain_value)


def _one_line(text: str) -> str:
    # A payload is somebody else's text: its control characters must not reach the terminal.
    return text if text.isprintable() else repr(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def _plain_value(value: object) -> object:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
