"""Starting the programs that run in processes of their own: on their path is the product under test."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

import pulsewire

ROOT = Path(__file__).parents[2]
SOURCE = Path(pulsewire.__file__).parents[1]
"""Where the product under test is: the processes run the same one."""
STARTING = anyio.Semaphore(3)
"""Processes that may be starting at a time: a hundred at once would starve those that run."""


async def start_program(
    name: str, *arguments: str, options: Mapping[str, Any]
) -> asyncio.subprocess.Process:
    """Start one of the programs beside this file, `options` in JSON being its last argument.

    What has been started is returned, whatever happens: whoever asked for it ends it.
    """
    started: asyncio.subprocess.Process | None = None
    with anyio.CancelScope(shield=True):
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, str(Path(__file__).with_name(name)), *arguments, json.dumps(options)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCE), str(ROOT)))},
        )
    assert started is not None
    return started
