"""`pulsewire demo` and the hidden commands that its processes run."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from ulid import ULID

from pulsewire.cli import failures, render
from pulsewire.cli.demo import roles, stage
from pulsewire.cli.demo.crew import DemoFailed
from pulsewire.cli.demo.plan import Plan, PlanError
from pulsewire.cli.demo.pool import role
from pulsewire.cli.demo.pool import stage as pool_stage
from pulsewire.cli.demo.pool.plan import PoolPlan
from pulsewire.cli.demo.tasks import role as task_role
from pulsewire.cli.demo.tasks import stage as task_stage
from pulsewire.cli.demo.tasks.plan import TasksPlan
from pulsewire.cli.options import NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["register"]

_DEFAULT = Plan()
_POOL = PoolPlan()
_TASKS = TasksPlan()


class Act(StrEnum):
    """A part of the demo."""

    ALL = "all"
    TICKETS = "tickets"
    POOL = "pool"
    TASKS = "tasks"


JournalOption = Annotated[Path, typer.Option(help="Where to write what was done.")]
TtlOption = Annotated[float | None, typer.Option(help="Time to live of the stream, in seconds.")]


def register(app: typer.Typer) -> None:
    """Add the demo to the command line."""
    app.command()(demo)
    app.command(stage.PUBLISHER, hidden=True)(demo_publisher)
    app.command(stage.CONSUMER, hidden=True)(demo_consumer)
    app.command(pool_stage.NODE, hidden=True)(demo_node)
    app.command(task_stage.CLIENT, hidden=True)(demo_task_client)
    app.command(task_stage.SCHEDULER, hidden=True)(demo_task_scheduler)
    app.command(task_stage.SERVER, hidden=True)(demo_task_server)


def demo(
    *,
    act: Annotated[
        Act, typer.Option(help="Tickets in a stream, jobs in a pool, tasks in queues, or all.")
    ] = Act.ALL,
    tickets_: Annotated[
        int, typer.Option("--tickets", "-n", help="How many tickets.")
    ] = _DEFAULT.tickets,
    consumers: Annotated[
        int, typer.Option(help="How many consumer processes.")
    ] = _DEFAULT.consumers,
    work: Annotated[
        float, typer.Option(help="Seconds that handling a ticket takes.")
    ] = _DEFAULT.work,
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Kill one consumer, node and server midway.")
    ] = _DEFAULT.kill,
    kill_after: Annotated[
        float,
        typer.Option(help="Which part of the tickets is handled by then.", metavar="FRACTION"),
    ] = _DEFAULT.kill_after,
    ack_grace: Annotated[
        float,
        typer.Option(help="Seconds of silence after which others take over a consumer's tickets."),
    ] = _DEFAULT.ack_grace,
    publish_rate: Annotated[
        float, typer.Option(help="Tickets published per second; 0 is as fast as it goes.")
    ] = _DEFAULT.publish_rate,
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
        bool, typer.Option("--keep", help="Leave stream, queues and journals for a look.")
    ] = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Tickets in a stream, jobs in a pool, tasks in queues; kill some processes, and prove that nothing was lost.

    Exits with 0 only if every ticket was handled, every job ran at one node at a time, every task has succeeded, and
    whatever was done twice has a reason.
    """
    try:
        plan = Plan(
            tickets=tickets_,
            consumers=consumers,
            work=work,
            kill=kill,
            kill_after=kill_after,
            ack_grace=ack_grace,
            publish_rate=publish_rate,
            seed=seed,
            keep=keep,
        )
        pool_plan = PoolPlan(
            jobs=jobs, nodes=nodes, kill=kill, worker_ttl=worker_ttl, seed=seed, keep=keep
        )
        tasks_plan = TasksPlan(
            tasks=tasks,
            servers=servers,
            work=task_work,
            kill=kill,
            lease=lease,
            seed=seed,
            keep=keep,
        )
    except PlanError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from None

    async def command(_: Signals) -> int:
        space, exit_codes = namespace or f"demo-{ULID()}", [0]
        acts = {
            Act.TICKETS: partial(stage.perform, plan),
            Act.POOL: partial(pool_stage.perform, pool_plan),
            Act.TASKS: partial(task_stage.perform, tasks_plan),
        }
        try:
            for one, perform in acts.items():
                if act is Act.ALL and one is not Act.TICKETS:
                    render.say()
                if act in (Act.ALL, one):
                    exit_codes.append(await perform(url, space))
        except DemoFailed as failed:
            render.fail(str(failed))
            return failures.FAILED
        return max(exit_codes)

    run(command)


def demo_publisher(
    *,
    journal: JournalOption,
    tickets_: Annotated[int, typer.Option("--tickets")],
    publish_rate: Annotated[float, typer.Option()],
    seed: Annotated[int | None, typer.Option()] = None,
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Publish the demo's tickets. A process of the demo."""

    async def command(_: Signals) -> int:
        return await roles.publish(
            journal,
            url=url,
            namespace=namespace,
            count=tickets_,
            rate=publish_rate,
            seed=seed,
            ttl=ttl,
        )

    run(command)


def demo_consumer(
    *,
    journal: JournalOption,
    work: Annotated[float, typer.Option()],
    ack_grace: Annotated[float, typer.Option()],
    ttl: TtlOption = None,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Handle the demo's tickets. A process of the demo."""

    async def command(signals: Signals) -> int:
        return await roles.consume(
            journal, signals, url=url, namespace=namespace, work=work, ack_grace=ack_grace, ttl=ttl
        )

    run(command)


def demo_node(
    *,
    journal: JournalOption,
    worker_ttl: Annotated[float, typer.Option()],
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Run the demo's jobs. A process of the demo."""

    async def command(_: Signals) -> int:
        return await role.serve(journal, url=url, namespace=namespace, worker_ttl=worker_ttl)

    run(command)


def demo_task_client(
    *,
    journal: JournalOption,
    tasks: Annotated[int, typer.Option()],
    rate: Annotated[float, typer.Option()],
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Enqueue the demo's tasks. A process of the demo."""

    async def command(_: Signals) -> int:
        return await task_role.enqueue(
            journal, url=url, namespace=namespace, tasks=tasks, rate=rate
        )

    run(command)


def demo_task_scheduler(
    *,
    journal: JournalOption,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Enqueue the demo's periodic task. A process of the demo."""

    async def command(signals: Signals) -> int:
        return await task_role.schedule(journal, signals, url=url, namespace=namespace)

    run(command)


def demo_task_server(
    *,
    journal: JournalOption,
    lease: Annotated[float, typer.Option()],
    work: Annotated[float, typer.Option()],
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Run the demo's tasks. A process of the demo."""

    async def command(signals: Signals) -> int:
        return await task_role.serve(
            journal, signals, url=url, namespace=namespace, lease=lease, work=work
        )

    run(command)
