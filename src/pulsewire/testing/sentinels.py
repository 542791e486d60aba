"""A master with replicas, watched by sentinels.

Responsible for starting such a group quickly, for making it fail over, and for bringing it back to
health. The processes are `processes.py` and `servers.py`.

The sentinels are real and decide as always. They only look more often (several times a second
instead of every 1 to 10 s), so that a test sees them act soon after the `down_after` it asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from pulsewire.testing.ports import HOST
from pulsewire.testing.processes import ServerProcess
from pulsewire.testing.resp import ReplyError
from pulsewire.testing.servers import SingleServer
from pulsewire.testing.waiting import wait_until, wait_well

__all__ = ["SentinelGroup"]

SERVICE = "mymaster"
REPLICAS = 2
SENTINELS = 3
QUORUM = 2
HEALTH_TIMEOUT = 20.0
TIE_BREAKER_DELAY = 0.4
# Milliseconds. During a failover sentinels ask for INFO once a second, whatever they are told here,
# and two limits must be longer than that: a replica counts as good while its INFO is younger than
# five ping periods, and the other sentinels leave a promoted replica in peace for four publish
# periods. The long rest of a sentinel that thinks its clock jumped ("TILT", 30 s) is cut, since a
# busy test machine causes it.
_BRISK = {
    "INFO-PERIOD": 100,
    "PING-PERIOD": 300,
    "ASK-PERIOD": 100,
    "PUBLISH-PERIOD": 500,
    "TILT-PERIOD": 1_000,
    "MIN-LINK-RECONNECT-PERIOD": 100,
}
_NOT_WELL = {"s_down", "o_down", "disconnected"}


class _Sentinel(ServerProcess):
    """One sentinel process."""

    def __init__(self, binary: Path, configuration: str) -> None:
        super().__init__(binary)
        self._configuration = configuration

    def arguments(self) -> Sequence[str]:
        """A sentinel reads and rewrites a file of its own; only its first start writes it here."""
        file = self.directory / "sentinel.conf"
        if not file.exists():
            file.write_text(self._configuration)
        return (
            str(file),
            "--sentinel",
            *("--port", str(self.port), "--bind", HOST, "--dir", str(self.directory)),
        )


class SentinelGroup:
    """One master, two replicas, three sentinels; an async context manager, healthy when entered.

    Args:
        binary: the server program; the one of the embedded server if none is given.
        down_after: seconds of silence after which a sentinel holds the master for dead.
        failover_timeout: seconds a sentinel gives a failover before it gives up and starts anew.
        args: more arguments for the data servers.
    """

    def __init__(
        self,
        binary: Path | None = None,
        *,
        down_after: float = 0.5,
        failover_timeout: float = 2.0,
        args: Sequence[str] = (),
    ) -> None:
        # min-replicas-max-lag and the like stay at the server's defaults: tests are about those.
        options = ("--repl-ping-replica-period", "1", *args)
        self.data_servers = tuple(SingleServer(binary, args=options) for _ in range(1 + REPLICAS))
        self.sentinels: tuple[ServerProcess, ...] = ()
        self.down_after = down_after
        self.failover_timeout = failover_timeout

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            self._clean_up()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._clean_up()

    def __repr__(self) -> str:
        return f"<SentinelGroup {self.url if self.sentinels else 'not started'}>"

    @property
    def kind(self) -> str:
        """The name of this topology."""
        return "sentinel"

    @property
    def url(self) -> str:
        """What to give to `pulsewire.connect`: the three sentinels and the service."""
        places = ",".join(f"{server.host}:{server.port}" for server in self.sentinels)
        return f"redis+sentinel://{places}/{SERVICE}"

    @property
    def servers(self) -> tuple[ServerProcess, ...]:
        """All six processes."""
        return (*self.data_servers, *self.sentinels)

    async def masters(self) -> tuple[SingleServer, ...]:
        """The master, alone."""
        return (await self.master(),)

    async def node_of(self, key: str) -> SingleServer:
        """The master: it has every key."""
        return await self.master()

    async def master(self) -> SingleServer:
        """The server that most sentinels name as master (it may be down or paused just now)."""
        votes = [await self._vote(sentinel) for sentinel in self.sentinels]
        for server in self.data_servers:
            if votes.count(server.address) >= QUORUM:
                return server
        raise RuntimeError(f"the sentinels do not agree on a master: {votes}")

    async def kill_master(self) -> SingleServer:
        """End the master with SIGKILL; returns it. `wait_new_master` and `restart` come next."""
        master = await self.master()
        await master.kill()
        return master

    async def wait_new_master(self, old: SingleServer, *, timeout: float = 15.0) -> SingleServer:
        """The master that follows `old`, as soon as all sentinels name it and it accepts writes.

        Raises:
            AssertionError: nobody took over in time.
        """

        async def replaced() -> bool:
            votes = {await self._vote(sentinel) for sentinel in self.sentinels}
            if votes == {old.address} or len(votes) != 1:
                return False
            return (await _info(await self.master(), "replication")).get("role") == "master"

        await wait_until(replaced, timeout=timeout, what=f"the sentinels replaced {old!r}")
        return await self.master()

    async def failover(self, *, timeout: float = 15.0) -> SingleServer:
        """Let the sentinels change the master in an orderly way; returns the new one.

        A failover that they give up, since it took longer than `failover_timeout` on a busy machine, is begun again.
        """
        old, leader = await self.master(), self.sentinels[0]

        async def accepted() -> bool:
            if await self._vote(leader) != old.address:
                return True  # it is over already
            try:
                await leader.command("SENTINEL", "FAILOVER", SERVICE)
            except ReplyError as error:
                if error.code not in ("NOGOODSLAVE", "INPROG"):
                    raise
                return False
            return True

        async def succeeded() -> bool:
            await wait_until(accepted, timeout=timeout, what="a sentinel began the failover")
            try:
                await self.wait_new_master(old, timeout=2 * self.failover_timeout + 1.0)
            except AssertionError:
                return False
            return True

        await wait_until(succeeded, timeout=2 * timeout, what=f"the sentinels replaced {old!r}")
        return await self.master()

    async def restart(self, server: SingleServer) -> None:
        """Start a data server again: as a replica of the present master, unless it is still that."""
        master = await self.master()
        if master is server:
            await server.restart()
        else:
            await server.restart("--replicaof", f"{master.host} {master.port}")

    async def heal(self) -> None:
        """Resume and restart everything, then `wait_healthy`."""
        for server in self.servers:
            if server.is_alive:
                server.resume()
        for sentinel in self.sentinels:
            if not sentinel.is_alive:
                await sentinel.restart()
                await self._make_brisk(sentinel)
        for server in self.data_servers:
            if not server.is_alive:
                await self.restart(server)
        await self.wait_healthy()

    async def wait_healthy(self, *, timeout: float = HEALTH_TIMEOUT) -> None:
        """Return when one master has both replicas in sync, and every sentinel sees just that.

        Raises:
            AssertionError: it did not come to that; the message says what was wrong.
        """
        await wait_well(self._complaint, timeout=timeout, what="the group is healthy")

    # --- inside

    async def _start(self) -> None:
        async with anyio.create_task_group() as group:
            for server in self.data_servers:
                group.start_soon(server.start)
        master, *replicas = self.data_servers
        for replica in replicas:
            await replica.command("REPLICAOF", master.host, master.port)
        # The last sentinel notices a little later. Three that notice at once each vote for
        # themselves, and try again only after two failover timeouts; of two, the third one's vote
        # makes the leader.
        sentinels = tuple(
            _Sentinel(master.binary, self._configuration(master, self.down_after + delay))
            for delay in (*[0.0] * (SENTINELS - 1), TIE_BREAKER_DELAY)
        )
        self.sentinels = sentinels
        async with anyio.create_task_group() as group:
            for sentinel in sentinels:
                group.start_soon(sentinel.start)
        for sentinel in sentinels:
            await self._make_brisk(sentinel)
        await self.wait_healthy()

    def _configuration(self, master: SingleServer, down_after: float) -> str:
        lines = (
            f"sentinel monitor {SERVICE} {master.host} {master.port} {QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {int(down_after * 1000)}",
            f"sentinel failover-timeout {SERVICE} {int(self.failover_timeout * 1000)}",
            f"sentinel parallel-syncs {SERVICE} {REPLICAS}",
        )
        return "\n".join((*lines, ""))

    async def _make_brisk(self, sentinel: ServerProcess) -> None:
        await sentinel.command("SENTINEL", "DEBUG", *(w for pair in _BRISK.items() for w in pair))

    def _clean_up(self) -> None:
        for server in self.servers:
            server.clean_up()

    async def _vote(self, sentinel: ServerProcess) -> tuple[str, int] | None:
        """Where this sentinel says the master is; None if it says nothing."""
        try:
            answer = await sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        except (OSError, TimeoutError):
            return None
        return None if answer is None else (answer[0].decode(), int(answer[1]))

    async def _complaint(self) -> str:
        """What is not healthy yet; empty if all is well."""
        try:
            master = await self.master()
        except RuntimeError as error:
            return str(error)
        seen = await _info(master, "replication")
        replicas = [value for name, value in seen.items() if name.startswith("slave")]
        online = [value for value in replicas if "state=online" in value]
        if seen.get("role") != "master" or len(online) != REPLICAS:
            return f"{master!r} has not {REPLICAS} replicas online: {seen}"
        for server in self.data_servers:
            if server is not master:
                own = await _info(server, "replication")
                if own.get("master_link_status") != "up" or own["master_port"] != str(master.port):
                    return f"{server!r} does not follow {master!r}: {own}"
        for sentinel in self.sentinels:
            complaint = await self._complaint_of(sentinel)
            if complaint:
                return complaint
        return ""

    async def _complaint_of(self, sentinel: ServerProcess) -> str:
        try:
            async with sentinel.connection() as connection:
                state, replicas, others = await connection.pipeline(
                    ("SENTINEL", "MASTER", SERVICE),
                    ("SENTINEL", "REPLICAS", SERVICE),
                    ("SENTINEL", "SENTINELS", SERVICE),
                )
        except (OSError, TimeoutError) as error:
            return f"{sentinel!r} does not answer: {error}"
        fields = _fields(state)
        if fields["flags"] != "master" or fields["num-other-sentinels"] != str(SENTINELS - 1):
            return f"{sentinel!r} sees the master as {fields}"
        for replica in map(_fields, replicas):
            if replica["flags"] != "slave" or replica["master-link-status"] != "ok":
                return f"{sentinel!r} sees a replica as {replica}"
        if len(replicas) != REPLICAS:
            return f"{sentinel!r} sees {len(replicas)} replicas"
        if any(_NOT_WELL & set(_fields(other)["flags"].split(",")) for other in others):
            return f"{sentinel!r} misses another sentinel: {others}"
        return ""


def _fields(flat: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


async def _info(server: ServerProcess, section: str) -> dict[str, str]:
    """A section of INFO; empty if the server does not answer."""
    try:
        return await server.info(section)
    except (OSError, TimeoutError, ReplyError):
        return {}
