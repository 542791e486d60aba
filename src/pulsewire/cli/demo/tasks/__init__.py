"""Three queues of tasks between real processes: one server is killed, and every task is done.

```
   client (process)                  server                        servers (processes)
  enqueues at a steady      queues `critical`, `default`,      1..3: take 6 : 3 : 1, run 20 at a time
  rate, writes down    ---> `low`: pending, scheduled,  <----- write begin and end of each attempt into
  what was accepted         retry, groups, leases              their journals, then settle it
                                     ^
   schedulers (processes) -----------+                          demo (parent): watches the journals and
   1..2: a tick every two seconds                               the inspector, kills one server
```

1. Servers and schedulers start. When all are there the client gets its "go", and enqueues faster than the servers can
   work: what is critical goes first, what is low waits.
2. Among the tasks are some that fail at first and are tried again, some for later, some that may exist only once (their
   twins are refused), some whose result is kept, and a group of which one task is made.
3. When a part of them has succeeded, one server gets SIGKILL. What it had taken stays active until its lease ends;
   then the others run it, and no retry is charged for it. Nobody is told; nothing is restarted.
4. When the journals show that every task has succeeded, the schedulers end, then the servers.
5. `verdict.py` compares what the client was told, what the servers say they ran, and what is left in Redis.

What is trusted: a journal line. `TaskOver` is written after the work and before Redis hears of it, so a kill may come
in between: then the task is run twice, which at-least-once allows and the verdict explains.

Tasks have no time to live, so the queues are removed whatever happens: by the parent; and if that was killed, by the
servers. What a killed server held must come back first, since nobody may remove a task that seems to be run.
"""

from __future__ import annotations

__all__: list[str] = []
