"""The log of a program that runs for long: a line each, with time, level, logger, and the values that a record carries.

What `warning_lines` shows of a command that a person waits for, this shows of a worker that nobody looks at for days.
"""

from __future__ import annotations

import logging

from pulsewire.cli import render
from pulsewire.cli.warning_lines import values_of

__all__ = ["begin"]

FORMAT = "%(asctime)s %(process)d %(levelname)-7s %(name)s: %(message)s"


def begin(level: str) -> None:
    """Write the log to standard error from now on, unless the program has arranged for its log itself."""
    handler = logging.StreamHandler(render.err.file)
    handler.setFormatter(_WithValues(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _WithValues(logging.Formatter):
    """Puts the values of `extra` behind the message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        record.message += values_of(record)
        return super().formatMessage(record)
