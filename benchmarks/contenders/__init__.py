"""The programs that are measured. Each runs alone, as `python -m benchmarks.contenders.<name>`."""

from __future__ import annotations
