"""The library's warnings, such as a lost connection, as lines on standard error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pulsewire.cli import render

__all__ = ["shown", "values_of"]

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


def values_of(record: logging.LogRecord) -> str:
    """Return the values that a record carries, to be put behind its message: ` (name=value, name=value)`."""
    values = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
    given = ", ".join(f"{name}={value}" for name, value in values.items())
    return f" ({given})" if given else ""


class _Lines(logging.Handler):
    """Prints a record as one line, with the values it carries."""

    def emit(self, record: logging.LogRecord) -> None:
        render.warn(record.getMessage() + values_of(record))
