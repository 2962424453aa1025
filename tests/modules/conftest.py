"""A stand-in for the compiler and the worker: modules are loaded by the registry, names are used one at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sipwright.errors import ConfigErrors
from sipwright.lang.namespace import RouteKind, Value, Variable
from sipwright.script.context import Context, Handling
from sipwright.script.registry import Registry
from sipwright.script.settings import Settings
from sipwright.script.store import MemoryStores
from sipwright.sip.message import Request
from sipwright.sip.parse import parse
from sipwright.testing.clock import FakeClock
from sipwright.testing.script import ScriptDriver, run_script

INVITE = b"""INVITE sip:bob:pw@example.com:5070;transport=udp;x=1 SIP/2.0
Via: SIP/2.0/UDP 192.0.2.1:5999;branch=z9hG4bK776
Via: SIP/2.0/UDP 10.0.0.1:5999;branch=z9hG4bK777,SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK9
Max-Forwards: 70
From: "Alice A" <sip:alice@atlanta.com;p=1>;tag=1928
To: Bob <sip:bob@biloxi.com>
Call-ID: abc@pc33
CSeq: 314 INVITE
Contact: <sip:alice@192.0.2.1>;expires=60, <sip:a2@192.0.2.1>;expires=30
User-Agent: UA 1
Supported: path, 100rel
X-A: one
x-a: two
X-B:
P-Asserted-Identity: "X" <sip:pai@h.com>
Diversion: <sip:div@h.com>;reason=busy
Content-Type: application/sdp
Content-Length: 5

v=0
""".replace(b"\n", b"\r\n")


class FakeSocket:
    proto = "udp"
    address = ("192.0.2.100", 5060)

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        raise AssertionError("nothing is sent in these tests")


class FakeServices:
    """What modules ask of a worker, as far as these tests need it; `beside` is another worker of the same server."""

    def __init__(self, beside: FakeServices | None = None) -> None:
        self.log = logging.getLogger(f"sipwright.tests.{id(self)}")
        self.log.setLevel(logging.DEBUG)
        self.log.propagate = False
        self.lines: list[tuple[str, str]] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append((record.levelname, record.getMessage()))  # type: ignore[method-assign]
        self.log.addHandler(handler)
        self.handling = Handling()
        self.fake_clock: FakeClock = FakeClock() if beside is None else beside.fake_clock
        self.clock = self.fake_clock.time
        self.timers = self.fake_clock.timers
        open_store = MemoryStores(self.clock).open
        self.shared_store: Callable[[str], Any] = open_store if beside is None else beside.shared_store
        self.time = 1_700_000_000.25
        self.pid = 4711
        self.worker = 0
        self.label: tuple[int, int] | None = None
        self.counters = {"core:rcv_requests": 7}
        self.sources: list[Callable[[], dict[str, int]]] = []
        self.event_routes: list[str] = []
        self.routes: dict[tuple[RouteKind, str], Any] = {}
        self.replies: list[tuple[int, str]] = []

    def set_log_level(self, level: int) -> None:
        self.log.setLevel(level)

    def wall_clock(self) -> float:
        return self.time

    def transaction_label(self, context: Context) -> tuple[int, int] | None:
        return self.label

    def statistics(self) -> dict[str, int]:
        return {**self.counters, **{name: value for source in self.sources for name, value in source().items()}}

    def add_statistics(self, source: Callable[[], dict[str, int]]) -> None:
        self.sources.append(source)

    def run_event_route(self, name: str, extra: Mapping[str, Any] | None = None) -> bool:
        self.event_routes.append(name)
        return True

    def find_route(self, kind: RouteKind, name: str) -> Any:
        return self.routes.get((kind, name))

    def is_myself(self, host: str, port: int) -> bool:
        return host == "192.0.2.100" and port in (0, 5060)

    def reply_stateless(self, context: Context, status: int, reason: str) -> bool:
        self.replies.append((status, reason))
        return True

    def replace_message(self, context: Context, data: bytes) -> None:
        message = parse(data)
        assert isinstance(message, Request)
        context.message = message


class Script:
    """One script: its loaded modules, and a context that its functions run on.

    With `beside`, another one, it is in another worker of the same server; without `starts`, in none yet.
    """

    def __init__(
        self,
        *modules: str,
        params: Sequence[tuple[str, str, int | str]] = (),
        data: bytes = INVITE,
        beside: Script | None = None,
        starts: bool = True,
    ) -> None:
        self.registry = Registry(Settings())
        for module in modules:
            self.registry.load_module(module)
        for module, name, value in params:
            self.registry.set_param(module, name, value)
        self.registry.mod_init()
        self.services: FakeServices = FakeServices(None if beside is None else beside.services)
        if starts:
            self.registry.child_init(self.services)  # type: ignore[arg-type]
        self.ctx = self.context(data)

    def context(self, data: bytes = INVITE) -> Context:
        message = parse(data)
        assert isinstance(message, Request)
        return Context(message, ("192.0.2.1", 5999), FakeSocket(), RouteKind.REQUEST)

    def module(self, name: str) -> Any:
        return self.registry.modules[name]

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a script function with constant arguments, or with variables as they are."""
        specs = [
            spec
            for spec in self.registry.functions(name)
            if sum(not p.optional for p in spec.params) <= len(arguments) <= len(spec.params)
        ]
        assert specs, f"no function {name} with {len(arguments)} arguments"
        values = []
        for param, argument in zip(specs[0].params, arguments, strict=False):
            if param.kind.prepare is not None:
                values.append(param.kind.prepare([argument]))
            elif param.kind.convert is not None:
                values.append(
                    param.kind.convert(argument.get(self.ctx) if isinstance(argument, Variable) else argument)
                )
            else:
                values.append(argument)
        return specs[0].call(self.ctx, *values)

    def variable(self, name: str, inner: Any = None, index: Any = None) -> Variable:
        """Resolve `$name`, `$name(inner)`, `$(name(inner)[index])`; inner is text or the parts of it."""
        parts = [inner] if isinstance(inner, (str, Variable)) else inner
        return self.registry.variable(f"${name}", name, parts, index)

    def get(self, name: str, inner: Any = None, index: Any = None) -> Value:
        return self.variable(name, inner, index).get(self.ctx)

    def set(self, name: str, inner: Any, value: Value, index: Any = None) -> None:
        variable = self.variable(name, inner, index)
        assert variable.set is not None, f"${name} cannot be assigned to"
        variable.set(self.ctx, value)

    def transform(self, value: Value, name: str, *params: Any) -> Value:
        """Apply `{name,params}` to a value."""
        cls, _, rest = name.partition(".")
        parts = [[param] for param in params]
        return self.registry.transformation(cls, rest, parts)(self.ctx, value)


class Compiled:
    """Runs route bodies as compiled scripts."""

    MODULES = "tm tmx sl pv xlog textops textopsx siputils maxfwd cfgutils kex sanity htable json jansson ipops".split()

    def run(self, body: str, data: bytes = INVITE, more: str = "", before: str = "") -> ScriptDriver:
        """Run the body of a request_route on a message; `before` goes before it, `more` behind it."""
        loads = "".join(f'loadmodule "{name}.so"\n' for name in self.MODULES)
        return run_script(f"{loads}{before}\nrequest_route {{\n{body}\n}}\n{more}", data)

    def log(self, body: str, data: bytes = INVITE, more: str = "", before: str = "") -> list[str]:
        """Return the lines that a body writes, without the prefix of scripts."""
        return [line.removeprefix("<script>: ") for line in self.run(body, data, more, before).log]

    def value(self, expression: str, body: str = "", data: bytes = INVITE) -> str:
        """Return what a text with variables is, after some statements."""
        return self.log(f'{body} xlog("{expression}");', data)[-1]

    def is_true(self, *conditions: str, body: str = "", data: bytes = INVITE) -> list[bool]:
        """Tell which conditions are true."""
        tests = "".join(f'if ({condition}) xlog("yes"); else xlog("no");\n' for condition in conditions)
        return [line == "yes" for line in self.log(body + tests, data)]

    def fault(self, body: str) -> str:
        """Return what is wrong with a body, in the words of the compiler."""
        with pytest.raises(ConfigErrors) as caught:
            self.run(body)
        return str(caught.value.errors[0].message)


@pytest.fixture
def compiled() -> Compiled:
    return Compiled()


@pytest.fixture
def load() -> Callable[..., Script]:
    return Script
