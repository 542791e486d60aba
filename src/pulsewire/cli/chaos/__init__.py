"""`pulsewire chaos`: bad weather on the user's own machine, and an account of what was lost, done twice, or late.

```
        chaos (parent)                 private server          workers (processes)
   adds events, counts in a map, <---> proxy ---+------- half of them behind the proxy, too:
   dispatches jobs, enqueues tasks              +------- a sink, a node, a task server and a replica
        |                                                of the map each; write their journals
        +-- every few seconds one fault: kill, freeze, restart, cut, swallow, flush
```

1. A server starts that belongs to this run alone, with a proxy in front of it; workers start. The user's server is not
   touched, whatever the environment says.
2. The parent asks for things all the time, and writes down what it was told of each (`promises.py`). The workers
   write down what they do before the server hears of it (the journals of the demo).
3. Faults come, each kind at least once as long as the time lasts. After each one the parent waits until every block
   does something that was asked for after the fault, and notes how long that took.
4. When the time is over the parent asks for no more, waits until all is done, and `verdict.py` compares the accounts.

What is done twice is explained where the fault met it in flight: its worker was killed or frozen, or the connection or
the server were away meanwhile. Whatever else is wrong, the command exits with 1.

Who does what: `command.py` has the options, `plan.py` the numbers; `stage.py` is what the run stands on, `director.py`
its course, `faults.py` what happens; `load.py` asks, `role.py` is a worker; `sightings.py` reads the journals,
`verdict.py` and `summary.py` say whether it holds. Processes and journals are those of the demo.
"""

from __future__ import annotations

__all__: list[str] = []
