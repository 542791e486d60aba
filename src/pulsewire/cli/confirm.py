"""What cannot be undone is asked about first; where nobody can answer, it must have been said beforehand."""

from __future__ import annotations

import sys

import typer

__all__ = ["confirm"]


def confirm(question: str, *, yes: bool, refusal: str, about: str) -> None:
    """Go on only if somebody agrees.

    Args:
        question: What is asked.
        yes: It was said beforehand: `--yes`.
        refusal: What would be done, and how to say so beforehand: for scripts, which nobody can ask.
        about: The argument that the refusal is about.

    Raises:
        typer.Abort: The answer is no.
        typer.BadParameter: There is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(refusal, param_hint=about)
    typer.confirm(question, abort=True)
