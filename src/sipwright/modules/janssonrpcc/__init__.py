"""Module janssonrpcc: Kamailio's second JSON-RPC client; one result variable, one route, connections by name.

It is another way to speak with the client that module jsonrpc has, `sipwright.jsonrpc.Client`. What the parameters mean
is `servers`, a request with its tries `requests`, what a script gets of it `answers`; here they meet the script.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from sipwright.errors import ArgumentError, JsonParseError
from sipwright.jsonrpc.connecting import connect
from sipwright.jsonrpc.sockets import KEEP_ALIVE
from sipwright.lang.namespace import ParamKind, RouteKind
from sipwright.lang.source import suggest
from sipwright.modules.janssonrpcc.answers import InternalError, internal_error
from sipwright.modules.janssonrpcc.options import NO_OPTIONS, Options, RequestOptions
from sipwright.modules.janssonrpcc.requests import Request, Requests, Waiting
from sipwright.modules.janssonrpcc.servers import Server, groups_of, parse_server
from sipwright.script.context import Context
from sipwright.script.kinds import Str, to_text
from sipwright.script.module import Module, Param, VariableParam, function
from sipwright.script.rpc import ParamsText, parse_retry_codes, prepare_params
from sipwright.script.services import Services

# How many requests nobody waits for, in one worker: with retry=-1 they would be ever more while a service is down.
MAX_UNAWAITED = 10_000


def _take_server(module: Janssonrpcc, text: str) -> None:
    module.servers.append(parse_server(text))


def _take_retry_codes(module: Janssonrpcc, text: str) -> None:
    module.retry_ranges = parse_retry_codes(text)


def _check_conn(module: Janssonrpcc, name: str) -> None:
    names = {server.conn for server in module.servers}
    if name not in names:
        raise ArgumentError(f"no server has conn={name}", 0, suggest(name, names))


def _check_structure(_module: Janssonrpcc, params: ParamsText) -> None:
    if params.constant is not None:
        _check_params(params.constant)


def _check_params(data: bytes) -> None:
    if data and data[:1] not in b"{[":
        raise ArgumentError("bad JSON-RPC parameters: expected an object or an array", 0)


ConnName = Annotated[
    str, ParamKind("conn", "the name of a connection", convert=to_text, textual=True, check=_check_conn)
]
Structure = Annotated[
    ParamsText,
    ParamKind("params", "a JSON object or array, in a string", prepare=prepare_params, check=_check_structure),
]


class Janssonrpcc(Module):
    """JSON-RPC calls over TCP with netstrings, in the dialect of Kamailio's module of that name."""

    name = "janssonrpcc"
    requires = ("tm",)

    server = Param(
        str,
        "",
        parse=_take_server,
        doc="'conn=NAME;addr=HOST;port=N;priority=N;weight=N;hwm=N', lower priorities first, or 'conn=NAME;srv=NAME'; "
        "hwm is how many calls may be in flight; repeatable",
    )
    retry_codes = Param(
        str,
        "",
        parse=_take_retry_codes,
        doc='error codes after which requests without route are sent again, "-1, -5..-9"',
    )
    result_pv = VariableParam("$var(jsrpc_result)", doc="the variable that results go to")
    min_srv_ttl = Param(int, 5, minimum=1, doc="seconds for which SRV records hold at least")
    keep_alive = Param(int, 0, minimum=0, doc="seconds of silence after which TCP asks whether a server lives; 0 never")

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self.servers: list[Server] = []
        self.retry_ranges: tuple[range, ...] = ()
        self._client: Any = None
        self._unawaited = 0

    def child_init(self, services: Services) -> None:
        """Start the client of this worker; it connects on its own and never holds anything up."""
        super().child_init(services)
        self._client = services.rpc_client(
            "",
            groups=groups_of(self.servers),
            min_srv_ttl=float(self.min_srv_ttl),
            # What `retry` means here: after a timeout, too, a request is sent again.
            retry_lost=True,
            connect=partial(connect, keep_alive=self.keep_alive or KEEP_ALIVE),
        )
        self._client.start()
        self._requests = Requests(services, self._client.submit, self.retry_ranges, self._ended)
        services.add_statistics(self._statistics)
        services.add_command(
            "janssonrpcc.servers", self._servers, "List the servers, as each worker has them.", params=[]
        )
        services.add_command("janssonrpcc.stats", self._stats, "Tell the counters of module janssonrpcc.", "sum", [])

    async def destroy(self) -> None:
        """Close the connections: what is on its way ends as an internal error, in its route."""
        if self._client is not None:
            self._requests.close()
            await self._client.close()

    # ---- script functions

    @function()
    def janssonrpc_notification(self, ctx: Context, conn: ConnName, method: Str, params: Structure) -> int:
        """Send a notification without waiting: 1 once it is on its way on a live connection, otherwise -1."""
        try:
            data = _filled(params, ctx)
        except ArgumentError as error:
            return self._refused("janssonrpc_notification", error.message)
        try:
            sent = self._client.submit_notification(method, data or None, group=conn)
        except ValueError as error:
            return self._refused("janssonrpc_notification", _why(error, conn))
        if not sent:
            return self._refused("janssonrpc_notification", f"no server of {conn} can be asked")
        if self.services.trace is not None:
            self.services.trace("rpc_notification", ctx, {"method": method, "params": data})
        return 1

    @function()
    def janssonrpc_request(
        self, ctx: Context, conn: ConnName, method: Str, params: Structure, options: RequestOptions = NO_OPTIONS
    ) -> int:
        """Ask, and with `route=NAME` in the options suspend the transaction: the script goes on in that route.

        Returns 0 then, which ends the script; without a route 1, and the script goes on here and never sees the answer.
        -1 when it cannot be asked or suspended.
        """
        if not options.route:
            return self._ask(ctx, conn, method, params, options)
        route = self.services.find_route(RouteKind.REQUEST, options.route)
        if route is None:
            return self._refused("janssonrpc_request", f"there is no route[{options.route}]")
        waiting = Waiting(ctx, self.services, self.result_pv, route)
        if not self.services.suspend(waiting):
            # An overload is counted and logged by the engine: a line for each of them would be a load of its own.
            return -1 if ctx.overloaded else self._refused("janssonrpc_request", "the transaction cannot be suspended")
        self._send(ctx, conn, method, params, options, waiting)
        return 0

    @function()
    def jsansonrpc_request(self, ctx: Context, conn: ConnName, method: Str, params: Structure) -> int:
        """Do as `janssonrpc_request` without options. Kamailio has it only under this misspelt name."""
        return self._ask(ctx, conn, method, params, NO_OPTIONS)

    # ---- the way out and back

    def _ask(self, ctx: Context, conn: str, method: str, params: ParamsText, options: Options) -> int:
        """Send a request that nobody waits for."""
        if self._unawaited >= MAX_UNAWAITED:
            return self._refused("janssonrpc_request", f"{MAX_UNAWAITED} requests without route are on their way")
        try:
            data = _filled(params, ctx)
        except ArgumentError as error:
            return self._refused("janssonrpc_request", error.message)
        try:
            Request(self._requests, ctx, conn, method, data, options, None).send()
        except ValueError as error:
            return self._refused("janssonrpc_request", _why(error, conn))
        self._unawaited += 1
        return 1

    def _send(
        self, ctx: Context, conn: str, method: str, params: ParamsText, options: Options, waiting: Waiting
    ) -> None:
        """Send a request that a transaction waits for; what cannot be sent ends in its route, too."""
        request = Request(self._requests, ctx, conn, method, b"", options, waiting)
        try:
            request.params = _filled(params, ctx)
        except ArgumentError as error:
            self._refused("janssonrpc_request", error.message)
            request.fail(internal_error(InternalError.BUILD))
            return
        try:
            request.send()
        except ValueError as error:
            self._refused("janssonrpc_request", _why(error, conn))
            is_unknown = isinstance(error, ArgumentError)
            request.fail(
                internal_error(InternalError.RETRY, request.payload)
                if is_unknown
                else internal_error(InternalError.BUILD)
            )

    def _ended(self, request: Request, text: str, why: str) -> None:
        waiting = request.waiting
        if waiting is not None:
            if waiting.give(text):
                self.services.resume(waiting, waiting.route)
            return
        self._unawaited -= 1
        if why:
            with self.services.handling.of(request.context):
                self.services.log.warning("janssonrpc_request to %s: %s: %s", request.conn, why, text)

    def _refused(self, function_name: str, why: str) -> int:
        self.services.log.error("%s: %s", function_name, why)
        return -1

    def _servers(self, _params: dict[str, Any]) -> list[dict[str, Any]]:
        servers: list[dict[str, Any]] = self._client.servers()
        # The client has its own numbers for priorities; the records of an srv name have that of their line, which is 0.
        written = {(server.conn, str(server.address)): server for server in self.servers}
        for row in servers:
            server = written.get((row["group"], row["address"]))
            row["priority"] = 0 if server is None else server.priority
            if server is not None:
                row["weight"] = server.weight
        return servers

    def _stats(self, _params: dict[str, Any]) -> dict[str, int]:
        return {**self._client.counters(), "resting": len(self._requests.resting)}

    def _statistics(self) -> dict[str, int]:
        return {f"janssonrpcc:{name}": value for name, value in self._stats({}).items()}


def _filled(params: ParamsText, ctx: Context) -> bytes:
    """Return the params. ArgumentError: they are no JSON, or neither an object nor an array."""
    try:
        data = params.fill(ctx)
    except JsonParseError as error:
        raise ArgumentError(f"bad parameters: {error}") from None
    _check_params(data)
    return data


def _why(error: ValueError, conn: str) -> str:
    """Return what is wrong with a request that the client did not take."""
    return f"no server has conn={conn}" if isinstance(error, ArgumentError) else f"bad method: {error}"
