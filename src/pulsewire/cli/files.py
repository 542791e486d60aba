"""What a command reads or writes as a whole: files, and payloads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

__all__ = ["read_payload", "read_text", "write_whole"]


def read_payload(word: str) -> bytes:
    """Return what an argument says, byte for byte as it was typed; all of standard input for `-`."""
    return sys.stdin.buffer.read() if word == "-" else word.encode(errors="surrogateescape")


def read_text(file: Path) -> str:
    """Return the UTF-8 text of a file; of standard input for `-`.

    Raises:
        typer.BadParameter: It cannot be read, or is not text.
    """
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="FILE") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole, or as it was before.

    Raises:
        OSError: It cannot be written.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():  # such as /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
