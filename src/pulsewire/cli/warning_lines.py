"""The library's warnings, such as a lost connection, as lines on standard error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pulsewire.cli import render

__all__ = ["shown"]

_LOGGER = "pulsewire"
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What every record has; the rest are the values that `extra` gave it."""


@contextmanager
def shown() -> Iterator[None]:
    """Show the warnings of the library while inside."""
    logger, handler = logging.getLogger(_LOGGER), _Lines(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    """Prints a record as one line, with the values it carries."""

    def emit(self, record: logging.LogRecord) -> None:
        values = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        given = ", ".join(f"{name}={value}" for name, value in values.items())
        render.warn(f"{record.getMessage()} ({given})" if given else record.getMessage())
