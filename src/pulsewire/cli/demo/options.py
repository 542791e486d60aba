"""Options that the hidden commands of several acts share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["JournalOption", "TtlOption"]

JournalOption = Annotated[Path, typer.Option(help="Where to write what was done.")]
TtlOption = Annotated[
    float | None,
    typer.Option(help="Time to live, in seconds, of what would be left by a demo that was killed."),
]
