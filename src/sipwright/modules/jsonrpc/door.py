"""Where services dial in, in one worker: owns their connections and methods, and what the workers know of them.

The listening sockets are the server's and outlive the worker. Each connection is in one worker, and the others reach it
through its relay, of which they learn by a notice: it holds while the service serves, and goes when it drains, or when
the worker dies.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from socket import socket
from typing import Any

import msgspec

from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc import openrpc
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec
from sipwright.jsonrpc.dispatch import Dispatcher
from sipwright.jsonrpc.executor import Executor
from sipwright.jsonrpc.framing import find_framing
from sipwright.jsonrpc.listeners import address_of
from sipwright.jsonrpc.messages import INVALID_REQUEST
from sipwright.jsonrpc.sockets import reason
from sipwright.modules.jsonrpc.dialed import DRAIN, PING, SERVE, UNAUTHORIZED, DialedService
from sipwright.modules.jsonrpc.relay import Relay
from sipwright.modules.jsonrpc.tokens import Tokens
from sipwright.script.services import Services

NOTICE = "jsonrpc:dialed:"
# A worker that is replaced lets its services dial in to its successor for so long, in seconds.
REDIAL_SECONDS = 3.0
# How long it lets the other workers end what they have asked.
LEAVE_SECONDS = 30.0
# What a service waits for at `rpc.drain`.
DRAIN_SECONDS = 60.0
INTERVAL = 0.02
# The machine has no room for another connection now; looked at again after so many seconds.
NOTHING_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE = 1.0

_unfit = re.compile(r"[^A-Za-z0-9._:@\[\]-]")


class Seen(msgspec.Struct):
    """What the workers know of a service: its group, where it is reached, and its priority."""

    group: str
    path: str
    priority: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Seen).decode


class DialedServers:
    """The services that have dialled in, as servers of the client of one worker."""

    def __init__(self, services: Services, client: Any) -> None:
        self._client = client
        self._log = services.log
        self._seen: dict[str, Seen] = {}
        self._is_closed = False
        services.follow(NOTICE, self._told)

    def _told(self, name: str, value: bytes | None) -> None:
        if self._is_closed:
            return
        if value is None:
            seen = self._seen.pop(name, None)
            if seen is not None:
                with suppress(ArgumentError):
                    # A command may have taken it away.
                    self._client.remove_server(ServerAddress(seen.path, 0, "unix"), seen.group)
                with suppress(OSError):
                    # Of a worker that was killed.
                    Path(seen.path).unlink(missing_ok=True)
            return
        seen = _decode(value)
        try:
            self._client.add_server(ServerSpec(ServerAddress(seen.path, 0, "unix"), seen.priority), seen.group)
        except ArgumentError:
            # Of a worker with another script, which has other groups.
            self._log.debug("a service of group '%s' has dialled in, which this script does not have", seen.group)
        else:
            self._seen[name] = seen

    def close(self) -> None:
        """Follow no more changes: the client is closed."""
        self._is_closed = True


class Door:
    """The services that have dialled in to this worker, and the methods that they may call."""

    def __init__(
        self,
        services: Services,
        tokens: Tokens,
        *,
        methods: Mapping[str, Callable[..., Any]],
        directory: Path,
        priority: int,
        serve_timeout: float,
        max_services: int,
        max_pending: int,
        framing: str,
        cancel_method: str | None,
        max_size: int = 1 << 20,
    ) -> None:
        self.log: logging.Logger = services.log
        self.max_size = max_size
        self.framing = find_framing(framing)
        self._cancel_method = cancel_method
        self.serve_timeout = serve_timeout
        self.executor = Executor()
        # Who has shown no token is kept from calling anything.
        self.executor.is_plain = False
        self.dispatcher = Dispatcher(DialedService)
        self._services = services
        self._tokens = tokens
        self._directory = directory
        self._priority = priority
        self._max_services = max_services
        self._max_pending = max_pending
        self._dialed: set[DialedService] = set()
        self._listening: dict[socket, ssl.SSLContext | None] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._numbers = itertools.count(1)
        self._is_replaced = False
        self._is_leaving = False
        for name, method in methods.items():
            self.dispatcher.add(name, method)
        self.dispatcher.add(PING, _pong, is_builtin=True)
        self.dispatcher.add(openrpc.DISCOVER, self._discover, is_builtin=True)
        self.dispatcher.add(SERVE, self._serve)
        self.dispatcher.add(DRAIN, self._drain)

    # ---- life

    def open(self, sockets: Sequence[tuple[socket, ssl.SSLContext | None]]) -> None:
        """Begin to accept on sockets that listen, each with the context of TLS or None."""
        self._loop = asyncio.get_running_loop()
        for listening, context in sockets:
            self._listening[listening] = context
            self._watch(listening)

    def _watch(self, listening: socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket) -> None:
        # Not by asyncio's server: one that is closed between the accept and the turn after it leaves the connection
        # open, and nobody has it. And one at a time, so that the other workers have some, too.
        try:
            end, place = listening.accept()
        except OSError as error:
            if error.errno in NOTHING_LEFT:
                self._loop.remove_reader(listening.fileno())
                self._loop.call_later(PAUSE, self._watch, listening)
                self.log.error("no service can dial in: %s", error.strerror)
            # Otherwise another worker was faster.
            return
        end.setblocking(False)
        task = self._loop.create_task(self._connect(end, self._listening[listening], place))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, end: socket, context: ssl.SSLContext | None, place: Any) -> None:
        peer = address_of(place, "tcp") if isinstance(place, tuple) else "a Unix socket"
        try:
            await self._loop.connect_accepted_socket(
                lambda: DialedService(self, self._loop).connection,
                end,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self.serve_timeout,
            )
        except OSError as error:
            # Of a handshake of TLS, as a rule.
            self.log.info("a service could not dial in from %s: %s", peer, reason(error))
            end.close()

    def _stop_listening(self) -> None:
        self._is_leaving = True
        for listening in self._listening:
            self._loop.remove_reader(listening.fileno())
            listening.close()
        self._listening.clear()

    def leave(self, is_replaced: bool) -> None:
        """Accept no more. When a successor does, the services are asked to dial in there."""
        self._stop_listening()
        self._is_replaced = is_replaced
        if is_replaced:
            for service in self._dialed:
                if service.group is not None:
                    service.ask_to_redial()

    async def close(self) -> None:
        """Let the services go, once nobody asks them any more. The client of this worker has to be closed before."""
        self._stop_listening()
        if self._is_replaced:
            # Until they have dialled in to a successor, the others have nobody else to ask.
            await self._wait(lambda: all(service.is_done.is_set() for service in self._dialed), REDIAL_SECONDS)
            for service in list(self._dialed):
                service.drain()
        await self._wait(self._is_idle, LEAVE_SECONDS)
        for service in list(self._dialed):
            service.connection.close()
        await asyncio.sleep(0)
        await self._wait(lambda: not self._dialed, 1.0)
        for service in list(self._dialed):
            service.connection.abort("the server has ended")
        await self.executor.finish(asyncio.get_running_loop().time() + 1.0)

    def _is_idle(self) -> bool:
        return all(service.relay is None or service.relay.is_idle for service in self._dialed)

    async def _wait(self, is_so: Callable[[], bool], seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while not is_so() and clock() < until:
            # Meanwhile answers go to and fro, and services and workers go.
            await asyncio.sleep(INTERVAL)

    # ---- what the services say

    async def _serve(self, service: DialedService, group: str = "", token: str = "") -> dict[str, Any]:
        """Serve a group on this connection."""
        if service.group is not None:
            raise RpcAnswerError(
                INVALID_REQUEST, "Invalid Request", f"this connection serves '{service.group}' already"
            )
        if self._is_leaving or not self._tokens.allow(group, token):
            why = "the server is stopping" if self._is_leaving else "the group or its token is wrong"
            self.log.warning("%s may not serve the group '%s': %s", service.peer, group, why)
            service.disconnect()
            raise RpcAnswerError(UNAUTHORIZED, why)
        loop = asyncio.get_running_loop()
        path = str(self._directory / self._file_name(group, service.peer))
        relay = Relay(
            loop,
            path,
            service.connection,
            limit=4 * self._max_pending,
            max_size=self.max_size,
            framing=self.framing,
            cancel_method=self._cancel_method,
            changed=service.look_whether_done,
        )
        service.serve(group, relay)
        # Meanwhile the connection may be lost: then the relay is closed, as soon as it listens.
        await relay.open()
        if service.is_done.is_set() or service.is_draining:
            relay.stop_listening()
            raise RpcAnswerError(INVALID_REQUEST, "Invalid Request", "the connection is being drained")
        self.log.info("JSON-RPC service %s serves the group '%s'", service.peer, group)
        self._services.post(NOTICE + path, _encode(Seen(group, path, self._priority)))
        return {"group": group, "worker": self._services.worker}

    async def _drain(self, service: DialedService) -> bool:
        """Be asked nothing new on this connection; the answer comes when the last call has ended."""
        service.drain()
        with suppress(TimeoutError):
            # Meanwhile the other workers end what they have asked.
            await asyncio.wait_for(service.is_done.wait(), DRAIN_SECONDS)
        return True

    def _discover(self) -> dict[str, Any]:
        """Describe the methods that a service may call."""
        return openrpc.document(self.dispatcher.methods(), "sipwright", "1.0.0")

    def _file_name(self, group: str, peer: str) -> str:
        name = _unfit.sub("_", f"{group or 'servers'}@{peer}")[:48]
        return f"{name}-{self._services.worker}.{self._services.pid}.{next(self._numbers)}"

    # ---- what the connections tell

    def service_began(self, service: DialedService) -> bool:
        """Take note of a connection. False: it is one too many."""
        if self._is_leaving:
            return False
        if len(self._dialed) >= self._max_services:
            self.log.warning("%d services have dialled in: no more are let in", len(self._dialed))
            return False
        self._dialed.add(service)
        return True

    def service_drained(self, service: DialedService) -> None:
        """Take its notice away."""
        assert service.relay is not None
        self._services.post(NOTICE + service.relay.path, None)

    def service_ended(self, service: DialedService) -> None:
        """Forget a connection."""
        self._dialed.discard(service)
        if service.relay is not None and not service.is_draining:
            self._services.post(NOTICE + service.relay.path, None)

    # ---- what there is to tell

    def describe(self) -> list[dict[str, Any]]:
        """Return what an operator wants to know of each connection."""
        return [service.describe() for service in sorted(self._dialed, key=lambda service: service.since)]

    def counters(self) -> dict[str, int]:
        """Return how many services there are."""
        return {"dialed": sum(service.group is not None for service in self._dialed)}


def _pong() -> str:
    return "pong"
