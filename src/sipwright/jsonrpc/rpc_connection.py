"""A client as the functions of a server see it (L2): who it is, and calls in the other direction, on its connection.

A function gets it for a parameter with the annotation `RpcConnection`. The calls have deadlines, and end with the
connection; they are matched to their answers by the connection's peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any, Final, TypeVar, overload

from sipwright.errors import RpcAnswerError, RpcConnectionError, RpcTimeoutError
from sipwright.jsonrpc.addresses import ServerAddress
from sipwright.jsonrpc.connection import Connection
from sipwright.jsonrpc.deadlines import Deadlines
from sipwright.jsonrpc.messages import (
    INTERNAL_ERROR,
    NOT_JSON,
    Message,
    answer_error,
    decode_json,
    encode_notification,
    encode_params,
    request_head,
)
from sipwright.jsonrpc.serving import Serving
from sipwright.jsonrpc.typed import decoder_for

T = TypeVar("T")

MAX_PENDING: Final = 10_000
"""How many calls to one client may be in flight."""

AT_END: Final = "the client has ended its stream"

_CREDENTIALS: Final = struct.Struct("3i")


class RemoteCall:
    """A call to a client, until it is answered."""

    __slots__ = ("future", "id", "table", "when")

    id: int
    when: float
    table: dict[RemoteCall, None]

    def __init__(self, future: asyncio.Future[Message]) -> None:
        self.future = future


class RemoteDeadlines(Deadlines[RemoteCall]):
    """The deadlines of all calls that a server makes to its clients, in one timer of the loop."""

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        super().__init__(_now, self._arm_timer, _time_over)
        self._timer: asyncio.TimerHandle | None = None

    def _arm_timer(self, when: float) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_at(when, self.expire)

    def stop(self) -> None:
        """End no more calls."""
        if self._timer is not None:
            self._timer.cancel()


class RpcConnection:
    """One client's connection to a server.

        @server.method
        async def subscribe(topic: str, client: RpcConnection) -> str:
            client.state["topics"].append(topic)
            return await client.call("name", timeout=1.0)

    `peer_address` is where it is connected from; of a Unix socket, the host is empty as a rule. `certificate` is its
    certificate as `ssl.SSLSocket.getpeercert` describes it, None without one; `identity` is who it is: what
    `Server(auth=...)` said of its token, or else the subject's common name of its certificate, or else the first of its
    alternative names; None while that is not known. `state` is a dict for whatever is to be kept with the connection.

    From a thread, use `asyncio.run_coroutine_threadsafe`.
    """

    __slots__ = (
        "_connection",
        "_deadlines",
        "_free",
        "_is_at_end",
        "_serving",
        "_state",
        "certificate",
        "identity",
        "peer_address",
    )

    def __init__(self, serving: Serving, deadlines: RemoteDeadlines) -> None:
        self._serving = serving
        self._deadlines = deadlines
        self._connection: Connection | None = None
        self._free: asyncio.Future[None] | None = None
        self._state: dict[Any, Any] | None = None
        self._is_at_end = False
        self.peer_address = ServerAddress("", 0)
        self.certificate: dict[str, Any] | None = None
        self.identity: Any = None

    @property
    def state(self) -> dict[Any, Any]:
        """What functions, middlewares and hooks keep with the connection."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def is_open(self) -> bool:
        """False once the connection is gone."""
        return self._connection is not None

    @property
    def credentials(self) -> tuple[int, int, int] | None:
        """The process, user and group ids of the other end of a Unix socket (SO_PEERCRED, unix(7)); None of others."""
        connected = self._connection and self._connection.transport
        if not connected or self.peer_address.kind != "unix" or not hasattr(socket, "SO_PEERCRED"):
            return None
        end = connected.get_extra_info("socket")
        pid, user, group = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return pid, user, group

    @overload
    async def call(self, method: str, params: Any = None, *, timeout: float = 5.0) -> Any: ...
    @overload
    async def call(self, method: str, params: Any = None, *, timeout: float = 5.0, result: type[T]) -> T: ...
    async def call(
        self, method: str, params: Any = None, *, timeout: float = 5.0, result: type[Any] | None = None
    ) -> Any:
        """Call a method of this client and return its result, as Python objects or as the type `result`.

        `params` is anything that msgspec encodes to an array or an object, None for none; `timeout` is in seconds, also
        for a client that does not read. Cancelling the task gives the call up.

        Raises RpcAnswerError (the client's error), RpcTimeoutError, RpcConnectionError (the client is gone or sends no
        more, or MAX_PENDING calls are in flight on its connection), RpcResultError for a result of another type,
        TypeError for params that cannot be encoded.
        """
        decode = None if result is None else decoder_for(result)
        head, text = request_head(method), encode_params(params)
        loop = asyncio.get_running_loop()
        connection = self._opened(method)
        if self._is_at_end:
            raise RpcConnectionError(f"{method!r}: {AT_END}")
        if connection.is_blocked:
            before = loop.time()
            connection = await self._writable(method, timeout)
            timeout -= loop.time() - before
        if len(connection.pending) >= MAX_PENDING:
            raise RpcConnectionError(f"{method!r}: {MAX_PENDING} calls to the client are in flight")
        call = RemoteCall(loop.create_future())
        connection.write(connection.request(call, head, text))
        self._deadlines.start(timeout, call)
        # It may not have been read from, because requests of it wait.
        self._serving.choose_reading()
        try:
            # Meanwhile the connection may be lost, or the deadline pass: both are set as exceptions.
            message = await call.future
        except TimeoutError:
            raise RpcTimeoutError(f"no answer to {method!r} from {self.peer_address} within {timeout:g} s") from None
        except ConnectionError as error:
            raise RpcConnectionError(f"{method!r}: {error}") from None
        finally:
            call.table.pop(call, None)
            connection.peer.abandon(call)
        fault = answer_error(message)
        if fault is not None:
            raise RpcAnswerError(INTERNAL_ERROR if fault.code is None else fault.code, fault.message, _data(fault.data))
        found = bytes(message.result)  # type: ignore[arg-type]  # there is one where there is no error
        return decode_json(found) if decode is None else decode(found, method)

    async def notify(self, method: str, params: Any = None, *, timeout: float = 5.0) -> None:
        """Send this client a notification, once it reads what it was sent before.

        Raises RpcConnectionError when the connection is gone, RpcTimeoutError when it does not read for `timeout`
        seconds, TypeError for params that cannot be encoded.
        """
        payload = encode_notification(method, encode_params(params))
        connection = await self._writable(method, timeout)
        connection.write(payload)

    def close(self) -> None:
        """Disconnect the client, once what was written to it has left."""
        if self._connection is not None:
            self._connection.close()

    def _opened(self, method: str) -> Connection:
        if self._connection is None:
            raise RpcConnectionError(f"{method!r}: the client is gone")
        return self._connection

    async def _writable(self, method: str, timeout: float) -> Connection:
        try:
            async with asyncio.timeout(timeout):
                # While it waits, the connection may be lost, or others write and block it again.
                while (connection := self._opened(method)).is_blocked:
                    await self._when_free()
        except TimeoutError:
            raise RpcTimeoutError(f"{self.peer_address} has not read for {timeout:g} s") from None
        return connection

    async def _when_free(self) -> None:
        if self._free is None:
            self._free = asyncio.get_running_loop().create_future()
        # Others wait for it, too.
        await asyncio.shield(self._free)

    # What the session tells

    def opened(self, connection: Connection, address: ServerAddress, certificate: dict[str, Any] | None) -> None:
        """Take note that it is connected."""
        self._connection = connection
        self.peer_address = address
        self.certificate = certificate
        self.identity = None if certificate is None else identity_of(certificate)

    def freed(self) -> None:
        """Take note that it reads again, or is gone."""
        if self._free is not None:
            free, self._free = self._free, None
            free.set_result(None)

    def stream_ended(self) -> None:
        """Take note that it sends no more, answers for one; it may still read."""
        self._is_at_end = True
        self._end_calls(AT_END)

    def ended(self, reason: str) -> None:
        """Take note that it is gone."""
        self._end_calls(reason)
        self._connection = None
        self.freed()

    def _end_calls(self, reason: str) -> None:
        if self._connection is not None:
            for call in self._connection.peer.take_all():
                _end(call, ConnectionError(reason))


def answered(call: RemoteCall, message: Message) -> None:
    """Take the answer to a call (of the connection's peer)."""
    if not call.future.done():
        call.future.set_result(message)


def identity_of(certificate: dict[str, Any]) -> str | None:
    """Return the common name of a certificate's subject, or else the first of its alternative names."""
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    names += [value for _, value in certificate.get("subjectAltName", ())]
    return names[0] if names else None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _time_over(call: RemoteCall) -> None:
    _end(call, TimeoutError())


def _end(call: RemoteCall, error: Exception) -> None:
    if not call.future.done():
        call.future.set_exception(error)


def _data(data: bytes | None) -> Any:
    with contextlib.suppress(*NOT_JSON):
        return None if data is None else decode_json(data)
    return None
