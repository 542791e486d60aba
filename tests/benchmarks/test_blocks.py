"""What is measured is described without contradictions."""

from __future__ import annotations

import pytest

from benchmarks import golang, peers
from benchmarks.__main__ import choose
from benchmarks.blocks import BLOCKS
from benchmarks.contender_process import MODULES
from benchmarks.plan import FULL, SHORT, Path, Program, Shape, shown_in
from benchmarks.task_programs import PROGRAMS

PATHS = [path for paths in BLOCKS.values() for path in paths]
GOALS = 14
WORKERS = {Shape.TASKS, Shape.PACE, Shape.BACKLOG}
OURS = {Program.PULSEWIRE, Program.PLAIN, Program.PROBE}


def test_keys_are_unique() -> None:
    keys = [*BLOCKS, *(path.key for path in PATHS)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("path", PATHS, ids=[path.key for path in PATHS])
def test_targets_speak_of_contenders_of_their_path(path: Path) -> None:
    labels = [contender.label for contender in path.contenders]
    assert len(labels) == len(set(labels))
    assert path.ours in labels
    for target in path.targets:
        assert {target.of, *target.versus} <= set(labels)


@pytest.mark.parametrize("path", PATHS, ids=[path.key for path in PATHS])
def test_goals_stand_on_contenders_that_have_all_rounds(path: Path) -> None:
    """One round of a peer would not do where the project's goals are judged by it."""
    beside = {each.label for each in path.contenders if each.is_beside}
    for target in path.targets:
        if target.goal and len(target.versus) == 1:
            assert not {target.of, *target.versus} & beside


def test_short_form_judges_every_goal() -> None:
    short = [path for paths in BLOCKS.values() for path in shown_in(SHORT, paths)]
    goals = [target.goal for path in short for target in path.targets if target.goal]
    assert len(goals) == len(set(goals)) == GOALS
    for path in short:
        labels = {contender.label for contender in path.contenders}
        assert {target.of for target in path.targets} <= labels


def test_full_form_has_everything() -> None:
    assert [shown_in(FULL, paths) for paths in BLOCKS.values()] == [
        list(paths) for paths in BLOCKS.values()
    ]


def test_path_that_is_named_is_measured_whatever_the_form() -> None:
    [(block, path)] = choose(SHORT, ["map-fleet"], [])
    assert (block, path.key, path.only_full) == ("maps", "map-fleet", True)
    assert "map-fleet" not in [path.key for _, path in choose(SHORT, ["maps"], [])]


def test_only_some_programs_may_be_chosen() -> None:
    chosen = choose(SHORT, ["streams"], ["faststream"])
    assert {each.program for _, path in chosen for each in path.contenders} == {Program.FASTSTREAM}


@pytest.mark.parametrize("path", PATHS, ids=[path.key for path in PATHS])
def test_every_contender_can_be_started(path: Path) -> None:
    """Somebody knows its program and its kind of worker, and every peer's version is fixed somewhere."""
    for contender in path.contenders:
        program = contender.program
        if contender.shape is Shape.ENQUEUE:
            assert program in PROGRAMS
        elif contender.shape in WORKERS:
            assert contender.role in PROGRAMS[program].workers
        else:
            assert program in MODULES or program in golang.MODULES
        assert program in OURS or program in {*golang.MODULES, *peers.REQUIREMENTS}


def test_peers_are_pinned() -> None:
    """A run of today and one of next month measure the same versions."""
    for program, requirements in peers.REQUIREMENTS.items():
        assert "==" in requirements[0], program
    for module in golang.MODULES.values():
        text = (golang.SOURCE / module.folder / "go.mod").read_text()
        assert golang.required(text, module.library) != "unknown"
        assert golang.required(text, golang.CLIENT) != "unknown"


def test_version_of_a_go_module_is_read_from_its_file() -> None:
    text = "require one.example/a v1.2.3\n\nrequire (\n\ttwo.example/b/v9 v9.0.1 // indirect\n)\n"
    assert golang.required(text, "one.example/a") == "1.2.3"
    assert golang.required(text, "two.example/b/v9") == "9.0.1"
    assert golang.required(text, "example/b/v9") == "unknown"
