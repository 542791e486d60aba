"""Where the processes of an act write their journals and last words."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pulsewire.cli import render

__all__ = ["journal_folder"]


@contextmanager
def journal_folder(*, keep: bool) -> Iterator[Path]:
    """Give a folder of its own to an act; remove it afterwards, or say where it is."""
    folder = Path(tempfile.mkdtemp(prefix="pulsewire-demo-"))
    try:
        yield folder
    finally:
        if keep:
            render.say(f"kept: journals in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
