"""The end of the act in words: what each process did, what was checked, what was done twice and why, the verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from pulsewire.cli import render
from pulsewire.cli.demo.signup.cast import FORM
from pulsewire.cli.demo.signup.snapshot import ProcessRow
from pulsewire.cli.demo.signup.verdict import SignUpVerdict
from pulsewire.cli.demo.summary import Finding, show_end

__all__ = ["findings", "show"]

_NAMED = 3
"""How many users are named of whom something was done twice."""
_HOLDS = (
    "It holds: everybody who signed up was seen by every sink, mailed and asked to confirm; "
    "nothing was lost, and nothing done twice without a reason."
)


def findings(verdict: SignUpVerdict, *, seconds: float) -> Iterator[Finding]:
    """Yield what was checked and what came out, line by line."""
    yield Finding("users signed up", f"{verdict.signed_up:,}")
    for sink, number in verdict.handled.items():
        yield Finding(f"seen by {sink}", f"{number:,}")
    yield Finding("welcome mails sent to", f"{verdict.mailed:,}")
    yield Finding("refused mails, sent again", f"{verdict.retried:,}")
    yield Finding("confirmation jobs ended", f"{verdict.confirmed:,}")
    yield Finding("users lost on the way", f"{len(verdict.lost):,}")
    forms = ", ".join(f"{number:,} {form}" for form, number in sorted(verdict.forms.items()))
    yield Finding(
        f"{FORM} switched",
        f"{verdict.reached} processes within {render.how_long(verdict.spread)}; mails: {forms}",
    )
    if verdict.in_flight:
        yield Finding(
            "in flight when Redis was killed",
            ", ".join(f"{number:,} {what}" for what, number in verdict.in_flight.items()),
        )
    yield Finding("longest wait to sign up", render.how_long(verdict.slowest))
    yield Finding("begun or done twice", f"{len(verdict.repeats):,}")
    yield from _repeats(verdict)
    yield Finding("time", f"{seconds:.1f} s")


def _repeats(verdict: SignUpVerdict) -> Iterator[Finding]:
    """What was done twice, and why."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for repeat in verdict.repeats:
        found[repeat.what, repeat.why].append(repeat.user)
    for (what, why), users in found.items():
        names = ", ".join(users[:_NAMED])
        more = f", and {len(users) - _NAMED:,} more" if len(users) > _NAMED else ""
        yield Finding(f"  {what}: {len(users):,}", f"{why} ({names}{more})")


def show(verdict: SignUpVerdict, processes: Sequence[ProcessRow], *, seconds: float) -> None:
    """Print the end of the act."""
    show_end(
        headings=("process", "pid", "did", "end"),
        rows=[(row.title, str(row.pid), row.did, row.fate.value) for row in processes],
        numbers=("pid",),
        findings=findings(verdict, seconds=seconds),
        holds=_HOLDS,
        problems=verdict.problems,
    )
