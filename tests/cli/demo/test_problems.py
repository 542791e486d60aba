"""How verdicts name culprits."""

from __future__ import annotations

from pulsewire.cli.demo.problems import problems


def test_only_what_has_culprits_is_a_problem() -> None:
    found = list(problems("jobs", {"were lost": ["a", "b"], "never ran": iter(())}))
    assert found == ["2 jobs were lost: a, b"]


def test_many_culprits_are_counted_and_some_are_named() -> None:
    (found,) = problems("tasks", {"were lost": (str(number) for number in range(1007))})
    assert found == "1,007 tasks were lost: 0, 1, 2, 3, 4, and 1,002 more"
