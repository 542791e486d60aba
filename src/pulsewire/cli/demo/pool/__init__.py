"""Jobs in a worker pool: node processes share them; one is killed, another one comes, and nothing is lost.

```
            demo (parent)                      server                     nodes (processes)
  dispatches jobs, watches            pool `watchers`              1..4: one worker each
  the journals, kills one   --------> who owns which job, <------- run jobs until they are told to
        |                             with which token             stop; write begin and end of
        +-- client-only node                                       each run into their journals
```

1. Four nodes join. Jobs are dispatched at a steady rate, each until it has started.
2. When half of them have started, one node gets SIGKILL. Dispatching goes on: what is meant for the dead node
   waits. Once its lease has ended (`worker_ttl`), the others take its jobs over, with larger tokens.
3. A new node comes. The others stop the jobs that belong to it now, and hand them over.
4. The pool is shut down: all jobs end, all nodes leave.
5. `verdict.py` compares what the parent dispatched, what the pool said before its end, and the journals: every job ran,
   no two runs of one job overlap, tokens grow from run to run, none was lost.

What is trusted: a journal line, written by the process that runs the job to a file that the server knows nothing of.
The runs of the killed node ended when the parent had seen it dead.

Jobs have no time to live, so the pool is shut down whatever happens: by the parent; and if that was killed, by the
nodes.
"""

from __future__ import annotations

__all__: list[str] = []
