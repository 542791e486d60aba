"""`python -m benchmarks`: parse, run, report. What is measured stands in `streams`, `maps`, `pools`, `tasks`."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import environment, golang, maps, peers, pools, streams, tasks
from benchmarks.plan import FULL, SHORT, SMOKE, Form, Program
from benchmarks.plan import Path as BenchmarkPath
from benchmarks.report import Report
from benchmarks.server import private_server
from benchmarks.session import Session
from benchmarks.task_programs import Peers

BLOCKS = {
    "streams": streams.PATHS,
    "maps": maps.PATHS,
    "pools": pools.PATHS,
    "tasks": tasks.PATHS,
}
ALL_PATHS = tuple(path for paths in BLOCKS.values() for path in paths)
PLAIN_WIDTH = 120
"""Line length where there is no terminal, so that the tables stay whole in a log."""
CACHE = Path(".cache") / "bench"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure pulsewire and its peers, side by side."
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--short",
        dest="form",
        action="store_const",
        const=SHORT,
        help="3 rounds (default)",
    )
    forms.add_argument(
        "--full",
        dest="form",
        action="store_const",
        const=FULL,
        help="5 rounds, each of them longer",
    )
    forms.add_argument(
        "--smoke",
        dest="form",
        action="store_const",
        const=SMOKE,
        help="1 round of next to nothing: shows that everything runs, not how fast",
    )
    parser.set_defaults(form=SHORT)
    parser.add_argument(
        "--path",
        action="append",
        choices=[*BLOCKS, *(path.key for path in ALL_PATHS)],
        metavar="PATH",
        help=(
            "only this path or this block of paths; may be given several times:"
            f" {', '.join([*BLOCKS, *(path.key for path in ALL_PATHS)])}"
        ),
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole result there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, metavar="DIR", help="for the peers' programs"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PROGRAM",
        choices=[program.name.lower() for program in Program],
        help="only this program's contenders; may be given several times",
    )
    return parser.parse_args()


def choose(keys: list[str], names: list[str]) -> list[BenchmarkPath]:
    """The paths and blocks of these keys, with the contenders of these programs (of all, when none is named)."""
    chosen = []
    for block, paths in BLOCKS.items():
        for path in paths:
            contenders = tuple(
                contender
                for contender in path.contenders
                if not names or contender.program.name.lower() in names
            )
            if contenders and (block in keys or path.key in keys):
                chosen.append(replace(path, contenders=contenders))
    return chosen


def run(form: Form, paths: list[BenchmarkPath], cache: Path, console: Console) -> Report:
    """Measure the paths and collect what was found."""
    begin = time.monotonic()
    wanted = {
        program
        for path in paths
        for contender in path.contenders
        for program in (contender.program, contender.producer)
        if program is not None
    }

    def say(text: str) -> None:
        console.print(text, markup=False)

    found: Peers = {**golang.build(cache, wanted), **peers.set_up(cache, wanted, say)}
    for program, peer in found.items():
        if peer.missing:
            console.print(f"{program} is left out: {peer.missing}", style="yellow", markup=False)
    with private_server() as server, _progress(console) as progress:
        session = Session(server, form, found)
        task = progress.add_task("", total=session.steps(paths))

        def advance(text: str) -> None:
            progress.update(task, advance=1, description=text)

        results = [session.measure(path, advance) for path in paths]
        described = environment.describe(server, found)
    return Report(form, described, results, time.monotonic() - begin)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.completed} of {task.total}  {task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def main() -> None:
    """Entry point."""
    options = parse()
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    paths = choose(options.path or list(BLOCKS), options.only or [])
    report = run(options.form, paths, options.cache, console)
    report.print(console)
    if options.json:
        options.json.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(report.to_markdown())


if __name__ == "__main__":
    main()
