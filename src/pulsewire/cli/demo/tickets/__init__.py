"""The article's tickets: one stream, one group of consumers, one of them killed, and none of them lost.

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

When the parent is killed, the stream goes by its time to live.
"""

from __future__ import annotations

__all__: list[str] = []
