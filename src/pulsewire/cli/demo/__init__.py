"""`pulsewire demo`: the blocks at work between real processes, some of them killed, and a proof that nothing was lost.

Four acts, each a folder with the same rooms:

| act | what is seen | who is killed |
|---|---|---|
| `signup/` | the main story: users sign up, all four blocks work together | two processes, Redis |
| `tickets/` | the article's tickets: one stream, one group of consumers | a consumer |
| `pool/` | jobs in a worker pool, that move | a node |
| `tasks/` | three queues with priorities, retries, groups, ticks | a server |

| room of an act | holds |
|---|---|
| `__init__.py` | the essay: what happens in which order, and what is trusted |
| `plan.py` | its numbers, checked before anything starts |
| `stage.py` | what it stands on, and the removal of that; the way in: `perform` |
| `commands.py`, `role.py` | the hidden commands of its processes, and what these do |
| `director.py` | the course of events |
| `progress.py` | where it stands, as counts; pure |
| `view.py` | how it looks while it runs |
| `verdict.py`, `summary.py` | whether it held, pure; and that in words |

What the acts share lies here. `command.py` has the options and plays the acts. `director.py` is the course of events
as far as all have it, with `crew.py` for the processes, `lifeline.py` for what ties these to their parent, and
`patience.py`. `journal.py` is what they write, `journaled.py` writes it around jobs and tasks, `runs.py` and
`attempts.py` read it. `view.py` and `screen.py` show an act, `summary.py` and `problems.py` tell its end.

What is trusted in every act: a journal line. A process writes it with one call, after the work and before it tells
Redis, to a file that Redis knows nothing of. So a line says "the work was done", and a kill may come between it
and the acknowledgement: then the work is done twice, which at-least-once allows and each verdict explains.

What ends what: the parent ends its children by their process ids, on success, error and Ctrl-C. A child whose standard
input ends has lost its parent, kill -9 included, and ends by itself.
"""

from __future__ import annotations

__all__: list[str] = []
