"""The embedded server, as its clients see it: attach to the one of this user, start it if need be, hold on to it.

Responsible for the connection that makes this process count as a client, and the explanation of failures. Leaves the
start of a keeper to `keeper_start.py`, paths and the lock to `home.py`, and the server's life to `keeper.py`.

The whole picture, with what happens when each process is killed, is in `docs/internals/embedded.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import anyio
import anyio.to_thread

from pulsewire._redis import keeper
from pulsewire._redis.home import Home
from pulsewire._redis.keeper import PROTOCOL, Message, encode_message
from pulsewire._redis.keeper_start import end_stray_server, start_keeper
from pulsewire._redis.server_binary import explain_failure
from pulsewire.errors import EmbeddedServerError

LOGGER_NAME = "pulsewire.embedded"

PATIENCE = 30.0  # for a keeper that says nothing; above its own limits for a silent server and a slow shutdown
STRAY_AGE = 2.0  # a lock held so long while no keeper listens is held by a server without one
RETRY_PAUSE = 0.01
KEEPER_STARTS = 3
ANSWER_TIMEOUT = 5.0
_OTHER_VERSION_ADVICE = "end it (SIGTERM) or use the version of pulsewire that started it"


@dataclasses.dataclass(frozen=True, slots=True)
class KeeperStatus:
    """A running embedded server.

    Attributes:
        pid: process of the keeper.
        server_pid: process of the server; None while it is being started again.
        url: where redis clients connect.
        data_dir: where the data and the log are.
        clients: attached programs (each `attach` counts).
        uptime: seconds since the keeper started.
        version: such as "valkey 9.1.2".
        persistent: False for an ephemeral server.
    """

    pid: int
    server_pid: int | None
    url: str
    data_dir: Path
    clients: int
    uptime: float
    version: str
    persistent: bool


async def attach(
    *, home: Path | None = None, ephemeral: bool = False, logger: logging.Logger | None = None
) -> Attachment:
    """Become a client of the embedded server, which is started if it does not run.

    Args:
        home: the folder with everything; default `$PULSEWIRE_HOME`, else the user's data folder. Processes with the
            same home share one server.
        ephemeral: a private server in a temporary folder instead, whatever `home` is; it keeps nothing on disk and
            ends with this attachment.
        logger: told about a server that was lost or started again.

    Raises:
        EmbeddedServerError: it cannot be started or reached; the message says why and what to do.
    """
    place = Home.temporary() if ephemeral else Home.at(home)
    attachment = Attachment(
        place, ephemeral=ephemeral, logger=logger or logging.getLogger(LOGGER_NAME)
    )
    try:
        await attachment.reattach()
    except BaseException:
        if ephemeral:
            place.remove()
        raise
    return attachment


class Attachment:
    """A hold on the embedded server: while it is open, the server runs.

    An async context manager; leaving it is `aclose()`.
    """

    def __init__(self, home: Home, *, ephemeral: bool, logger: logging.Logger) -> None:
        self._home = home
        self._is_ephemeral = ephemeral
        self._logger = logger
        self._line: _ControlLine | None = None
        self._joining = anyio.Lock()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "lost" if self.is_lost else "attached"
        return f"<Attachment {state} url={self.url!r} ephemeral={self.ephemeral}>"

    @property
    def url(self) -> str:
        """Where redis clients connect: `unix:///...`. It stays the same when the server is started again."""
        return self._home.url

    @property
    def home(self) -> Path:
        """The folder that identifies the server; `status()` and `stop()` take it."""
        return self._home.root

    @property
    def data_dir(self) -> Path:
        """Where the server keeps its data and its log."""
        return self._home.data_dir

    @property
    def ephemeral(self) -> bool:
        """Whether the server is private to this attachment and leaves nothing behind."""
        return self._is_ephemeral

    @property
    def is_lost(self) -> bool:
        """Whether the keeper is gone, so that only `reattach()` brings the server back."""
        return self._line is None or self._line.closed.is_set()

    @property
    def was_stopped(self) -> bool:
        """Whether the keeper was told to end while we were attached (by `stop()` or SIGTERM), rather than lost."""
        return self._line is not None and self._line.was_stopped

    async def wait_lost(self) -> None:
        """Return when the keeper is gone. Any number of tasks may wait."""
        if self._line is not None:
            await self._line.closed.wait()

    async def reattach(self) -> None:
        """Attach again after the keeper is gone: to the one that another client started, or to a new one.

        The URL and the data are the same; an ephemeral server comes back empty. Does nothing while attached.

        Raises:
            EmbeddedServerError: as for `attach`.
        """
        async with self._joining:
            if self._is_closed or not self.is_lost:
                return
            is_again = self._line is not None
            line, facts = await _join(self._home, ephemeral=self._is_ephemeral, logger=self._logger)
            if self._is_closed:  # meanwhile
                line.close()
                return
            self._line = line
            self._logger.log(
                logging.WARNING if is_again else logging.DEBUG,
                "attached to the embedded server again"
                if is_again
                else "attached to the embedded server",
                extra={"url": self.url, "keeper_pid": facts["pid"], "server": facts["version"]},
            )

    async def aclose(self) -> None:
        """Let the server go. An ephemeral one is gone, with its folder, when this returns."""
        self._is_closed = True
        line, self._line = self._line, None
        if line is None:
            return
        try:
            if self._is_ephemeral:
                line.send({"request": "stop"})
                with anyio.CancelScope(shield=True), anyio.move_on_after(PATIENCE):
                    await line.closed.wait()
        finally:
            line.close()
            if self._is_ephemeral:
                self._home.remove()  # if the keeper was killed before it could


def status(home: Path | None = None) -> KeeperStatus | None:
    """The embedded server of a home, or None when none runs. Does not start one and does not keep one alive.

    Raises:
        EmbeddedServerError: there is a keeper, but it does not answer or speaks another protocol.
    """
    with _asking(Home.at(home), {"request": "status"}) as (answer, _):
        if answer is None:
            return None
        fields = {field.name: answer[field.name] for field in dataclasses.fields(KeeperStatus)}
        return KeeperStatus(**{**fields, "data_dir": Path(answer["data_dir"])})


def stop(home: Path | None = None, *, timeout: float = 10.0) -> bool:
    """End the embedded server of a home, with its data saved, whoever is attached.

    A client that holds on (`Attachment.reattach`) starts a new one.

    Returns:
        True when it has ended, False when none ran.

    Raises:
        EmbeddedServerError: it has not ended within `timeout` seconds, or does not answer.
    """
    with _asking(Home.at(home), {"request": "stop"}) as (answer, connection):
        if answer is None:
            return False
        connection.settimeout(timeout)
        try:
            while connection.recv(keeper.MESSAGE_LIMIT):
                pass  # the connection ends with the keeper
        except TimeoutError:
            raise EmbeddedServerError(
                f"it has not ended within {timeout:g} seconds of being stopped"
            ) from None
        except ConnectionError:
            pass
        return True


async def _join(
    home: Home, *, ephemeral: bool, logger: logging.Logger
) -> tuple[_ControlLine, Message]:
    """Attach to the keeper of a home, starting one if there is none."""
    silent_since = time.monotonic()
    starts = 0
    has_ended_stray = False
    while True:
        line = await _ControlLine.open(home.keeper_address()[0], logger)
        if line is not None:
            facts = await _attach(line, home)
            if facts is not None:
                return line, facts
            silent_since = time.monotonic()  # it was just ending
        elif await anyio.to_thread.run_sync(partial(start_keeper, home, ephemeral=ephemeral)):
            starts += 1
            if starts > KEEPER_STARTS:
                raise explain_failure("its keeper ends as soon as it has started", home.log_file)
            continue
        silence = time.monotonic() - silent_since
        if silence > PATIENCE:
            raise EmbeddedServerError(
                f"{home.lock_file} is locked, but no keeper answers; end process {home.keeper_address()[1]} if it hangs"
            )
        if silence > STRAY_AGE and not has_ended_stray:
            has_ended_stray = await anyio.to_thread.run_sync(end_stray_server, home, logger)
        await anyio.sleep(RETRY_PAUSE)


async def _attach(line: _ControlLine, home: Home) -> Message | None:
    """The keeper's answer when it has taken us as a client, or None when it ended instead."""
    try:
        reply = await line.attach()
        if reply is not None:
            _check_reply(reply, home)
    except BaseException:
        line.close()
        raise
    else:
        return reply


class _ControlLine(asyncio.Protocol):
    """The connection to the keeper. While it is open, the keeper counts us.

    It needs no task: the loop calls it when the keeper says something or is gone.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.closed = anyio.Event()
        self.was_stopped = False
        self._logger = logger
        self._is_attached = False
        self._replies: asyncio.Queue[Message | None] = asyncio.Queue()
        self._received = b""
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, path: str, logger: logging.Logger) -> Self | None:
        """Connect; None when nobody listens."""
        try:
            _, line = await asyncio.get_running_loop().create_unix_connection(
                partial(cls, logger), path
            )
        except (FileNotFoundError, NotADirectoryError, ConnectionError, BlockingIOError):
            return None
        except OSError as error:
            raise EmbeddedServerError(f"its keeper cannot be reached at {path}: {error}") from error
        else:
            return line

    async def attach(self) -> Message | None:
        """Ask to be a client and wait for the server; None when the keeper is gone."""
        self.send({"request": "attach"})
        while True:
            try:
                with anyio.fail_after(PATIENCE):
                    reply = await self._replies.get()
            except TimeoutError as error:
                reason = f"its keeper has not answered for {PATIENCE:g} seconds"
                raise EmbeddedServerError(reason) from error
            if reply is None or reply.get("reply") != "starting":
                self._is_attached = reply is not None
                return reply

    def send(self, message: Message) -> None:
        """Send a request, if there is still a keeper."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_message(message))

    def close(self) -> None:
        """Let go: the keeper counts one client less."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._received += data
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._replies.put_nowait(None)
        self.closed.set()

    def _take(self, message: Message) -> None:
        if message.get("event") == "stopping":
            self.was_stopped = True
        elif message.get("event") == "server_died":
            self._logger.warning(
                "the embedded server died and is started again", extra={"how": message["how"]}
            )
        elif self._is_attached and message.get("reply") == "failed":
            self._logger.error(
                "the embedded server cannot be kept running", extra={"reason": message["reason"]}
            )
        else:
            self._replies.put_nowait(message)


def _check_reply(reply: Message, home: Home) -> None:
    """Raise what a reply says went wrong."""
    if reply.get("reply") == "failed":
        reason, version = reply["reason"], reply["version"]
        raise explain_failure(reason, home.log_file, reply["log_start"], version=version)
    if reply.get("reply") == "refused":
        raise EmbeddedServerError(f"{reply['reason']}; {_OTHER_VERSION_ADVICE}")
    if reply.get("protocol") != PROTOCOL:
        reason = f"the running keeper speaks protocol {reply.get('protocol')}, we speak {PROTOCOL}"
        raise EmbeddedServerError(f"{reason}; {_OTHER_VERSION_ADVICE}")


@contextlib.contextmanager
def _asking(home: Home, request: Message) -> Iterator[tuple[Message | None, socket.socket]]:
    """The keeper's answer to one request, and the open connection; None when there is no keeper."""
    address, pid = home.keeper_address()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_TIMEOUT)
        try:
            connection.connect(address)
            connection.sendall(encode_message(request))
            with connection.makefile("rb") as lines:
                line = lines.readline()
        except (FileNotFoundError, NotADirectoryError, ConnectionError):
            line = b""
        except OSError as error:
            raise EmbeddedServerError(
                f"its keeper (process {pid}) does not answer: {error}"
            ) from error
        answer = json.loads(line) if line else None
        if answer is not None:
            _check_reply(answer, home)
        yield answer, connection
