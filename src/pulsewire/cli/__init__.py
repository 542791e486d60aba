"""The command line: `pulsewire ...`, or `python -m pulsewire.cli ...`.

A face of the public API and nothing more: it uses the names of `pulsewire` and `pulsewire.errors` that every user has,
and never a key, a script or the Redis client. `app.py` puts the commands together; each group has a file of its own;
`demo/` is the main job.
"""

from __future__ import annotations

from pulsewire.cli.app import main

__all__ = ["main"]
