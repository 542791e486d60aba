"""Which events a consumer wants, by topic. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from pulsewire.errors import InvalidOption

Filter = Callable[[str], bool]


def topic_filter(topic: str | None, pattern: str | re.Pattern[str] | None) -> Filter | None:
    """A test of topics; None when everything is wanted.

    Args:
        topic: exactly this one.
        pattern: a regular expression that is found anywhere in the topic.

    Raises:
        InvalidOption: both are given, or the pattern is not a regular expression.
    """
    if topic is not None and pattern is not None:
        raise InvalidOption(
            "topic_pattern", pattern, f"topic={topic!r} is given, too; choose one of them"
        )
    if topic is not None:
        if not isinstance(topic, str) or not topic:
            raise InvalidOption("topic", topic, "must be text that is not empty")
        return topic.__eq__
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise InvalidOption(
            "topic_pattern", pattern, f"is not a regular expression: {error}"
        ) from None
    if not isinstance(compiled.pattern, str):
        raise InvalidOption("topic_pattern", pattern, "is not a regular expression of text")
    search = compiled.search
    return lambda found: search(found) is not None
