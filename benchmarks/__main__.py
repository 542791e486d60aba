"""`python -m benchmarks`: measure, write down, report. What is measured stands in `blocks`.

`python -m benchmarks report` makes the page of the documentation from what was written down, `python -m benchmarks
schema` prints the JSON schema of that.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import budget, environment, golang, page, peers, recording
from benchmarks.blocks import BLOCKS
from benchmarks.plan import FULL, SHORT, SMOKE, Form, Program, shown_in
from benchmarks.plan import Path as BenchmarkPath
from benchmarks.report import show
from benchmarks.results import Report, Run
from benchmarks.server import private_server
from benchmarks.session import Session
from benchmarks.task_programs import Peers

KEYS: Final = [*BLOCKS, *(path.key for paths in BLOCKS.values() for path in paths)]
PLAIN_WIDTH: Final = 160
"""Line length where there is no terminal, so that the tables stay whole in a log."""
CACHE: Final = Path(".cache") / "bench"
RESULT: Final = CACHE / "result.json"
DOCS: Final = Path(__file__).parent.parent / "docs"

Chosen = list[tuple[str, BenchmarkPath]]
"""Paths, each with its block."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line of a run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure pulsewire and its peers, side by side.",
        epilog="Also: `python -m benchmarks report [FILE]` and `python -m benchmarks schema`.",
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--short",
        dest="form",
        action="store_const",
        const=SHORT,
        help="below ten minutes (default)",
    )
    forms.add_argument(
        "--full",
        dest="form",
        action="store_const",
        const=FULL,
        help="all paths, more rounds, each of them longer",
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
        choices=KEYS,
        metavar="PATH",
        help=f"only this path or this block of paths; may be given several times: {', '.join(KEYS)}",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=RESULT,
        metavar="FILE",
        help=f"write the whole result there (default: {RESULT})",
    )
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
    parser.add_argument(
        "--no-budget",
        dest="budget",
        action="store_false",
        help="do not look with a profiler where the CPU goes",
    )
    return parser.parse_args(arguments)


def choose(form: Form, keys: list[str], names: list[str]) -> Chosen:
    """The paths and blocks of these keys, with the contenders of these programs (of all, when none is named).

    A path that is asked for by its own name is measured whole, whatever the form.
    """
    chosen: Chosen = []
    for block, paths in BLOCKS.items():
        in_form = {path.key: path for path in shown_in(form, paths)}
        for path in paths:
            if path.key in keys:
                wanted: BenchmarkPath | None = path
            else:
                wanted = in_form.get(path.key) if block in keys else None
            if wanted and (kept := _only(wanted, names)).contenders:
                chosen.append((block, kept))
    return chosen


def _only(path: BenchmarkPath, names: list[str]) -> BenchmarkPath:
    if not names:
        return path
    kept = tuple(each for each in path.contenders if each.program.name.lower() in names)
    return replace(path, contenders=kept)


def run(
    form: Form, chosen: Chosen, cache: Path, console: Console, *, with_budget: bool = True
) -> Report:
    """Measure the paths and collect what was found."""
    wanted = {
        program
        for _, path in chosen
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
    begin = time.monotonic()
    with private_server() as server, _progress(console) as progress:
        session = Session(server, form, found)
        task = progress.add_task("", total=session.steps([path for _, path in chosen]))

        def advance(text: str) -> None:
            progress.update(task, advance=1, description=text)

        results = []
        for block, path in chosen:
            if not console.is_terminal:
                say(f"{path.title} …")
            results.append(session.measure(block, path, advance))
        described = environment.describe(server, found)
    budgets = budget.measure([path for _, path in chosen], found, say) if with_budget else []
    taken = datetime.now(UTC).date().isoformat()
    seconds = round(time.monotonic() - begin, 1)
    measured = Run(form.name, form.rounds, form.rounds_beside, seconds, taken)
    return Report(measured, described, results, budgets)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.completed} of {task.total}  {task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def measure(arguments: list[str]) -> None:
    """Run the benchmarks, print what was found, and write it down."""
    options = parse(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    chosen = choose(options.form, options.path or list(BLOCKS), options.only or [])
    report = run(options.form, chosen, options.cache, console, with_budget=options.budget)
    show(report, console)
    recording.write(report, options.json)
    console.print(f"The whole result is in {options.json}.", markup=False, highlight=False)


def write_page(arguments: list[str]) -> None:
    """Make the page of the documentation from a recorded run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks report",
        description="Write docs/benchmarks.md and its pictures from the result of a run.",
    )
    parser.add_argument("file", type=Path, nargs="?", default=RESULT, metavar="FILE")
    parser.add_argument("--into", type=Path, default=DOCS, metavar="DIR", help="default: docs")
    options = parser.parse_args(arguments)
    try:
        report = recording.read(options.file)
    except recording.UnreadableRecording as reason:
        raise SystemExit(f"benchmarks: {reason}") from None
    for written in page.write(report, options.into):
        print(written)


def print_schema(arguments: list[str]) -> None:
    """Print the JSON schema of a result."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks schema", description="Print the JSON schema of a result."
    )
    parser.parse_args(arguments)
    print(json.dumps(recording.schema(), indent=1))


def main() -> None:
    """Entry point."""
    match sys.argv[1:]:
        case ["report", *rest]:
            write_page(rest)
        case ["schema", *rest]:
            print_schema(rest)
        case arguments:
            measure(arguments)


if __name__ == "__main__":
    main()
