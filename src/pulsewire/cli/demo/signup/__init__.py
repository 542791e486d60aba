"""The main story: users sign up, all four blocks work together, and two processes and Redis are killed on the way.

```
  web (process)            stream `users`                           pool `email-pool`: a job per user
  signs users up  ------>  sink `mailer`: mailer 1, mailer 2  --+-> has the address confirmed ---+
                           sink `analytics`, sink `audit`       |                                +--> worker 1
                                                                |   queue `welcome`: a task per  |    worker 2
  operator (process)       map `feature-flags`                  +-> user, the mail; some are  ---+
  switches a flag  ----->  followed by every process                refused and sent again
```

1. Eight processes start: a web front, an operator, two mailers, analytics, audit, two e-mail workers. When all have
   arrived, users sign up at a steady rate.
2. Each user is an event; every sink sees it. A mailer orders a welcome mail (task) and a confirmation (job) for it.
3. When a fifth has signed up, a mailer gets SIGKILL. What it held is delivered to the other one after `ack_grace`.
4. The operator switches the feature flag `welcome.form`; every process has it in its own memory a moment later, and the
   mails that are begun from then on have the new form.
5. Redis itself gets SIGKILL. Its keeper starts it again, with everything that it had acknowledged (`appendfsync
   always`); all processes connect again, and whoever was signing up waits a moment. A server that the user has named
   with `--url` is left alone.
6. A worker gets SIGKILL. The other one takes over its jobs when `worker_ttl` has passed, and its mails after `lease`.
7. When the journals show that everything was done for everybody, and Redis that nothing is left to do, the processes
   end, and `verdict.py` counts: everybody who was told "you have signed up" was seen by every sink, was mailed, and
   has confirmed; the flag has reached every process. Whatever was begun or done twice was in somebody's hands at a
   kill, or has another reason that the journals show.

Nobody is told of a kill, and no process is started again.

What may be done twice, and what may not: tasks have the user's name as their id and are remembered, so that an event
that comes twice enqueues nothing new; the idempotency key makes a sign-up one event however often the web front has to
try. Jobs are not remembered: one whose event comes twice may run twice.

Without `--url` the server, with its data, is the act's own, beside the journals, and goes with them. Else the parent
removes what it has made; if that was killed, the workers end pool and queue, and the stream and the map go by their
time to live.
"""

from __future__ import annotations

__all__: list[str] = []
