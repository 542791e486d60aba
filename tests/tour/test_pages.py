"""Pages of the docs that a reader follows word by word, followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.programs import Programs
from tests.tour.walking import ROOT, walk

PAGES = {"docs/tutorial.md": 15, "docs/migrating/celery-rq-arq.md": 4}
"""Page -> commands that it has at least."""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    """Started in an empty folder, with an embedded server of their own that lives as long as they."""
    folder = tmp_path / "walk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    programs = Programs({"PULSEWIRE_HOME": str(tmp_path / "home"), "NO_COLOR": "1"})
    try:
        holder = programs.pulsewire("server", "run")
        holder.wait_line("listening at ")
        yield programs
    finally:
        programs.close()


@pytest.mark.parametrize("page", PAGES)
def test_page_can_be_followed(page: str, programs: Programs) -> None:
    """Each file is written, each command is run, and prints what the page says."""
    assert walk(ROOT / page, Path.cwd(), programs) >= PAGES[page]
