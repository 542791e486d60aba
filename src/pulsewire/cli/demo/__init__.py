"""The main job: `pulsewire demo`, the article's tickets between real processes, one of them killed, and a proof.

```
            demo (parent)                      server                     consumers (processes)
  starts everything, watches          stream `tickets`             1..5: sink `tickets-consumer-group`
  the journals and info()  ---------> group, pending list <------- handle (100 ms), write journal, ack
        |                                     ^
        +-- "go" --> publisher (process) -----+   writes its journal too
```

1. All processes start. When every consumer has joined the group, the publisher gets its "go". Tickets are handled
   while others are still being published.
2. When a part of the tickets is handled, one consumer gets SIGKILL. What it held stays in the group's pending list,
   and after `ack_grace` the others take it over. Nobody is told; nothing is restarted.
3. When the journals show every published ticket and nothing is pending, the consumers get SIGTERM and end gracefully.
4. A reader replays the stream from its beginning, and `verdict.py` compares three things that were written
   independently: what the publisher said it published, what the stream holds, what the consumers said they handled.

What is trusted: a journal line. A consumer writes it after the work and before the ack, with one write to a file that
the server knows nothing of, so a line says "the work was done", and a kill may come between it and the ack: then the
ticket is handled twice, which at-least-once allows and the verdict explains.

What ends what: the parent ends its children by their process ids, on success, error and Ctrl-C. A child whose standard
input ends has lost its parent, kill -9 included, and ends by itself; the stream then goes by its time to live.

Who does what: `command.py` has the options and the hidden commands, `plan.py` the numbers; `stage.py` is what the demo
stands on, `director.py` the course of events; `crew.py` holds the processes, `roles.py` what they do, `journal.py` what
they write; `progress.py` knows where it stands, `view.py` shows it; `verdict.py` and `summary.py` say whether it holds.
The second act, a worker pool, and the third one, task queues, have the same rooms in `pool/` and `tasks/`, and their
own pictures there; `problems.py`, `rate.py`, `patience.py` and `folder.py` are for all of them.
"""

from __future__ import annotations

__all__: list[str] = []
