"""The host's lease and watchdog: a sandbox whose host is cut off from Temporal is frozen before another replaces it.

Three parties, three clocks that need not agree on the time, only on how long a second is:

- The worker proves contact with Temporal every fifth of `lease_seconds` (L) and writes when: the moment *before* the
  request was sent, by the clock that counts since boot (`workers/lease.py`).
- The watchdog, a process of its own, looks at that file twice a second. L after the newest contact it freezes every
  container of this host. A frozen container computes nothing, writes nothing and sends nothing, whatever its network
  is.
- An agent's workflow that gets no answer from the host sends `host.ping` to the host's control queue, and gives the
  host up when that was not answered for 1.5 L.

Why the host is frozen by then. Let the ping be sent at s and given up at s + 1.5 L. A worker that had contact after s
found the ping waiting, and its answer takes less than 0.2 L: so the newest contact was before s, or less than 0.2 L
before the end. In the first case the containers were frozen by s + L, and what the watchdog needs to notice and to
freeze (half a second, and some 50 ms a container, sixteen at a time) fits into the half L that is left. In the second
case the contact before it was earlier than s, so they were frozen by then too; and they stay so, because contact
alone thaws nothing: the worker asks Temporal what each agent holds, and an agent that is in the middle of a recovery,
or has gone on with the next generation, is not one whose sandbox is thawed (`workers/thaw.py`). `sandbox.assess`
thaws as well, since the agent itself asks for it, once Temporal has confirmed that it still does: the task may have
been on its way for long (`workers/tasks.py`).

A command that was just starting is frozen half started, and the Docker daemon, which waits for it, then answers for its
container no more. Up to 1.4 L after the newest contact the watchdog lets such a container go on for moments, until the
command has started; later it stays as it is, and whoever thaws it lets it go on by its cgroup.

What is assumed: the watchdog runs (the worker starts another when it died; a host that is suspended or powered off
runs nothing either), its Docker daemon freezes containers within 0.5 L, a worker with contact answers a ping that
waits within 0.2 L, and the host's clock runs as fast as Temporal's. A freeze that fails three times is answered by
killing the container. Should all of this fail, the second fence holds: the object store refuses every snapshot of a
generation that was superseded (`activities/snapshots/head.py`).
"""
