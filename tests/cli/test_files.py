"""Files and payloads of commands: read whole, written whole or not at all."""

from __future__ import annotations

import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import typer

from pulsewire.cli.files import read_payload, read_text, write_whole


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch) -> bytes:
    data = b"first\n\xff\x00last\n"
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(data)))
    return data


def test_payload_is_the_argument(standard_input: bytes) -> None:
    assert read_payload("größe") == "größe".encode()
    assert read_payload("") == b""
    assert read_payload("--") == b"--"


def test_payload_that_is_no_text_stays_as_it_was_typed() -> None:
    """Python hands such bytes of an argument over as lone surrogates."""
    assert read_payload(b"a\xffb".decode(errors="surrogateescape")) == b"a\xffb"


def test_dash_reads_standard_input_byte_for_byte(standard_input: bytes) -> None:
    assert read_payload("-") == standard_input


def test_text_of_a_file_has_no_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "one"
    file.write_bytes(b"\xef\xbb\xbf{}")
    assert read_text(file) == "{}"


def test_file_that_is_no_text_or_is_not_there_is_named(
    tmp_path: Path, standard_input: bytes
) -> None:
    with pytest.raises(typer.BadParameter, match=r"nowhere: No such file") as caught:
        read_text(tmp_path / "nowhere")
    assert caught.value.param_hint == "FILE"
    with pytest.raises(typer.BadParameter, match="-: 'utf-8' codec can't decode"):
        read_text(Path("-"))


def test_written_file_is_there_as_a_whole_and_alone(tmp_path: Path) -> None:
    file = tmp_path / "one"
    file.write_text("before")
    write_whole(file, "after")
    assert file.read_text() == "after"
    assert list(tmp_path.iterdir()) == [file]


def test_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "one"
    file.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "\ud800")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
