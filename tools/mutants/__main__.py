"""Tries all mutants of the pure rooms, and says how many of them the tests have noticed.

    make mutants                                  all rooms; fails when too many survive
    make mutants ARGS="pool.ring tasks.wire"      some rooms
    make mutants ARGS="--again"                   only those that survived the last time, after writing tests
    make mutants ARGS="--survivors pool.ring"     tries nothing: who survived the last time
    make mutants ARGS="--markdown"                tries nothing: the table of CONTRIBUTING.md

Each room's trials are in `.cache/mutants/<room>.json`, beside what pytest said without a mutant.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from tools.mutants.examining import Brokenness, Trial, examine
from tools.mutants.operators import meaning_of, mutants_of
from tools.mutants.rooms import BLOCKS, ROOMS, ROOT, Room

FOLDER = ROOT / ".cache/mutants"
LEAST_OF_ALL = 85.0
"""Per cent of all mutants that are to be noticed."""
LEAST_OF_ROOM = 80.0
"""The same for each room of the four blocks."""
COLUMNS = ("room", "mutants", "killed", "timed out", "survived", "%")


def recorded(room: Room) -> list[Trial]:
    """The last trials of a room; none if it has changed in more than words, or other mutants are made of it."""
    try:
        kept = json.loads((FOLDER / f"{room.name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    mutants = mutants_of(ast.parse(room.path.read_text(encoding="utf-8")))
    operators = [trial["operator"] for trial in kept["trials"]]
    if kept["source"] != digest(room) or operators != [mutant.operator for mutant in mutants]:
        return []
    return [
        Trial(**{**trial, "line": mutant.line, "before": mutant.before, "after": mutant.after})
        for trial, mutant in zip(kept["trials"], mutants, strict=True)
    ]


def digest(room: Room) -> str:
    """Of the room's source."""
    meaning = meaning_of(ast.parse(room.path.read_text(encoding="utf-8")))
    return hashlib.sha256(meaning.encode()).hexdigest()


def record(room: Room, source: str, trials: Sequence[Trial]) -> None:
    """Keep them for the next time, with the digest of what was tried."""
    kept = {"source": source, "tests": room.tests, "trials": [asdict(one) for one in trials]}
    (FOLDER / f"{room.name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def try_room(room: Room, *, again: bool) -> int:
    """Try it in a child, since its imports would be in the way of the next one's. The child's exit code."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        log = os.open(FOLDER / f"{room.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        source = digest(room)
        record(room, source, list(examine(room, recorded(room) if again else ())))
        code = 0
    except Brokenness as problem:
        print(problem, file=sys.stderr)
        (FOLDER / f"{room.name}.json").unlink(missing_ok=True)
    except Exception:  # noqa: BLE001  # it is told, and the next room is tried
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


# --- what is shown


def row(name: str, trials: Sequence[Trial]) -> tuple[str, ...]:
    """A line of the table. Who timed out was noticed: tests have a limit of time."""
    counts = Counter(one.verdict for one in trials)
    numbers = (len(trials), counts["killed"], counts["timed out"], counts["survived"])
    return name, *map(str, numbers), f"{share(trials):.1f}"


def share(trials: Sequence[Trial]) -> float:
    """Per cent that did not survive."""
    noticed = sum(one.verdict != "survived" for one in trials)
    return 100.0 * noticed / len(trials) if trials else 0.0


def table(rooms: Sequence[Room]) -> list[tuple[str, ...]]:
    """All rows: rooms, the four blocks, all."""
    trials = {room: recorded(room) for room in rooms}
    rows = [row(room.name, trials[room]) for room in rooms]
    blocks = [one for room in rooms if room.is_in_block for one in trials[room]]
    rows.append(row("the four blocks", blocks))
    rows.append(row("all", [one for room in rooms for one in trials[room]]))
    return rows


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """For the docs."""
    lines = [COLUMNS, ("---", *(["--:"] * (len(COLUMNS) - 1))), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_text(line: Sequence[str]) -> str:
    """For the terminal."""
    return f"{line[0]:28}" + "".join(f"{one:>11}" for one in line[1:])


def show_survivors(room: Room) -> None:
    """Where, and what."""
    for one in recorded(room):
        if one.verdict == "survived":
            place = f"{room.path.relative_to(ROOT)}:{one.line}"
            print(f"{place}  {one.operator}\n    {one.before}\n    {one.after}")


def too_weak(rooms: Sequence[Room]) -> list[str]:
    """What is below what it should reach."""
    trials = {room: recorded(room) for room in rooms}
    found = [
        f"{room.name}: {share(trials[room]):.1f}%, at least {LEAST_OF_ROOM:.0f}% are asked for"
        for room in rooms
        if room.is_in_block and share(trials[room]) < LEAST_OF_ROOM
    ]
    total = share([one for room in rooms for one in trials[room]])
    if total < LEAST_OF_ALL:
        found.append(f"all: {total:.1f}%, at least {LEAST_OF_ALL:.0f}% are asked for")
    return found


def main() -> int:
    """The exit code: 1 when tests fail without a mutant, or too many mutants survive."""
    parser = argparse.ArgumentParser(
        prog="make mutants", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "rooms", nargs="*", help=f"such as {ROOMS[0].name}; or a block, such as {BLOCKS[0]}"
    )
    parser.add_argument("--again", action="store_true", help="only the survivors of the last time")
    parser.add_argument("--survivors", action="store_true", help="show them, and try nothing")
    parser.add_argument("--markdown", action="store_true", help="show the table, and try nothing")
    options = parser.parse_args()
    asked = [name.rstrip(".") for name in options.rooms]
    rooms = [
        room
        for room in ROOMS
        if not asked or any(f"{room.name}.".startswith(f"{name}.") for name in asked)
    ]
    if not rooms:
        parser.error(f"no such room; there are {', '.join(room.name for room in ROOMS)}")
    if options.markdown:
        print(as_markdown(table(rooms)))
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not options.survivors:
        print(as_text(COLUMNS), flush=True)
        began, failed = time.monotonic(), 0
        for room in rooms:
            failed |= try_room(room, again=options.again)
            print(as_text(row(room.name, recorded(room))), flush=True)
        for line in table(rooms)[-2:]:
            print(as_text(line))
        print(f"in {(time.monotonic() - began) / 60:.1f} min")
        if failed:
            return 1
    for room in rooms:
        show_survivors(room)
    problems = too_weak(rooms)
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
