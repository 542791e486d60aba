"""How fast pulsewire is, side by side with what one would use instead.

`python -m benchmarks` starts one private server and measures every *path* (adding events, a sink with
acknowledgements, ...) for every *contender* (pulsewire, plain redis-py, a bare probe, a Go program, a task library) in
turn: A B C, A B C, ... so that a slow minute of the machine hits all of them. Each contender is a process of its own;
beside its rate stands the CPU that it and the server spent on one operation, which is the steadier figure.

* `plan` has the words (path, contender, target, form), `streams`, `maps`, `pools` and `tasks` the paths, `blocks` all
  of them;
* `server` is the private server, `contender_process` one running contender, `worker_process` one worker of a task
  library, `session` the rounds, `pool_rounds` and `task_rounds` those of pools and tasks, `clocks` the counters around
  them;
* `golang` builds the Go programs, `peers` sets up the Python libraries that are compared with, each in an environment
  of its own, `task_programs` says how their workers are started;
* `budget` looks with a profiler where the CPU of an operation goes;
* `results` turns samples into medians and verdicts, `recording` writes them down as JSON and reads them;
* `tables` says them in cells and sentences, `report` on a terminal, `page` in the documentation, with `plots` as
  pictures and `page.md` as the template;
* `contenders/` and `go/` are the programs that are measured.

What the figures mean and what the choices were: `docs/decisions/0005-benchmarks.md`.
"""

from __future__ import annotations
