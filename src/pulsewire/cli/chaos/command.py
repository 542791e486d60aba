"""`pulsewire chaos` and the hidden command that its workers run."""

from __future__ import annotations

import random
from typing import Annotated

import typer

from pulsewire.cli import failures, render
from pulsewire.cli.chaos import role, stage, summary
from pulsewire.cli.chaos.plan import ChaosPlan, Weather
from pulsewire.cli.demo.crew import DemoFailed
from pulsewire.cli.demo.options import JournalOption
from pulsewire.cli.demo.plan_error import PlanError
from pulsewire.cli.options import AsJson, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(chaos)
    app.command(stage.WORKER, hidden=True)(chaos_worker)


def chaos(
    *,
    seconds: Annotated[float, typer.Option(help="For how long faults come.")] = 30.0,
    seed: Annotated[
        int | None, typer.Option(help="Draws the faults of an earlier run again.")
    ] = None,
    fault: Annotated[
        list[Weather] | None,
        typer.Option(help="Only these; give it once for each.", show_default="all"),
    ] = None,
    workers: Annotated[int, typer.Option(help="How many worker processes.")] = 3,
    lease: Annotated[
        float,
        typer.Option(help="Seconds of silence after which others get a worker's work."),
    ] = 2.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the journals for a look.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let workers be killed and frozen, the server restarted, connections cut, and say what was lost.

    Uses a server of its own, never yours. All four blocks work meanwhile: events, a map, jobs, tasks. Exits with 0 only
    if nothing was lost, nothing was done twice without a reason, no job had two owners, and all worked again in time.
    """
    try:
        plan = ChaosPlan(
            seconds=seconds,
            seed=random.SystemRandom().randrange(1, 2**31) if seed is None else seed,
            faults=tuple(fault or Weather),
            workers=workers,
            lease=lease,
        )
    except PlanError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from None

    def tell(elapsed: float, news: str) -> None:
        (render.note if as_json else render.say)(f"{elapsed:5.1f} s  {news}")

    async def command(_: Signals) -> int:
        tell(0.0, f"a server of its own and {workers} workers start; seed {plan.seed}")
        try:
            verdict = await stage.perform(plan, keep=keep, tell=tell)
        except DemoFailed as failed:
            render.fail(f"{failed}; seed {plan.seed}")
            return failures.FAILED
        if as_json:
            render.json_document(summary.as_data(plan, verdict))
        else:
            summary.show(plan, verdict)
        return 0 if verdict.holds else failures.FAILED

    run(command)


def chaos_worker(
    *,
    journal: JournalOption,
    lease: Annotated[float, typer.Option()],
    url: UrlOption = None,
) -> None:
    """Work in bad weather. A process of `pulsewire chaos`."""

    async def command(_: Signals) -> int:
        return await role.work(journal, url=url, lease=lease)

    run(command)
