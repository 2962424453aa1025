"""A JSON-RPC service over plain sockets that behaves as a scenario says, well or badly.

It shares no code with the library under test: its netstrings are its own. A behaviour is a function that gets each
call as it comes, with the connection it came on, and sends whatever it likes, whenever it likes. Every payload that
came is kept in `calls`, but the notifications that only ask whether it is connected: `probes` counts those.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeAlias

from tests.scenarios.scripts import PROBE

HOST = "127.0.0.1"
ABSENT = object()


@dataclass
class Call:
    """One request or notification as it came: its bytes, its members as they parse, and when (monotonic seconds)."""

    payload: bytes
    connection: ServiceConnection
    time: float = field(init=False, default_factory=time.monotonic)
    members: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.members = json.loads(self.payload)

    @property
    def method(self) -> str:
        return str(self.members["method"])

    @property
    def params(self) -> Any:
        """The parsed params; `ABSENT` when there is no such member."""
        return self.members.get("params", ABSENT)

    @property
    def id(self) -> Any:
        """The id; None for a notification."""
        return self.members.get("id")


Behaviour: TypeAlias = Callable[[Call], None]


def netstring(payload: bytes) -> bytes:
    return b"%d:%s," % (len(payload), payload)


def result_text(call: Call, result: str) -> bytes:
    """Return the payload of an answer with a result, given as JSON text so that its spelling is the scenario's."""
    return b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (call.id, result.encode())


def error_text(call: Call, error: str) -> bytes:
    """Return the payload of an answer with an error, given as JSON text."""
    return b'{"jsonrpc":"2.0","id":%d,"error":%s}' % (call.id, error.encode())


class ServiceConnection:
    """One accepted connection. Its methods may be called from any thread; a closed peer is not an error."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lock = threading.Lock()

    def send(self, data: bytes) -> None:
        """Send bytes as they are, in one piece."""
        with self._lock, contextlib.suppress(OSError):
            self.socket.sendall(data)

    def send_payload(self, payload: bytes) -> None:
        """Send one whole netstring."""
        self.send(netstring(payload))

    def send_bytewise(self, data: bytes, pause: float = 0.0005) -> None:
        """Send each byte in a segment of its own."""
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(pause)

    def close(self) -> None:
        """Close at once; what was sent before still arrives."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class ScriptedService:
    """Listens on a free port of loopback, or on `port`. Use it as a context manager."""

    def __init__(self, behaviour: Behaviour, port: int = 0) -> None:
        self.behaviour = behaviour
        self.calls: list[Call] = []
        self.answers: list[dict[str, Any]] = []  # to requests that a behaviour has sent
        self.probes = 0
        self.connections: list[ServiceConnection] = []
        self.errors: list[Exception] = []
        self._changed = threading.Condition()
        self._timers: list[threading.Timer] = []
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((HOST, port))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            assert not self.errors, f"the service's behaviour failed: {self.errors!r}"

    def close(self) -> None:
        """Close the listener and every connection, cancel what was to come later, join all threads."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for timer in self._timers:
            timer.cancel()
        for connection in self.connections:
            connection.close()
        for thread in [*self._threads, *self._timers]:
            thread.join(5)
            assert not thread.is_alive(), "a thread of the scripted service did not end"

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a while, unless the service is closed before."""
        timer = threading.Timer(seconds, action)
        self._timers.append(timer)
        timer.start()

    def wait_for_calls(self, count: int, timeout: float = 3.0) -> list[Call]:
        """Wait until so many calls have come; return all that came."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.calls) >= count, timeout)
        assert came, f"{len(self.calls)} calls came within {timeout} s, not {count}"
        return list(self.calls)

    def wait_for_connections(self, count: int = 1, timeout: float = 10.0) -> None:
        """Wait until so many connections have been accepted since the start."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.connections) >= count, timeout)
        assert came, f"{len(self.connections)} connections came within {timeout} s, not {count}"

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            connection = ServiceConnection(accepted)
            with self._changed:
                self.connections.append(connection)
                self._changed.notify_all()
            self._spawn(self._serve, connection)

    def _serve(self, connection: ServiceConnection) -> None:
        buffer = b""
        while True:
            try:
                data = connection.socket.recv(65536)
            except OSError:
                return
            if not data:
                connection.close()
                return
            buffer += data
            while (end := self._frame_end(buffer)) is not None:
                head, _, _ = buffer.partition(b":")
                call = Call(buffer[len(head) + 1 : end - 1], connection)
                buffer = buffer[end:]
                self._take(call)

    @staticmethod
    def _frame_end(buffer: bytes) -> int | None:
        """Return where the first whole frame ends, comma included; None while it is not whole."""
        head, colon, _ = buffer.partition(b":")
        if not colon:
            return None
        end = len(head) + 1 + int(head) + 1
        if len(buffer) < end:
            return None
        assert buffer[end - 1 : end] == b",", f"not a netstring: {buffer[:80]!r}"
        return end

    def _take(self, call: Call) -> None:
        if "method" not in call.members:
            self.answers.append(call.members)
            return
        if call.method == PROBE:
            self.probes += 1
            return
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
        try:
            self.behaviour(call)
        except Exception as error:  # a behaviour must not end the service; `__exit__` reports it
            self.errors.append(error)
