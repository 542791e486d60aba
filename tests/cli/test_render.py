"""What is printed: plain where nobody looks, and harmless whatever a payload holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from pulsewire.cli import render
from tests.cli.conftest import Screen


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.25, "250.0 ms"),
        (2.5, "2.5 s"),
        (61.0, "1 min 1 s"),
        (7260.0, "2 h 1 min"),
    ],
)
def test_durations_come_in_the_unit_a_person_chooses(seconds: float, text: str) -> None:
    assert render.how_long(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (900, "900 B"),
        (2048, "2.0 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (3 * 1024**4, "3.0 TiB"),
    ],
)
def test_sizes_come_in_the_unit_a_person_chooses(size: int | None, text: str) -> None:
    assert render.how_much(size) == text


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b'{"id": 1}', '{"id": 1}'),
        ("né", "né"),
        (b"\xff\x00", r"b'\xff\x00'"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        (b"two\nlines", r"'two\nlines'"),
        (
            {"whatHappened": "ticket received", "n": "1", "e": ""},
            'whatHappened="ticket received" n=1 e=""',
        ),
        ({"a": 1}, "a=1"),
        ([1, None], "[1, null]"),
        ({"\x1b[31mred": "\n"}, r"'\x1b[31mred'='\n'"),
    ],
)
def test_a_payload_is_one_harmless_line(payload: object, text: str) -> None:
    assert render.readable(payload) == text


def test_columns_are_aligned_and_numbers_stand_right() -> None:
    lines = render.columns(
        ("name", "length"), [("a", "1"), ("orders", "1,000")], numbers=("length",)
    )
    assert lines == ["name    length", "a            1", "orders   1,000"]


def test_a_table_without_a_terminal_has_no_frame_and_is_not_wrapped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    render.table(("name", "value"), [("x" * 150, "y" * 150)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"name{' ' * 148}value", f"{'x' * 150}  {'y' * 150}"]


ROW = ("16725bbf-dcc9-4ccd-bf80-385f76048761", "x" * 60, "3", "0")


@pytest.mark.parametrize("width", [70, 200])
def test_a_terminal_never_breaks_what_people_copy(screen: Screen, width: int) -> None:
    shown = screen(width)
    render.table(("id", "payload", "size", "idle"), [ROW], numbers=("size", "idle"), whole=("id",))
    lines = shown.getvalue().splitlines()
    assert any(ROW[0] in line for line in lines)
    assert all(len(line) <= width for line in lines)


def test_a_narrow_terminal_does_without_spare_columns_that_say_nothing(screen: Screen) -> None:
    headings, rows = ("name", "idle", "busy"), [("x" * 30, "0", "0"), ("y", "-", "7")]
    wide = screen(80)
    render.table(headings, rows, spare=("idle", "busy"))
    assert "idle" in wide.getvalue()
    narrow = screen(40)
    render.table(headings, rows, spare=("idle", "busy"))
    assert "idle" not in narrow.getvalue()
    assert "busy" in narrow.getvalue()


def test_a_terminal_too_narrow_for_a_table_shows_row_after_row(screen: Screen) -> None:
    shown = screen(40)
    headings = ("id", "payload", "size", "idle")
    render.table(headings, [ROW, ("short", "y", "4", "1")], numbers=("size", "idle"), whole=("id",))
    assert shown.getvalue().splitlines() == [
        f"id       {ROW[0]}",
        f"payload  {ROW[1]}",
        "size     3",
        "idle     0",
        "",
        "id       short",
        "payload  y",
        "size     4",
        "idle     1",
    ]


def test_a_narrow_terminal_breaks_headings_before_it_breaks_cells(screen: Screen) -> None:
    headings, rows = ("server", "from the killed one", "end"), [("server 1", "7", "stopped")]
    shown = screen(36)
    render.table(headings, rows, numbers=headings[1:2])
    lines = [line.split() for line in shown.getvalue().splitlines()]
    assert ["server", "1", "7", "stopped"] in lines
    assert ["killed"] in lines


SENTENCE = "one two three four five six seven eight nine ten"


def test_a_terminal_breaks_sentences_between_words_and_under_their_beginning(
    screen: Screen,
) -> None:
    shown = screen(24)
    render.sentence(SENTENCE)
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == [
        "one two three four five",
        "six seven eight nine ten",
    ]
    shown = screen(24)
    render.fields({"why": SENTENCE}, are_sentences=True)
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == [
        "why  one two three four",
        "     five six seven",
        "     eight nine ten",
    ]


def test_without_a_terminal_a_sentence_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    render.sentence(SENTENCE * 5)
    render.fields({"why": SENTENCE * 5, "w": "1"}, are_sentences=True)
    assert capsys.readouterr().out == f"{SENTENCE * 5}\nwhy  {SENTENCE * 5}\nw    1\n"


def test_markup_in_a_name_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    render.say("[red]orders[/red] :smile:")
    render.table(("[b]name",), [("[red]orders",)])
    assert capsys.readouterr().out == "[red]orders[/red] :smile:\n[b]name\n[red]orders\n"


def test_json_takes_bytes_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    render.json_line({"text": b"a", "other": b"\xff", "at": datetime(2024, 1, 2, tzinfo=UTC)})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {
        "text": "a",
        "other": {"hex": "ff"},
        "at": "2024-01-02T00:00:00+00:00",
    }
    assert printed.count("\n") == 1
    with pytest.raises(TypeError, match="object has no form in JSON"):
        render.json_document(object())


def test_an_error_is_one_line_and_the_hint_another(capsys: pytest.CaptureFixture[str]) -> None:
    render.fail("no server " + "x" * 200, "start one")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: no server {'x' * 200}\nhint: start one\n"
