"""A core on a fake clock with Python routes, a socket that records, and an RPC client that is answered by hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sipwright.engine.core import Core
from sipwright.engine.eventlog import EventLog
from sipwright.lang.namespace import Route, RouteKind, Variable
from sipwright.lang.runtime import Reporter
from sipwright.script.context import Address, Context
from sipwright.script.loader import Script
from sipwright.script.registry import Registry
from sipwright.script.settings import ListenAddress, Settings
from sipwright.sip.message import Response
from sipwright.sip.parse import parse
from sipwright.testing.clock import FakeClock

CLIENT = ("127.0.0.1", 5070)


class RecordingSocket:
    proto = "udp"
    address = ("127.0.0.1", 5060)

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Address]] = []

    def send(self, data: bytes, address: Address) -> None:
        self.sent.append((data, address))


class Call:
    """What the fake client returns; the test answers it."""

    def __init__(self, method: str, params: bytes | None, done: Callable[[Any, Any], object], argument: Any) -> None:
        self.method, self.params, self.done, self.argument = method, params, done, argument
        self.status: str | None = None
        self.cancelled = False
        self.client: Any = None
        self.id: int | None = None
        self.result: bytes | None = None
        self.error: Any = None
        self.reason = ""
        self.server = "test:1"
        self.ms = 7

    def end(self, status: str, result: bytes | None = None, error: Any = None) -> None:
        self.status, self.result, self.error = status, result, error
        self.done(self.argument, self)

    def answer(self, result: bytes) -> None:
        self.end("ok", result)

    def cancel(self) -> None:
        self.cancelled = True
        if self.client is not None and self.client.watch is not None:
            self.client.watch("cancelled", self, self.server, self.id)


class FakeClient:
    def __init__(self, servers: str, **settings: Any) -> None:
        self.servers, self.settings = servers, settings
        self.calls: list[Call] = []
        self.notifications: list[tuple[str, bytes | None]] = []
        self.is_connected = True
        self.watch: Any = None

    def start(self) -> None: ...

    def submit(self, method: str, params: bytes | None, done: Any, argument: Any, **options: Any) -> Call:
        call = Call(method, params, done, argument)
        call.client = self
        self.calls.append(call)
        return call

    def submit_notification(self, method: str, params: bytes | None, *, group: str | None = None) -> bool:
        if self.is_connected:
            self.notifications.append((method, params))
        return self.is_connected

    def counters(self) -> dict[str, int]:
        return {"pending": sum(call.status is None for call in self.calls)}

    async def close(self) -> None:
        for call in self.calls:
            if call.status is None and not call.cancelled:
                call.end("failure")


REQUEST_ENDS = ("tm:absorbed", "tm:absorbed_acks", "core:acks", "core:answered", "core:dropped")


class Server:
    """A core with its fakes. Routes are given as Python functions of the server and a context."""

    def __init__(self) -> None:
        self.clock = FakeClock(1000.0)
        self.socket = RecordingSocket()
        self.registry = Registry(Settings())
        for name in ("tm", "sl", "jsonrpc"):
            self.registry.load_module(name)
        self.registry.set_param("jsonrpc", "servers", "127.0.0.1:9999,1")
        self.modules = SimpleNamespace(**self.registry.modules)
        self.routes: dict[tuple[RouteKind, str], Route] = {}
        self.seen: list[str] = []
        self.result = Variable("$var(result)", lambda c: c.vars.get("result", 0), _set_result)
        self._core: Core | None = None
        # Unset by tests that break the engine itself.
        self.is_balanced = True
        # Of its own, because tests change its level.
        self.log = logging.getLogger(f"sipwright.test.{id(self)}")
        self.log.setLevel(logging.INFO)
        self.records: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = self.records.append  # type: ignore[method-assign,assignment]
        self.log.addHandler(handler)

    def route(self, run: Callable[..., Any], name: str = "", kind: RouteKind = RouteKind.REQUEST) -> Route:
        route = self.routes[kind, name] = Route(name, kind, "test.cfg", 1)
        route.run = run
        route.suspends = asyncio.iscoroutinefunction(run)
        return route

    @property
    def core(self) -> Core:
        if self._core is None:
            script = Script(
                "test.cfg",
                frozenset({"test.cfg", __file__}),
                self.routes[RouteKind.REQUEST, ""],
                self.routes,
                self.registry,
                self.registry.settings,
                Reporter(),
                [],
            )
            self.registry.mod_init()
            self._core = Core(
                script,
                [ListenAddress("udp", "127.0.0.1", 5060)],
                timers=self.clock.timers,
                clock=self.clock.time,
                tag_prefix="tag",
                rpc_client=self._make_client,
                log=self.log,
                event_log=EventLog(self.log),
            )
            self._core.start()
        return self._core

    def log_events(self) -> None:
        self.log.setLevel(logging.DEBUG)

    def lines(self) -> list[str]:
        """What was logged."""
        return [record.getMessage() for record in self.records]

    def _make_client(self, servers: str, **settings: Any) -> FakeClient:
        self.client = FakeClient(servers, **settings)
        return self.client

    def receive(self, data: bytes, source: Address = CLIENT) -> list[int]:
        """Give the server a datagram and return the statuses of what it sent."""
        core = self.core
        before = len(self.socket.sent)
        core.receive(data, source, self.socket)
        return [response.status for response in self.responses(before)]

    def statuses(self) -> list[int]:
        return [response.status for response in self.responses()]

    def responses(self, first: int = 0) -> list[Response]:
        found = [parse(data) for data, _ in self.socket.sent[first:]]
        assert all(isinstance(message, Response) for message in found)
        return found  # type: ignore[return-value]

    def check_balance(self) -> None:
        """Check that all requests and transactions are accounted for: none may be counted twice or not at all."""
        if self._core is None or not self.is_balanced:
            return
        counters = self._core.services.statistics()
        contexts = {s.context for s in self._core.services.suspensions}
        waiting = sum(context.kind is not RouteKind.EVENT for context in contexts)
        ends = {name: counters[name] for name in REQUEST_ENDS}
        assert counters["core:rcv_requests"] == sum(ends.values()) + waiting, (counters, waiting)
        live = sum(transaction.user is not None for transaction in self._core._table)
        assert counters["tm:live"] == live, (counters, live)

    def stat(self, name: str) -> int:
        return self.core.services.statistics()[name]

    # Script functions as compiled code calls them.

    def ask(self, ctx: Context, ok: Route, error: Route) -> int:
        result: int = self.modules.jsonrpc.jsonrpc_request(ctx, "get_user", self.params(), ok, error, self.result)
        return result

    def notify(self, ctx: Context) -> int:
        result: int = self.modules.jsonrpc.jsonrpc_notification(ctx, "seen", self.params())
        return result

    def params(self) -> Any:
        if not hasattr(self, "_params"):
            from sipwright.script.rpc import prepare_params

            self._params = prepare_params(["{'id': 1}"])
        return self._params

    def reply(self, ctx: Context, status: int, reason: str = "OK") -> int:
        result: int = self.modules.tm.t_reply(ctx, status, reason)
        return result


def _set_result(ctx: Context, value: Any) -> None:
    ctx.vars["result"] = value


def make_request(method: str = "OPTIONS", branch: str = "z9hG4bK1", **more: str) -> bytes:
    cseq = more.get("cseq_method", method)
    to_tag = f";tag={more['to_tag']}" if "to_tag" in more else ""
    return (
        f"{method} sip:alice@example.org SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:5070;branch={branch}\r\n"
        f"From: <sip:bob@example.org>;tag=from1\r\n"
        f"To: <sip:alice@example.org>{to_tag}\r\n"
        f"Call-ID: {more.get('call_id', 'call1')}\r\n"
        f"CSeq: 1 {cseq}\r\n"
        f"Max-Forwards: 70\r\n"
        f"Content-Length: 0\r\n\r\n"
    ).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.log.handlers.clear()
    made.check_balance()


@pytest.fixture
def request_bytes() -> Callable[..., bytes]:
    return make_request
