"""Module jsonrpc: asks JSON-RPC services and suspends the transaction until the answer (Kamailio: module jsonrpcc).

The connections, the choice of server and the timeouts are `sipwright.jsonrpc.Client`; this file turns script arguments
into calls, and outcomes into variables and routes (`outcomes`). A call's answer, error, timeout or failure comes to one
of two places, `_answered` (the call named routes) and `_answered_in_place` (`jsonrpc_call`), exactly once; those of
several calls at once to `parallel`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sipwright.errors import ArgumentError, JsonParseError
from sipwright.jsonrpc.addresses import ServerSpec, parse_group, parse_servers
from sipwright.jsonrpc.framing import FRAMINGS
from sipwright.jsonrpc.listeners import parse_listen
from sipwright.jsonrpc.tls import Tls
from sipwright.jsonrpc.turns import POLICIES
from sipwright.lang.namespace import Route, Variable
from sipwright.modules.jsonrpc.commands import ServerCommands
from sipwright.modules.jsonrpc.door import DialedServers, Door
from sipwright.modules.jsonrpc.options import NO_OPTIONS, CallOptions, Options, read_group_options
from sipwright.modules.jsonrpc.outcomes import LAST, forget_parts, keep, outcome_text, reader
from sipwright.modules.jsonrpc.parallel import Calls, NamedCall, ParallelSuspension
from sipwright.modules.jsonrpc.tokens import Tokens
from sipwright.script.context import Context
from sipwright.script.kinds import RouteName, Str, WritableVariable
from sipwright.script.module import Module, Param, VariableUse, function, pvar_factory
from sipwright.script.rpc import Params, ParamsText, RpcSuspension, parse_retry_codes
from sipwright.script.services import Services
from sipwright.script.suspend import Suspension


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
    servers, semicolon, options = text.partition(";")
    name, specs = parse_group(servers)
    try:
        policy, max_pending = read_group_options(options)
    except ArgumentError as error:
        raise ArgumentError(error.message, len(servers) + len(semicolon) + (error.offset or 0)) from None
    module.groups[name] = [replace(spec, max_pending=max_pending) for spec in specs]
    if policy is None:
        module.policies.pop(name, None)
    else:
        module.policies[name] = policy


def _take_retry_codes(module: Jsonrpc, text: str) -> None:
    module.retry_ranges = parse_retry_codes(text)


class Jsonrpc(Module):
    """JSON-RPC calls over TCP with netstrings; also loaded as jsonrpc-c and jsonrpcc."""

    name = "jsonrpc"
    aliases = ("jsonrpc-c", "jsonrpcc")
    requires = ("tm",)

    servers = Param(str, "", parse=_take_servers, doc='"host:port,priority ...", higher numbers first; required')
    group = Param(
        str, "", parse=_take_group, doc='a further group, "name=>host:port,priority ...;policy=..."; repeatable'
    )
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
    listen_certificate = Param(str, "", doc="file of the certificate of tls: addresses in listen")
    listen_private_key = Param(str, "", doc="file of its key, where that is another one")
    listen_ca_list = Param(str, "", doc="file of the authorities that sign services' certificates; none: not asked for")
    params_mode = Param(str, "lenient", choices=("lenient", "strict"), doc="how params are read")
    policy = Param(str, "round_robin", choices=POLICIES, doc="which server of the highest priority gets a call")
    when_full = Param(str, "refuse", choices=("refuse", "wait"), doc="calls beyond max_pending fail, or wait")
    max_waiting = Param(int, 10_000, minimum=0, doc="calls that may wait for a server, in each group")
    idempotent_methods = Param(str, "", doc="methods whose calls are idempotent without saying so, by spaces or commas")
    retry_lost = Param(
        int, 1, minimum=0, maximum=1, doc="0: a call that may have left is only tried again if idempotent"
    )
    retry_codes = Param(
        str,
        "",
        parse=_take_retry_codes,
        doc="errors after which `retry` asks another server: -32050,-32000..-32009",
    )
    retry_delay = Param(
        int, 0, minimum=0, doc="milliseconds until servers are asked again once all were, doubled; 0 never"
    )
    hedge = Param(
        int, 0, minimum=0, doc="milliseconds until a second server is asked too, for idempotent calls; 0 never"
    )
    max_failures = Param(int, 0, minimum=0, doc="calls in a row without an answer that take a server out; 0 none do")
    probe_interval = Param(int, 1000, minimum=1, doc="milliseconds between questions whether such a server is back")
    probe_method = Param(str, "rpc.ping", doc="the method of these questions; any answer will do")
    cancel_method = Param(str, "", doc="a notification for requests that nobody waits for any more, with their id")
    min_srv_ttl = Param(int, 5, minimum=1, doc="seconds for which SRV records hold at the least")
    framing = Param(str, "netstring", choices=tuple(FRAMINGS), doc="how messages are told apart")
    tls_ca_list = Param(
        str, "", doc="file of the authorities that sign the servers' certificates; the system's if none"
    )
    tls_certificate = Param(str, "", doc="file of the certificate that is shown to servers")
    tls_private_key = Param(str, "", doc="file of its key")
    tls_verify_certificate = Param(int, 1, minimum=0, maximum=1, doc="0: any certificate of a server is accepted")
    tls_server_name = Param(str, "", doc="the name in the servers' certificates, where it is not that of the host")

    def __init__(self, require: Any) -> None:
        super().__init__(require)
        self.groups: dict[str, list[ServerSpec]] = {}
        self.policies: dict[str, str] = {}
        self.retry_ranges: tuple[range, ...] = ()
        self.addresses: list[str] = []
        self.tokens = Tokens()
        self._tls: Tls | None = None
        self._listen_tls: Tls | None = None
        self._methods: dict[str, Callable[..., Any]] = {}
        self._door: Door | None = None
        self._dialed_servers: DialedServers | None = None
        self._keeps_outcome = False
        self._client: Any = None

    def mod_init(self) -> None:
        """Check that there are servers, and the files of TLS."""
        if self.addresses:
            self._check_listening()
        elif "servers" not in self.__dict__:
            raise ArgumentError('jsonrpc: the parameter "servers" is required, for example "localhost:9999,1"')
        if any(name.startswith("tls_") for name in self.__dict__):
            self._read_tls_files()

    def _read_tls_files(self) -> None:
        """Check the files of TLS. Without any the client does so itself: the system's authorities are a megabyte."""
        try:
            self._tls = Tls(
                cafile=self.tls_ca_list or None,
                certfile=self.tls_certificate or None,
                keyfile=self.tls_private_key or None,
                verify=None if self.tls_verify_certificate else False,
                server_name=self.tls_server_name or None,
            )
        except ArgumentError as error:
            raise ArgumentError(f"jsonrpc: TLS: {error.message}") from None

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
            if not self.listen_certificate:
                raise ArgumentError('jsonrpc: a tls: address in "listen" needs "listen_certificate"')
            try:
                self._listen_tls = Tls(
                    certfile=self.listen_certificate,
                    keyfile=self.listen_private_key or None,
                    cafile=self.listen_ca_list or None,
                    verify=None if self.listen_ca_list else False,
                )
                self._listen_tls.server_context()
            except ArgumentError as error:
                raise ArgumentError(f"jsonrpc: TLS of listen: {error.message}") from None

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
            policy=self.policy,
            policies=self.policies,
            when_full=self.when_full,
            max_waiting=self.max_waiting,
            idempotent_methods=self.idempotent_methods.replace(",", " ").split(),
            retry_lost=bool(self.retry_lost),
            retry_codes=self.retry_ranges,
            retry_delay=self.retry_delay / 1000,
            hedge=self.hedge / 1000 if self.hedge else None,
            max_failures=self.max_failures,
            probe_interval=self.probe_interval / 1000,
            probe_method=self.probe_method,
            cancel_method=self.cancel_method or None,
            min_srv_ttl=float(self.min_srv_ttl),
            framing=self.framing,
            tls=self._tls,
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
            streams = self.services.streams
            self._door.open([(end, self._context_of(text)) for text in self.addresses for end in streams.get(text, ())])

    def _context_of(self, address: str) -> ssl.SSLContext | None:
        if self._listen_tls is None or parse_listen(address).kind != "tls":
            return None
        return self._listen_tls.server_context()

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
            framing=self.framing,
            cancel_method=self.cancel_method or None,
        )
        door = self._door
        doc = "List the services that have dialled in, in each worker."
        services.add_command("jsonrpc.dialed", lambda _: door.describe(), doc, params=[])

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

    @function()
    def jsonrpc_parallel(self, ctx: Context, return_route: RouteName, error_route: RouteName, *calls: Calls) -> int:
        """Suspend the transaction and ask several services at once, each call `NAME=METHOD;OPTIONS:PARAMS`.

        The script goes on in `return_route` when all have given a result, in `error_route` as soon as one has not;
        calls with the option `optional` may fail. `$jsonrpc(NAME.result)`, `$jsonrpc(NAME.status)` and so on tell the
        outcome of each, `$jsonrpc(failed)` the name of the one that failed. Returns 0, which ends the script; -1 when
        it cannot be asked or suspended.
        """
        if return_route is None or error_route is None:
            return self._refused("jsonrpc_parallel", "there is no route of that name")
        suspension = ParallelSuspension(ctx, return_route, error_route, self._all_answered)
        return self._ask_all("jsonrpc_parallel", suspension, calls)

    @function(suspends=True)
    async def jsonrpc_call_parallel(self, ctx: Context, *calls: Calls) -> int:
        """Ask several services at once as `jsonrpc_parallel` does, and go on at the next statement.

        Returns 1 when all have given a result, otherwise what the first failure is: -1 an error answer, -2 timeout,
        -3 failure.
        """
        suspension = ParallelSuspension(ctx, None, None, self._all_answered_in_place)
        if self._ask_all("jsonrpc_call_parallel", suspension, calls) != 0:
            return _IN_PLACE["failure"]
        # Meanwhile anything may have happened to other transactions; this one cannot have ended: it would not go on.
        return await suspension

    @pvar_factory("jsonrpc")
    def pv_jsonrpc(self, use: VariableUse) -> Variable:
        """Return what is known of the last call: status, result, error, code, message, data, server, ms, method, tries.

        With a name and a dot before it, of that call of the last `jsonrpc_parallel`; `failed` is the name of its call
        that failed.
        """
        get = reader(use.fixed_inner())
        self._keeps_outcome = True
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
            suspension.call = self._make_call(method, data, done, suspension, options)
        except ValueError as error:
            self.services.unsuspend(suspension)
            return self._refused(function_name, str(error))
        return 0

    def _make_call(self, method: str, data: bytes, done: Any, suspension: Suspension, options: CallOptions) -> Any:
        return self._submit(
            method,
            data or None,
            done,
            suspension,
            timeout=self._timeout if options.timeout is None else options.timeout,
            retry=self._retry if options.retry is None else options.retry,
            idempotent=options.idempotent,
            group=options.group,
            hedge=options.hedge,
        )

    def _ask_all(self, function_name: str, suspension: ParallelSuspension, calls: Sequence[NamedCall]) -> int:
        filled = self._fill_all(function_name, suspension.context, calls)
        # Not before: parameters may be made of earlier answers.
        forget_parts(suspension.context)
        if filled is None:
            return -1
        if not self._suspend(suspension):
            if suspension.context.overloaded:
                return -1
            return self._refused(function_name, "the transaction cannot be suspended")
        try:
            for call, data in filled:
                made = self._make_call(call.method, data, ParallelSuspension.call_ended, suspension, call.options)
                suspension.add(made, call.name, call.options.optional)
        except ValueError as error:
            # What was sent already is given up.
            suspension.abandoned()
            self.services.unsuspend(suspension)
            return self._refused(function_name, str(error))
        return 0

    def _fill_all(
        self, function_name: str, ctx: Context, calls: Sequence[NamedCall]
    ) -> list[tuple[NamedCall, bytes]] | None:
        """Return the calls with their parameters; None, after a line in the log, when there is a fault in one."""
        filled: dict[str, tuple[NamedCall, bytes]] = {}
        for call in calls:
            if call.name in filled:
                self._refused(function_name, f"two calls have the name '{call.name}'")
                return None
            data = self._fill(f"{function_name}: {call.name}", ctx, call.params, call.options)
            if data is None:
                return None
            filled[call.name] = call, data
        return list(filled.values())

    def _all_answered(self, suspension: ParallelSuspension, failed: Any) -> None:
        self._resume(suspension, suspension.return_route if failed is None else suspension.error_route)  # type: ignore[arg-type]

    def _all_answered_in_place(self, suspension: ParallelSuspension, failed: Any) -> None:
        self._resume(suspension, _IN_PLACE["ok" if failed is None else failed.status])

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
        if self._keeps_outcome:
            keep(suspension.context, LAST, outcome)
        return status if suspension.give(outcome_text(outcome)) else None

    def _refused(self, function_name: str, why: str) -> int:
        self.services.log.error("%s: %s", function_name, why)
        return -1

    def _statistics(self) -> dict[str, int]:
        counters = self._client.counters()
        if self._door is not None:
            counters |= self._door.counters()
        return {f"jsonrpc:{name}": value for name, value in counters.items()}


_IN_PLACE = {"ok": 1, "error": -1, "timeout": -2, "failure": -3}
