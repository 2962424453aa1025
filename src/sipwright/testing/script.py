"""Running a script in a test: SIP requests in, replies out, services scripted; no socket is opened and nothing waits.

    run = run_script(SCRIPT, sip_request("OPTIONS"), rpc={"get_user": {"name": "Petros"}})
    assert run.status == 200
    assert run.calls == [("get_user", {"id": 1234})]

The real engine runs the real script. Only what surrounds it is fake: a clock that is moved by hand, a socket that keeps
what is sent, and JSON-RPC services that answer from a dict.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable, Mapping
from inspect import isawaitable
from typing import Any, TypeAlias

import msgspec

from sipwright.engine.commands import command_error
from sipwright.engine.core import Core
from sipwright.errors import ArgumentError, RpcAnswerError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_servers
from sipwright.jsonrpc.messages import METHOD_NOT_FOUND, Error, encode_params
from sipwright.jsonrpc.outcome import CLOSED
from sipwright.lang.namespace import Value
from sipwright.script.context import Address, Context
from sipwright.script.loader import load_text
from sipwright.script.settings import ListenAddress
from sipwright.sip import build
from sipwright.sip.message import Response
from sipwright.sip.parse import parse
from sipwright.testing.clock import FakeClock
from sipwright.testing.fakeredis import FakeRedis

SERVER = ("127.0.0.1", 5060)
CLIENT = ("127.0.0.1", 5070)


class NoAnswer(enum.Enum):
    """What a scripted service does instead of answering."""

    TIMEOUT = "timeout"
    FAILURE = "failure"


# A result (anything that JSON can say; bytes are JSON as it stands), an error answer, no answer, or a function of the
# decoded params that returns one of these.
Answer: TypeAlias = Any
Services: TypeAlias = Mapping[str, Answer] | Callable[[str, Any], Answer]


class Replies:
    """A socket that keeps what is sent to it."""

    proto = "udp"
    address = SERVER

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes, address: Address) -> None:  # noqa: ARG002 - the Protocol gives the address
        """Keep a datagram."""
        self.sent.append(data)


class ScriptedCall:
    """A call of a script, and its outcome once it has ended (as `sipwright.jsonrpc.calls.PendingCall`)."""

    __slots__ = (
        "argument",
        "done",
        "error",
        "id",
        "method",
        "ms",
        "reason",
        "result",
        "server",
        "started",
        "status",
        "timer",
        "watch",
    )

    def __init__(
        self, number: int, method: str, done: Callable[[Any, Any], object], argument: Any, started: float
    ) -> None:
        self.id = number
        self.watch: Callable[..., object] | None = None
        self.method = method
        self.done = done
        self.argument = argument
        self.started = started
        self.status: str | None = None
        self.result: bytes | None = None
        self.error: Error | None = None
        self.reason = ""
        self.server = ""
        self.ms = 0
        self.timer: Any = None

    @property
    def tries(self) -> int:
        """How many servers were asked."""
        return 1 if self.server else 0

    def cancel(self) -> None:
        """Give the call up."""
        if self.status is None:
            self.status = "cancelled"
            self.timer.cancel()
            if self.watch is not None:
                self.watch("cancelled", self, self.server, None)


class ScriptedClient:
    """Takes the place of `sipwright.jsonrpc.Client`: answers from `services`, None meaning that nobody is there."""

    def __init__(self, services: Services | None, clock: FakeClock, servers: str, groups: Mapping[str, Any]) -> None:
        self._services = services
        self._clock = clock
        specs_of = {"": parse_servers(servers), **groups}
        # The first one of each group.
        self._servers = {name: str(specs[0].address) if specs else "" for name, specs in specs_of.items()}
        self._listed: dict[tuple[str, ServerAddress], dict[str, Any]] = {}
        for group, specs in specs_of.items():
            for spec in specs:
                self.add_server(spec, group)
        self._answers: deque[tuple[ScriptedCall, Answer]] = deque()
        self.calls: list[tuple[str, Any]] = []
        self.notifications: list[tuple[str, Any]] = []
        self.pending: dict[ScriptedCall, str] = {}
        self.watch: Callable[..., object] | None = None

    def start(self) -> None:
        """Do nothing: there is nobody to connect to."""

    def submit(
        self,
        method: str,
        params: bytes | None,
        done: Callable[[Any, Any], object],
        argument: Any = None,
        *,
        timeout: float = 5.0,
        group: str | None = None,
        **_retries: Any,
    ) -> ScriptedCall:
        """Take a call; it is answered by `deliver`."""
        self._check_group(group)
        decoded = None if params is None else msgspec.json.decode(params)
        self.calls.append((method, decoded))
        call = ScriptedCall(len(self.calls), method, done, argument, self._clock.now)
        call.timer = self._clock.start_timer(timeout, self._time_over, call)
        call.watch = self.watch
        self.pending[call] = self._servers[group or ""]
        answer = self._answer(method, decoded)
        if answer is not NoAnswer.TIMEOUT:
            self._answers.append((call, answer))
        return call

    def submit_notification(self, method: str, params: bytes | None, *, group: str | None = None) -> bool:
        """Take a notification; False when nobody is there."""
        self._check_group(group)
        if self._services is None:
            return False
        self.notifications.append((method, None if params is None else msgspec.json.decode(params)))
        return True

    def deliver(self) -> None:
        """End every call that has an answer, those that are made meanwhile too."""
        while self._answers:
            call, answer = self._answers.popleft()
            if call.status is not None:
                continue
            if answer is NoAnswer.FAILURE:
                self._end(call, "failure")
            elif isinstance(answer, RpcAnswerError):
                call.server = self.pending[call]
                call.error = _error(answer)
                self._end(call, "error")
            else:
                call.server = self.pending[call]
                call.result = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
                self._end(call, "ok")

    def add_server(self, spec: ServerSpec, group: str = "") -> None:
        """Add a server to the list; who answers does not change."""
        self._check_group(group)
        self._listed[group, spec.address] = {
            "group": group,
            "address": str(spec.address),
            "priority": spec.priority,
            "weight": spec.weight,
            "state": "connected",
        }

    def drain_server(self, address: ServerAddress, group: str | None = None) -> int:
        """Mark a server of the list as drained."""
        for key in self._known(address, group):
            self._listed[key]["state"] = "drained"
        return 0

    def remove_server(self, address: ServerAddress, group: str | None = None) -> None:
        """Take a server out of the list."""
        for key in self._known(address, group):
            del self._listed[key]

    def servers(self) -> list[dict[str, Any]]:
        """Return the list of servers."""
        return list(self._listed.values())

    def _known(self, address: ServerAddress, group: str | None) -> list[tuple[str, ServerAddress]]:
        known = [key for key in self._listed if key[1] == address and group in (None, key[0])]
        if not known:
            raise ArgumentError(f"there is no server {address}")
        return known

    def counters(self) -> dict[str, int]:
        """Return how many calls are pending."""
        return {"calls": len(self.calls), "pending": len(self.pending), "notifications": len(self.notifications)}

    async def close(self) -> None:
        """End what is pending as a failure."""
        for call in list(self.pending):
            if call.status is None:
                call.reason = CLOSED
                self._end(call, "failure")

    def _answer(self, method: str, params: Any) -> Answer:
        services = self._services
        if services is None:
            return NoAnswer.FAILURE
        if callable(services):
            return services(method, params)
        if method not in services:
            return RpcAnswerError(METHOD_NOT_FOUND, "Method not found")
        answer = services[method]
        return answer(params) if callable(answer) else answer

    def _check_group(self, group: str | None) -> None:
        if (group or "") not in self._servers:
            raise ArgumentError(f"there is no server group {group!r}")

    def _time_over(self, call: ScriptedCall) -> None:
        if call.status is None:
            call.server = self.pending[call]
            self._end(call, "timeout")

    def _end(self, call: ScriptedCall, status: str) -> None:
        call.status = status
        call.timer.cancel()
        call.ms = round((self._clock.now - call.started) * 1000)
        del self.pending[call]
        call.done(call.argument, call)


class ScriptDriver:
    """A server with one script, driven by a test.

    `rpc` maps method names to answers, or is a function of method and params; None: no service is connected. `redis`
    stands for all Redis servers that the script names, an empty one if none is given.
    `defines` are as from `#!define`. ConfigErrors: the script is wrong.

    `receive` gives it a SIP request and returns the replies to it; `advance` lets time pass. What happened is in
    `replies`, `calls`, `notifications` (method and decoded params each) and `log` (the lines of `xlog` and of the
    server, without their level).
    """

    def __init__(
        self,
        script: str,
        *,
        rpc: Services | None = None,
        redis: FakeRedis | None = None,
        defines: Mapping[str, str] | None = None,
    ) -> None:
        self.clock = FakeClock(1000.0)
        self.log: list[str] = []
        self.redis = FakeRedis() if redis is None else redis
        self.redis.clock = self.clock.time
        self._rpc = rpc
        self._socket = Replies()
        self._clients: list[ScriptedClient] = []
        self._context: Context | None = None
        self._script = load_text(script, "script.cfg", defines)
        self._core = Core(
            self._script,
            [ListenAddress("udp", *SERVER)],
            timers=self.clock.timers,
            clock=self.clock.time,
            tag_prefix="test",
            rpc_client=self._make_client,
            redis=self.redis,
            log=_logger(self.log),
            trace=self._trace,
        )
        self._core.start()
        self.redis.deliver()

    def receive(self, request: bytes | str, source: Address = CLIENT) -> list[Response]:
        """Give the server one datagram, let every scripted answer come in, and return what was sent meanwhile."""
        before = len(self._socket.sent)
        self._core.receive(request.encode() if isinstance(request, str) else request, source, self._socket)
        self._deliver()
        return self.replies[before:]

    def advance(self, seconds: float) -> list[Response]:
        """Let time pass, with all timers and timeouts in it, and return what was sent meanwhile."""
        before = len(self._socket.sent)
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.advance(min(0.05, end - self.clock.now))
            self._deliver()
        return self.replies[before:]

    def command(self, name: str, params: Any = None) -> Any:
        """Run a command that a module has added to the control interface, and return its result.

        RpcAnswerError: there is no such command, or it has failed.
        """
        commands = self._core.services.commands

        async def run() -> Any:
            value = commands.call(name, encode_params(params))
            return await value if isawaitable(value) else value

        try:
            result = asyncio.run(run())
        except Exception as error:
            raise command_error(name, error, self._core.services.log) from error
        return msgspec.json.decode(msgspec.json.encode(result))

    def stop(self) -> list[Response]:
        """Stop the server: what is suspended ends in its error route. Return what was sent meanwhile.

        Tables with `dbmode=1` are saved.
        """
        before = len(self._socket.sent)
        self._core.refuse()
        asyncio.run(self._core.stop())
        self._script.registry.mod_destroy(self._core.services.shared_store)
        return self.replies[before:]

    @property
    def replies(self) -> list[Response]:
        """All replies so far."""
        parsed = [parse(data) for data in self._socket.sent]
        return [message for message in parsed if isinstance(message, Response)]

    @property
    def status(self) -> int | None:
        """The status of the last reply; None when there was none."""
        replies = self.replies
        return replies[-1].status if replies else None

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """The JSON-RPC calls that the script made."""
        return [call for client in self._clients for call in client.calls]

    @property
    def notifications(self) -> list[tuple[str, Any]]:
        """The JSON-RPC notifications that the script sent."""
        return [notification for client in self._clients for notification in client.notifications]

    @property
    def is_suspended(self) -> bool:
        """True while a transaction is suspended."""
        return self.statistics()["tm:suspended"] > 0

    @property
    def variables(self) -> dict[str, Value]:
        """The script's `$var` variables as the last request left them."""
        return self._context.vars if self._context is not None else {}

    def statistics(self) -> dict[str, int]:
        """Return the counters that `$stat(...)` reads."""
        return self._core.services.statistics()

    def _deliver(self) -> None:
        # What goes on with a reply of Redis may call a service, and the other way round.
        while True:
            for client in self._clients:
                client.deliver()
            if not self.redis.deliver():
                return

    def _make_client(
        self, servers: str, *, groups: Mapping[str, Any] | None = None, **_settings: Any
    ) -> ScriptedClient:
        client = ScriptedClient(self._rpc, self.clock, servers, groups or {})
        self._clients.append(client)
        return client

    def _trace(self, event: str, context: Context | None, _detail: dict[str, Any]) -> None:
        if event == "receive":
            self._context = context


def run_script(
    script: str,
    request: bytes | str,
    *,
    rpc: Services | None = None,
    redis: FakeRedis | None = None,
    defines: Mapping[str, str] | None = None,
    seconds: float = 61.0,
) -> ScriptDriver:
    """Run a script on one SIP request and let time pass until nothing is suspended, `seconds` at the most.

    Arguments and result are as for `ScriptDriver`; ask it for `status`, `replies`, `calls` and so on.
    """
    driver = ScriptDriver(script, rpc=rpc, redis=redis, defines=defines)
    driver.receive(request)
    end = driver.clock.now + seconds
    while driver.is_suspended and driver.clock.now < end:
        driver.advance(0.05)
    return driver


def sip_request(
    method: str = "OPTIONS",
    uri: str = "sip:alice@example.org",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    branch: str = "z9hG4bK1",
    from_: str = "<sip:bob@example.org>;tag=bob1",
    to: str = "<sip:alice@example.org>",
    call_id: str = "call1",
    cseq: int = 1,
) -> bytes:
    """Return the bytes of a SIP request as a client at 127.0.0.1:5070 sends it; `headers` are further ones."""
    return build.request(
        method,
        uri,
        via=f"{CLIENT[0]}:{CLIENT[1]}",
        branch=branch,
        from_=from_,
        to=to,
        call_id=call_id,
        cseq=cseq,
        headers="".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items()).encode(),
        body=body,
    )


def _error(error: RpcAnswerError) -> Error:
    members: dict[str, Any] = {"code": error.code, "message": error.message}
    data = None if error.data is None else msgspec.json.encode(error.data)
    if data is not None:
        members["data"] = msgspec.Raw(data)
    member = msgspec.json.encode(members)
    return Error(member, error.code, error.message, data, member)


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


class _OwnLogger(logging.Logger):
    """A logger in no hierarchy. What the library remembers of levels would be forgotten only within one."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the library's name
        """Tell whether lines of a level are logged."""
        return level >= self.level


def _logger(lines: list[str]) -> logging.Logger:
    """Return a logger of its own, in no hierarchy, that keeps every line."""
    logger = _OwnLogger("sipwright.testing", logging.DEBUG)
    logger.addHandler(_Lines(lines))
    return logger
