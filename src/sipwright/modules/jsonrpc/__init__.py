"""Module jsonrpc: asks JSON-RPC services and suspends the transaction until the answer (Kamailio: module jsonrpcc).

The connections, the choice of server and the timeouts are `sipwright.jsonrpc.Client`; this file turns script arguments
into calls, and outcomes into variables and routes. A call's answer, error, timeout or failure comes to one of two
places, `_answered` (the call named routes) and `_answered_in_place` (`jsonrpc_call`), exactly once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from sipwright.errors import ArgumentError, JsonParseError
from sipwright.jsonrpc.addresses import ServerSpec, parse_group, parse_servers
from sipwright.jsonrpc.listeners import parse_listen
from sipwright.jsonrpc.messages import Error
from sipwright.jsonrpc.resulttext import member_text
from sipwright.jsonrpc.tls import Tls
from sipwright.lang.namespace import ParamKind, Route, Value, Variable
from sipwright.modules.jsonrpc.commands import ServerCommands
from sipwright.modules.jsonrpc.door import DialedServers, Door
from sipwright.modules.jsonrpc.tokens import Tokens
from sipwright.script.context import Context
from sipwright.script.kinds import RouteName, Str, WritableVariable
from sipwright.script.module import Module, Param, VariableUse, function, pvar_factory
from sipwright.script.rpc import Params, ParamsText, RpcSuspension
from sipwright.script.services import Services


class CallOptions:
    """The options of one call: `timeout=MS;retry=N;group=NAME;idempotent;strict`; None where the module's hold."""

    __slots__ = ("group", "idempotent", "retry", "strict", "timeout")

    def __init__(self) -> None:
        self.timeout: float | None = None
        self.retry: int | None = None
        self.group: str | None = None
        self.idempotent = False
        self.strict = False


@lru_cache(maxsize=256)
def parse_options(value: Value) -> CallOptions:
    """Parse the options of a call. ArgumentError: unknown, or a bad value; the offset is its place in the text."""
    options = CallOptions()
    offset = 0
    for item in str(value or "").split(";"):
        name, equals, text = item.partition("=")
        name, text = name.strip(), text.strip()
        if name in ("idempotent", "strict") and not equals:
            setattr(options, name, True)
        elif name in ("timeout", "retry") and equals:
            if not text.isdecimal() or (name == "timeout" and int(text) == 0):
                raise ArgumentError(f"option '{name}' needs a number, found '{text}'", offset)
            if name == "timeout":
                options.timeout = int(text) / 1000
            else:
                options.retry = int(text)
        elif name == "group" and text:
            options.group = text
        elif item.strip():
            raise ArgumentError(
                f"unknown option '{item.strip()}', expected timeout=MS, retry=N, group=NAME, idempotent or strict",
                offset,
            )
        offset += len(item) + 1
    return options


Options = Annotated[CallOptions, ParamKind("options", "options like timeout=500;retry=1", convert=parse_options)]

NO_OPTIONS = CallOptions()


class RoutedCall(RpcSuspension):
    """A transaction that waits for an answer, and the routes that it goes on in; none for a call in place."""

    __slots__ = ("error_route", "return_route")

    def __init__(
        self,
        context: Context,
        services: Services,
        return_route: Route | None,
        error_route: Route | None,
        result: Variable,
    ) -> None:
        # Written out, not super().__init__(): one of these is made per call, and the call costs 100 ns.
        self.context = context
        self.ended = False
        self.sweep = 0
        self.coroutine = None
        self.services = services
        self.return_route = return_route
        self.error_route = error_route
        self.result = result
        self.call: Any = None


def _take_servers(_module: Jsonrpc, text: str) -> None:
    parse_servers(text)


def _take_listen(module: Jsonrpc, text: str) -> None:
    for match in re.finditer(r"\S+", text):
        try:
            parse_listen(match[0])
        except ArgumentError as error:
            raise ArgumentError(error.message, match.start() + (error.offset or 0)) from None
        if match[0] not in module.addresses:
            module.addresses.append(match[0])


def _take_token(module: Jsonrpc, text: str) -> None:
    module.tokens.add(text)


def _take_group(module: Jsonrpc, text: str) -> None:
    name, servers = parse_group(text)
    module.groups[name] = servers


class Jsonrpc(Module):
    """JSON-RPC calls over TCP with netstrings; also loaded as jsonrpc-c and jsonrpcc."""

    name = "jsonrpc"
    aliases = ("jsonrpc-c", "jsonrpcc")
    requires = ("tm",)

    servers = Param(str, "", parse=_take_servers, doc='"host:port,priority ...", higher numbers first; required')
    group = Param(str, "", parse=_take_group, doc='a further group, "name=>host:port,priority ..."; repeatable')
    timeout = Param(int, 500, minimum=1, doc="milliseconds from a call to its end, retries included")
    retry = Param(int, 0, minimum=0, doc="further tries on another server")
    max_conn_attempts = Param(int, -1, minimum=-1, doc="-1 for ever, 0 none, N a budget reset by a success")
    reconnect_interval = Param(int, 3000, minimum=1, doc="milliseconds, doubled up to 30 s, with jitter")
    max_pending = Param(int, 10_000, minimum=1, doc="calls in flight per server")
    listen = Param(str, "", parse=_take_listen, doc='where services dial in, "tcp:host:port tls:host:port unix:/path"')
    token = Param(str, "", parse=_take_token, doc='who may dial in, "group=token" or "group=file:/path"; repeatable')
    dial_priority = Param(int, 1, doc="priority of services that have dialled in")
    serve_timeout = Param(int, 5000, minimum=1, doc="milliseconds that a service has to say rpc.serve")
    max_dialed = Param(int, 1000, minimum=1, doc="connections of services that have dialled in, of each worker")
    listen_certfile = Param(str, "", doc="certificate of tls: addresses in listen, PEM")
    listen_keyfile = Param(str, "", doc="its key, if it is in a file of its own")
    listen_cafile = Param(str, "", doc="authorities of the certificates that services must have; none: not asked for")
    params_mode = Param(str, "lenient", choices=("lenient", "strict"), doc="how params are read")

    def __init__(self, require: Any) -> None:
        super().__init__(require)
        self.groups: dict[str, list[ServerSpec]] = {}
        self.addresses: list[str] = []
        self.tokens = Tokens()
        self._methods: dict[str, Callable[..., Any]] = {}
        self._tls: Tls | None = None
        self._door: Door | None = None
        self._dialed_servers: DialedServers | None = None
        self._keeps_outcome = False
        self._client: Any = None

    def mod_init(self) -> None:
        """Check that there are servers."""
        if self.addresses:
            self._check_listening()
        elif "servers" not in self.__dict__:
            raise ArgumentError('jsonrpc: the parameter "servers" is required, for example "localhost:9999,1"')

    def _check_listening(self) -> None:
        """Check what services need to dial in, and have their groups."""
        if not self.tokens.groups:
            raise ArgumentError(
                'jsonrpc: "listen" needs to know who may dial in: modparam("jsonrpc", "token", "group=token")'
            )
        for group in self.tokens.groups:
            if group:
                self.groups.setdefault(group, [])
        if any(parse_listen(address).kind == "tls" for address in self.addresses):
            if not self.listen_certfile:
                raise ArgumentError('jsonrpc: a tls: address in "listen" needs "listen_certfile"')
            self._tls = Tls(
                certfile=self.listen_certfile,
                keyfile=self.listen_keyfile or None,
                cafile=self.listen_cafile or None,
                verify=bool(self.listen_cafile),
            )
            self._tls.server_context()

    def listens(self) -> list[str]:
        """Return where services dial in."""
        return self.addresses

    def add_method(self, name: str, method: Callable[..., Any]) -> None:
        """Let services that have dialled in call a method; for other modules, in their `child_init`.

        It gets the params by position or by name, and returns what JSON can say, or a coroutine; RpcAnswerError is an
        error answer.
        """
        if name in self._methods or name.startswith("rpc."):
            raise ArgumentError(f"there is a method '{name}' already")
        self._methods[name] = method
        if self._door is not None:
            self._door.dispatcher.add(name, method)

    def child_init(self, services: Services) -> None:
        """Start the client of this worker; it connects on its own and never holds anything up."""
        super().child_init(services)
        self._client = services.rpc_client(
            self.servers,
            groups=self.groups,
            max_conn_attempts=self.max_conn_attempts,
            reconnect_interval=self.reconnect_interval / 1000,
            max_pending=self.max_pending,
            retry_lost=True,
        )
        self._client.start()
        ServerCommands(services, self._client, {"": parse_servers(self.servers), **self.groups})
        if services.streams and self.addresses:
            self._open_door(services)
        services.add_statistics(self._statistics)
        self._suspend = services.suspend
        self._resume = services.resume
        self._submit = self._client.submit
        self._timeout = self.timeout / 1000
        self._retry = self.retry
        self._strict = self.params_mode == "strict"

    def ready(self) -> None:
        """Let services dial in."""
        if self._door is not None:
            self._door.open(
                [
                    (listening, self._tls.server_context() if self._tls and parse_listen(text).kind == "tls" else None)
                    for text in self.addresses
                    for listening in self.services.streams.get(text, ())
                ]
            )

    def _open_door(self, services: Services) -> None:
        self._dialed_servers = DialedServers(services, self._client)
        self._door = Door(
            services,
            self.tokens,
            methods=self._methods,
            directory=services.private_directory(),
            priority=self.dial_priority,
            serve_timeout=self.serve_timeout / 1000,
            max_services=self.max_dialed,
            max_pending=self.max_pending,
        )
        services.add_command(
            "jsonrpc.dialed",
            lambda _: self._door and self._door.describe(),
            "List the services that have dialled in.",
            params=[],
        )

    def leave(self, is_replaced: bool) -> None:
        """Let no more services dial in here."""
        if self._door is not None:
            self._door.leave(is_replaced)

    async def destroy(self) -> None:
        """Close the connections: what is pending ends as a failure, in its error route."""
        if self._dialed_servers is not None:
            self._dialed_servers.close()
        if self._client is not None:
            await self._client.close()
        if self._door is not None:
            # Other workers may still ask the services that are connected here.
            await self._door.close()

    # ---- script functions

    @function()
    def jsonrpc_notification(self, ctx: Context, method: Str, params: Params, options: Options = NO_OPTIONS) -> int:
        """Send a notification without waiting: 1 once it is on its way on a live connection, otherwise -1."""
        data = self._fill("jsonrpc_notification", ctx, params, options)
        if data is None:
            return -1
        try:
            sent = self._client.submit_notification(method, data or None, group=options.group)
        except ValueError as error:
            return self._refused("jsonrpc_notification", str(error))
        if not sent:
            return self._refused("jsonrpc_notification", "no server is connected")
        if self.services.trace is not None:
            self.services.trace("rpc_notification", ctx, {"method": method, "params": data})
        return 1

    @function()
    def jsonrpc_request(
        self,
        ctx: Context,
        method: Str,
        params: Params,
        return_route: RouteName,
        error_route: RouteName,
        result: WritableVariable,
        options: Options = NO_OPTIONS,
    ) -> int:
        """Suspend the transaction and ask; the script goes on in `return_route` or `error_route`.

        Returns 0, which ends the script; -1 when it cannot be asked or suspended, and the script goes on here.
        """
        if return_route is None or error_route is None:
            return self._refused("jsonrpc_request", "there is no route of that name")
        data = self._fill("jsonrpc_request", ctx, params, options)
        if data is None:
            return -1
        return self._ask(
            "jsonrpc_request",
            RoutedCall(ctx, self.services, return_route, error_route, result),
            method,
            data,
            options,
            self._answered,
        )

    @function(suspends=True)
    async def jsonrpc_call(
        self, ctx: Context, method: Str, params: Params, result: WritableVariable, options: Options = NO_OPTIONS
    ) -> int:
        """Ask, and go on at the next statement: 1 a result, -1 an error answer, -2 timeout, -3 failure."""
        data = self._fill("jsonrpc_call", ctx, params, options)
        suspension = RoutedCall(ctx, self.services, None, None, result)
        if data is None or self._ask("jsonrpc_call", suspension, method, data, options, self._answered_in_place) != 0:
            # Not what an earlier call has left there.
            assert result.set is not None  # checked at load
            result.set(ctx, "failure")
            return _IN_PLACE["failure"]
        # Meanwhile anything may have happened to other transactions; this one cannot have ended: it would not go on.
        return await suspension

    @pvar_factory("jsonrpc")
    def pv_jsonrpc(self, use: VariableUse) -> Variable:
        """Return what is known of the last call: status, code, message, data, server, ms, method."""
        name = use.fixed_inner()
        read = _OUTCOME.get(name)
        if read is None:
            raise ArgumentError(f"$jsonrpc({name}) is unknown, expected one of {', '.join(_OUTCOME)}")
        self._keeps_outcome = True

        def get(context: Context) -> Value:
            outcome = context.extra.get("jsonrpc") if context.extra is not None else None
            return None if outcome is None else read(outcome)

        return Variable(use.text, get)

    # ---- the way out and back

    def _fill(self, function_name: str, ctx: Context, params: ParamsText, options: CallOptions) -> bytes | None:
        try:
            if self._strict or options.strict:
                params = params.strict()
            return params.fill(ctx)
        except (ArgumentError, JsonParseError) as error:
            self._refused(function_name, f"bad parameters: {error}")
            return None

    def _ask(
        self, function_name: str, suspension: RoutedCall, method: str, data: bytes, options: CallOptions, done: Any
    ) -> int:
        if not self._suspend(suspension):
            if suspension.context.overloaded:
                # Counted and logged by the engine: a line for each of them would be a load of its own.
                return -1
            return self._refused(function_name, "the transaction cannot be suspended")
        try:
            suspension.call = self._submit(
                method,
                data or None,
                done,
                suspension,
                timeout=self._timeout if options.timeout is None else options.timeout,
                retry=self._retry if options.retry is None else options.retry,
                idempotent=options.idempotent,
                group=options.group,
            )
        except ValueError as error:
            self.services.unsuspend(suspension)
            return self._refused(function_name, str(error))
        return 0

    def _answered(self, suspension: RoutedCall, outcome: Any) -> None:
        status = self._store(suspension, outcome)
        if status is not None:
            self._resume(suspension, suspension.return_route if status == "ok" else suspension.error_route)  # type: ignore[arg-type]

    def _answered_in_place(self, suspension: RoutedCall, outcome: Any) -> None:
        status = self._store(suspension, outcome)
        if status is not None:
            self._resume(suspension, _IN_PLACE[status])

    def _store(self, suspension: RoutedCall, outcome: Any) -> str | None:
        """Store the result, or the text of what happened instead, and return the status; None: nothing is to go on."""
        if suspension.ended:
            return None
        status: str = outcome.status
        if status == "ok":
            text = member_text(outcome.result)
        elif status == "error":
            text = outcome.error.text.decode("utf-8", "surrogateescape")
        else:
            text = status
        if self._keeps_outcome:
            ctx = suspension.context
            if ctx.extra is None:
                ctx.extra = {}
            ctx.extra["jsonrpc"] = outcome
        return status if suspension.give(text) else None

    def _refused(self, function_name: str, why: str) -> int:
        self.services.log.error("%s: %s", function_name, why)
        return -1

    def _statistics(self) -> dict[str, int]:
        counters = self._client.counters()
        if self._door is not None:
            counters |= self._door.counters()
        return {f"jsonrpc:{name}": value for name, value in counters.items()}


_IN_PLACE = {"ok": 1, "error": -1, "timeout": -2, "failure": -3}

_OUTCOME: dict[str, Callable[[Any], Value]] = {
    "status": lambda outcome: outcome.status,
    "code": lambda outcome: None if outcome.error is None else outcome.error.code,
    "message": lambda outcome: outcome.reason or None if outcome.error is None else outcome.error.message,
    "data": lambda outcome: _data(outcome.error),
    "server": lambda outcome: outcome.server or None,
    "ms": lambda outcome: outcome.ms,
    "method": lambda outcome: outcome.method,
}


def _data(error: Error | None) -> Value:
    return None if error is None or error.data is None else member_text(error.data)
