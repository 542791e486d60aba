"""All that is measured, by the building block that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks import maps, pools, streams, tasks
from benchmarks.plan import Path

BLOCKS: Final[Mapping[str, tuple[Path, ...]]] = {
    "streams": streams.PATHS,
    "maps": maps.PATHS,
    "pools": pools.PATHS,
    "tasks": tasks.PATHS,
}
