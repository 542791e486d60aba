"""Durations, quoted strings, dates and headers read and are written as in Go: random texts, asked of Go itself."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pulsewire.tasks import option_text
from tests.conformance.conftest import Ask

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]

COUNT = 3_000
UNITS = ("ns", "us", "\u00b5s", "\u03bcs", "ms", "s", "m", "h")
# Assigned for so long that every Python and every Go knows them, or not assigned at all.
CHARACTERS = [
    *map(chr, range(0x500)),
    *"\u00ad\u061c\u200b\u200e\u2028\u2029\u3000\ue000\ufeff\ufffd\uffff",
    *"\u4e2d\uac00\uff21\U0001f600\U000e0001\U0010ffff",
]


class Texts:
    """Random texts, some of them broken."""

    def __init__(self, seed: int) -> None:
        self._choice = random.Random(seed)

    def number(self) -> int:
        """Of 64 bits, of every magnitude."""
        number = self._choice.getrandbits(self._choice.randint(0, 63))
        if self._choice.random() < 0.5:  # with zeros at its end
            number -= number % 10 ** self._choice.randint(0, 18)
        return self._choice.choice((number, -number))

    def duration(self) -> str:
        parts = [self._part() for _ in range(self._choice.choice((1, 1, 2, 3)))]
        text = self._choice.choice(("", "", "-", "+")) + "".join(parts)
        return self.broken(text, "0123456789.-+ smhunx\u00b5") if self._oddly() else text

    def _part(self) -> str:
        whole = str(self._choice.getrandbits(self._choice.choice((3, 7, 24, 40, 63, 64))))
        digits = "".join(self._choice.choices("0123456789", k=self._choice.choice((1, 3, 9, 25))))
        point = self._choice.choice(("", "", f".{digits}", "."))
        return self._choice.choice((whole, whole, whole, "")) + point + self._choice.choice(UNITS)

    def data(self) -> bytes:
        """Some text, sometimes with bytes that are none."""
        pieces = [character.encode() for character in self._choice.choices(CHARACTERS, k=6)]
        if self._oddly():
            pieces.insert(self._choice.randint(0, 6), self._choice.randbytes(1))
        return b"".join(pieces)

    def literal(self) -> str:
        text = option_text.quote(self.data().decode("utf-8", "surrogateescape"))
        mark = self._choice.choice('""""\'`')
        text = mark + text[1:-1] + mark
        return self.broken(text, "\"'`\\xuU0178afn\n\r)") if self._oddly() else text

    def moment(self) -> datetime:
        start = datetime(1, 1, 1, tzinfo=UTC)
        return start + timedelta(microseconds=self._choice.randrange(315_000_000 * 10**9))

    def date(self) -> str:
        text = option_text.format_unix_date(self.moment())
        return self.broken(text, "0123456789 :UTCGM") if self._oddly() else text

    def header(self) -> str:
        key, value = (self.data().decode("utf-8", "replace") for _ in range(2))
        return f"{key.replace('=', '')}={value}"

    def broken(self, text: str, characters: str) -> str:
        """With a character changed, added or taken away."""
        at = self._choice.randrange(len(text))
        added: str = self._choice.choice((*characters, ""))
        return text[:at] + added + text[at + self._choice.randint(0, 1) :]

    def _oddly(self) -> bool:
        return self._choice.random() < 0.3


@pytest.fixture
def ask(go_program: Callable[[str], Ask]) -> Callable[[str, list[str]], list[str | None]]:
    """What Go makes of texts; None of those that it refuses."""
    program = go_program("text")

    def asked(what: str, texts: list[str]) -> list[str | None]:
        answers = program({"do": what, "of": text} for text in texts)
        return [None if "error" in answer else answer["text"] for answer in answers]

    return asked


AskText = Callable[[str, list[str]], list[str | None]]


def tried(read: Callable[[str], Any], text: str) -> Any:
    """What is read, None when the text is refused."""
    try:
        return read(text)
    except ValueError:
        return None


def in_hex(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").hex()


def test_durations_are_written_alike(ask: AskText) -> None:
    texts = Texts(1)
    numbers = [0, 2**63 - 1, -(2**63), *(texts.number() for _ in range(COUNT))]
    theirs = ask("format duration", [str(number) for number in numbers])
    assert [option_text.format_duration(number) for number in numbers] == theirs


def test_durations_are_read_alike(ask: AskText) -> None:
    texts = Texts(2)
    written = ["0", "", "-0", "1.s", ".s", *(texts.duration() for _ in range(COUNT))]
    theirs = ask("parse duration", written)
    assert 100 < theirs.count(None) < COUNT - 100
    ours = [tried(lambda text: str(option_text.parse_duration(text)), text) for text in written]
    assert ours == theirs


def test_strings_are_quoted_alike(ask: AskText) -> None:
    texts = Texts(3)
    data = [texts.data() for _ in range(COUNT)]
    theirs = ask("quote bytes", [text.hex() for text in data])
    assert [option_text.quote(text.decode("utf-8", "surrogateescape")) for text in data] == theirs


def test_every_old_character_is_quoted_alike(ask: AskText) -> None:
    """Those of Unicode 3.2, which have been there for longer than any Python or Go of today."""
    old = unicodedata.ucd_3_2_0
    known = [chr(code) for code in range(0x110000) if old.category(chr(code)) not in {"Cn", "Cs"}]
    theirs = ask("quote bytes", [character.encode().hex() for character in known])
    assert [option_text.quote(character) for character in known] == theirs


def test_literals_are_read_alike(ask: AskText) -> None:
    texts = Texts(4)
    literals = ['""', "''", "``", '"', *(texts.literal() for _ in range(COUNT))]
    theirs = ask("unquote", literals)
    assert 100 < theirs.count(None) < COUNT - 100
    assert [
        tried(lambda text: in_hex(option_text.unquote(text)), text) for text in literals
    ] == theirs


def test_dates_are_written_alike(ask: AskText) -> None:
    texts = Texts(5)
    moments = [texts.moment() for _ in range(COUNT)]
    theirs = ask("format date", [moment.isoformat() for moment in moments])
    assert [option_text.format_unix_date(moment) for moment in moments] == theirs


def test_dates_are_read_alike_where_they_are_read(ask: AskText) -> None:
    """Go reads some that it never writes, such as one without a space before its day; they stay a text here."""
    texts = Texts(6)
    dates = [texts.date() for _ in range(COUNT)]
    theirs = [text and text.replace("Z", "+00:00") for text in ask("parse date", dates)]
    ours = [
        tried(lambda text: option_text.parse_unix_date(text).isoformat(), date) for date in dates
    ]
    assert 100 < ours.count(None) < COUNT / 2
    assert [them for us, them in zip(ours, theirs, strict=True) if us] == [us for us in ours if us]


def test_headers_are_written_alike_but_for_the_bracket(ask: AskText) -> None:
    """Go leaves `)` as it is, and then cannot read what it has written."""
    texts = Texts(7)
    headers = [texts.header() for _ in range(COUNT)]
    theirs = [
        f"Header({text})".replace(")", "\\u0029", (text or "").count(")"))
        for text in ask("format header", headers)
    ]
    pairs = [tuple(header.split("=", 1)) for header in headers]
    assert [option_text.format_option("headers", pair) for pair in pairs] == theirs


def test_go_reads_every_header_that_is_written_here(ask: AskText) -> None:
    texts = Texts(8)
    headers = [texts.header() for _ in range(COUNT)]
    written = [option_text.format_option("headers", tuple(text.split("=", 1))) for text in headers]
    arguments = [text or "" for text in ask("argument of option", written)]
    assert ask("parse header", arguments) == headers


def test_go_reads_every_name_that_is_written_here(ask: AskText) -> None:
    texts = Texts(9)
    names = [texts.data().decode("utf-8", "replace") + ")" for _ in range(COUNT)]
    written = [option_text.format_option("queue", name) for name in names]
    arguments = [text or "" for text in ask("argument of option", written)]
    assert ask("unquote", arguments) == [in_hex(name) for name in names]
