"""How verdicts name what is wrong: how many culprits there are, and some of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["problems"]

_EXAMPLES = 5
"""How many culprits a problem names."""


def problems(things: str, culprits: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield a sentence for each kind of problem that has culprits.

    Args:
        things: What the culprits are, such as `jobs`.
        culprits: What is wrong, such as `were lost`, and with which of them.
    """
    for what, names in culprits.items():
        found = list(names)
        if found:
            more = f", and {len(found) - _EXAMPLES:,} more" if len(found) > _EXAMPLES else ""
            yield f"{len(found):,} {things} {what}: {', '.join(found[:_EXAMPLES])}{more}"
