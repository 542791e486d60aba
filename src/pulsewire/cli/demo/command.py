"""`pulsewire demo`: its options, and which acts are played."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer
from ulid import ULID

from pulsewire.cli import failures, render
from pulsewire.cli.demo.crew import DemoFailed
from pulsewire.cli.demo.plan_error import PlanError
from pulsewire.cli.demo.pool import commands as pool_commands
from pulsewire.cli.demo.pool import stage as pool_stage
from pulsewire.cli.demo.pool.plan import PoolPlan
from pulsewire.cli.demo.signup import commands as signup_commands
from pulsewire.cli.demo.signup import stage as signup_stage
from pulsewire.cli.demo.signup.plan import SignUpPlan
from pulsewire.cli.demo.tasks import commands as task_commands
from pulsewire.cli.demo.tasks import stage as task_stage
from pulsewire.cli.demo.tasks.plan import TasksPlan
from pulsewire.cli.demo.tickets import commands as ticket_commands
from pulsewire.cli.demo.tickets import stage as ticket_stage
from pulsewire.cli.demo.tickets.plan import Plan
from pulsewire.cli.options import NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]

_SIGN_UP = SignUpPlan()
_TICKETS = Plan()
_POOL = PoolPlan()
_TASKS = TasksPlan()


class Act(StrEnum):
    """A part of the demo."""

    SIGN_UP = "signup"
    TICKETS = "tickets"
    POOL = "pool"
    TASKS = "tasks"
    ALL = "all"


def register(app: typer.Typer) -> None:
    """Add the demo to the command line."""
    app.command()(demo)
    for commands in (signup_commands, ticket_commands, pool_commands, task_commands):
        commands.register(app)


def demo(
    *,
    act: Annotated[
        list[Act] | None,
        typer.Option(
            help="A sign-up flow of all four blocks; or tickets in a stream, jobs in a pool, tasks in queues. "
            "May be given several times.",
            show_default=Act.SIGN_UP.value,
        ),
    ] = None,
    users: Annotated[int, typer.Option(help="How many users sign up.")] = _SIGN_UP.users,
    tickets_: Annotated[
        int, typer.Option("--tickets", "-n", help="How many tickets.")
    ] = _TICKETS.tickets,
    consumers: Annotated[
        int, typer.Option(help="How many processes handle tickets.")
    ] = _TICKETS.consumers,
    work: Annotated[
        float, typer.Option(help="Seconds that handling a ticket takes.")
    ] = _TICKETS.work,
    kill: Annotated[
        bool,
        typer.Option(
            "--kill/--no-kill", help="Kill processes midway; in the sign-up flow Redis, too."
        ),
    ] = _TICKETS.kill,
    kill_after: Annotated[
        float,
        typer.Option(help="Which part of the tickets is handled by then.", metavar="FRACTION"),
    ] = _TICKETS.kill_after,
    ack_grace: Annotated[
        float,
        typer.Option(help="Seconds of silence after which others take over a consumer's events."),
    ] = _TICKETS.ack_grace,
    publish_rate: Annotated[
        float, typer.Option(help="Tickets published per second; 0 is as fast as it goes.")
    ] = _TICKETS.publish_rate,
    jobs: Annotated[int, typer.Option(help="How many jobs the pool gets.")] = _POOL.jobs,
    nodes: Annotated[int, typer.Option(help="How many node processes.")] = _POOL.nodes,
    worker_ttl: Annotated[
        float,
        typer.Option(help="Seconds of silence after which others take over a node's jobs."),
    ] = _POOL.worker_ttl,
    tasks: Annotated[int, typer.Option(help="How many tasks are enqueued.")] = _TASKS.tasks,
    servers: Annotated[
        int, typer.Option(help="How many server processes run them.")
    ] = _TASKS.servers,
    task_work: Annotated[
        float, typer.Option(help="Seconds that running a task takes.")
    ] = _TASKS.work,
    lease: Annotated[
        float,
        typer.Option(help="Seconds of silence after which others run a server's tasks."),
    ] = _TASKS.lease,
    seed: Annotated[
        int | None, typer.Option(help="Makes ticket numbers and the victims repeatable.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave what is in Redis, and the journals, for a look.")
    ] = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Watch the blocks work between real processes, kill some of these, and see it proven that nothing was lost.

    By default users sign up: a web front publishes them, three sinks each see all of them, a pool and a queue write to
    them, and a feature flag is switched for every process. Exits with 0 only if what the processes wrote down outside
    Redis shows that nothing was lost, and whatever was done twice has a reason.
    """
    try:
        plans = {
            Act.SIGN_UP: partial(
                signup_stage.perform,
                SignUpPlan(
                    users=users,
                    kill=kill,
                    ack_grace=ack_grace,
                    worker_ttl=worker_ttl,
                    lease=lease,
                    seed=seed,
                    keep=keep,
                ),
            ),
            Act.TICKETS: partial(
                ticket_stage.perform,
                Plan(
                    tickets=tickets_,
                    consumers=consumers,
                    work=work,
                    kill=kill,
                    kill_after=kill_after,
                    ack_grace=ack_grace,
                    publish_rate=publish_rate,
                    seed=seed,
                    keep=keep,
                ),
            ),
            Act.POOL: partial(
                pool_stage.perform,
                PoolPlan(
                    jobs=jobs, nodes=nodes, kill=kill, worker_ttl=worker_ttl, seed=seed, keep=keep
                ),
            ),
            Act.TASKS: partial(
                task_stage.perform,
                TasksPlan(
                    tasks=tasks,
                    servers=servers,
                    work=task_work,
                    kill=kill,
                    lease=lease,
                    seed=seed,
                    keep=keep,
                ),
            ),
        }
    except PlanError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from None
    wanted = set(act or [Act.SIGN_UP])
    played = [perform for one, perform in plans.items() if wanted & {one, Act.ALL}]

    async def command(_: Signals) -> int:
        space = namespace or f"demo-{ULID()}"
        exit_codes: list[int] = []
        try:
            for perform in played:
                if exit_codes:
                    render.say()
                exit_codes.append(await perform(url, space))
        except DemoFailed as failed:
            render.fail(str(failed))
            return failures.FAILED
        return max(exit_codes)

    run(command)
