"""`python -m benchmarks`: parse, run, report. What is measured stands in `streams`, `maps`, `pools`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import environment, golang, maps, pools, streams
from benchmarks.plan import FULL, SHORT, Form
from benchmarks.plan import Path as BenchmarkPath
from benchmarks.report import Report
from benchmarks.server import private_server
from benchmarks.session import Session

ALL_PATHS = (*streams.PATHS, *maps.PATHS, *pools.PATHS)
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
        help="3 rounds, about 9 minutes (default)",
    )
    forms.add_argument(
        "--full",
        dest="form",
        action="store_const",
        const=FULL,
        help="5 rounds, each of them longer",
    )
    parser.set_defaults(form=SHORT)
    parser.add_argument(
        "--path",
        action="append",
        choices=[path.key for path in ALL_PATHS],
        help="only this path; may be given several times",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the whole result there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, metavar="DIR", help="for the built Go program"
    )
    return parser.parse_args()


def run(form: Form, paths: list[BenchmarkPath], cache: Path, console: Console) -> Report:
    """Measure the paths and collect what was found."""
    begin = time.monotonic()
    go = golang.build(cache)
    for program, peer in go.items():
        if peer.missing:
            console.print(f"{program} is left out: {peer.missing}", style="yellow", markup=False)
    with private_server() as server, _progress(console) as progress:
        session = Session(server, form, go)
        task = progress.add_task("", total=session.steps(paths))

        def advance(text: str) -> None:
            progress.update(task, advance=1, description=text)

        results = [session.measure(path, advance) for path in paths]
        described = environment.describe(server, go)
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
    chosen = options.path or [path.key for path in ALL_PATHS]
    paths = [path for path in ALL_PATHS if path.key in chosen]
    report = run(options.form, paths, options.cache, console)
    report.print(console)
    if options.json:
        options.json.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(report.to_markdown())


if __name__ == "__main__":
    main()
