"""Module ndb_redis: commands of Redis from scripts, `redis_cmd("srv1", "GET key:$rU", "r")` and `$redis(r=>value)`.

A script that asks is suspended in place until the reply is there, as it is for a variable that waits: it sees nothing
of it. All messages of a worker share one connection to a server. So a transaction (MULTI, EXEC) is kept here until its
EXEC, and leaves as one piece; what would change the connection, or hold it up, is refused.

Replies belong to the message. Kamailio keeps them with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from sipwright.errors import ArgumentError, RedisAnswerError, RedisAwayError
from sipwright.lang.namespace import ParamKind, Part, Value, Variable
from sipwright.modules.ndb_redis.commands import Command, why_not
from sipwright.modules.ndb_redis.replies import TYPES, Result, parse_path
from sipwright.modules.ndb_redis.servers import RedisServer, parse_server
from sipwright.redis.resp import Status
from sipwright.script.context import Context
from sipwright.script.kinds import Str
from sipwright.script.module import Module, Param, VariableUse, function, pvar_factory
from sipwright.script.services import Services
from sipwright.script.suspend import Wait

DISABLED = -2
FAILED = -1
# As in Kamailio.
MAX_PIPELINED = 1000


def _command(arguments: int) -> ParamKind:
    def prepare(parts: Sequence[Part]) -> Command:
        return Command(parts, arguments)

    return ParamKind("command", "a command of Redis, with %s for each argument behind it", prepare=prepare)


Command0 = Annotated[Command, _command(0)]
Command1 = Annotated[Command, _command(1)]
Command2 = Annotated[Command, _command(2)]
Command3 = Annotated[Command, _command(3)]


def _add_server(module: NdbRedis, text: str) -> None:
    server = parse_server(text)
    module.servers[server.name] = server


def _refuse_cluster(_module: NdbRedis, value: int) -> None:
    if value:
        raise ArgumentError("clusters of Redis are not supported here")


class Conversation:
    """What one message has with the servers: replies by name, and by server what is put aside to be sent later.

    `pipelines` has commands and the names of their replies, `transactions` the commands since a MULTI.
    """

    __slots__ = ("pipelines", "replies", "transactions")

    def __init__(self) -> None:
        self.replies: dict[str, Result] = {}
        self.pipelines: dict[str, list[tuple[list[str], str]]] = {}
        self.transactions: dict[str, list[list[str]]] = {}

    def begin(self, server: str, words: list[str]) -> tuple[list[list[str]], Result]:
        """Return what is to be sent for a command, and the reply that it has without being sent; None: it has none.

        The commands of a transaction are kept until EXEC. What is wrong with one of them is told by EXEC then.
        """
        name = words[0].upper()
        queue = self.transactions.get(server)
        if queue is None:
            if name != "MULTI":
                return [words], None
            self.transactions[server] = []
            return [], Status(b"OK")
        if name == "MULTI":
            return [], RedisAnswerError("ERR MULTI calls can not be nested")
        if name in ("EXEC", "DISCARD"):
            del self.transactions[server]
            return ([["MULTI"], *queue, words], None) if name == "EXEC" else ([], Status(b"OK"))
        queue.append(words)
        return [], Status(b"QUEUED")


class NdbRedis(Module):
    """Commands of Redis."""

    name = "ndb_redis"

    server = Param(
        str,
        "",
        parse=_add_server,
        doc="a server, 'name=srv1;addr=127.0.0.1;port=6379;db=0;pass=...', or with unix=/path; also tls=1, "
        "connect_timeout and command_timeout in milliseconds; repeatable",
    )
    connect_timeout = Param(int, 1000, minimum=1, doc="milliseconds for an attempt to connect")
    cmd_timeout = Param(int, 1000, minimum=1, doc="milliseconds to a reply; without one the connection is given up")
    allowed_timeouts = Param(
        int, -1, minimum=-1, doc="commands in a row that may fail before a server is disabled; -1 any number"
    )
    disable_time = Param(int, 0, minimum=0, doc="seconds that a server is disabled: redis_cmd() is -2 then")
    flush_on_reconnect = Param(int, 0, minimum=0, maximum=1, doc="FLUSHALL when a server is back that was lost")
    ca_path = Param(str, "", doc="file or directory with the certificates that servers with tls=1 are known by")
    cluster = Param(int, 0, parse=_refuse_cluster, doc="refused: there are no clusters here")
    ignored_params = ("allow_dynamic_nodes", "debug", "init_without_redis")

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self.servers: dict[str, RedisServer] = {}

    def child_init(self, services: Services) -> None:
        """Begin to connect; nothing waits for it, and a server that is down is no reason not to start."""
        super().child_init(services)
        for server in self.servers.values():
            server.client = services.redis_client(
                replace(server.address, ca_file=self.ca_path) if server.address.tls else server.address,
                connect_timeout=(server.connect_timeout or self.connect_timeout) / 1000,
                command_timeout=(server.command_timeout or self.cmd_timeout) / 1000,
                flush_on_reconnect=bool(self.flush_on_reconnect),
            )

    # ---- one command

    @function("redis_cmd", suspends=True)
    async def redis_cmd(self, ctx: Context, server: Str, command: Command0, reply: Str) -> int:
        """Send a command and wait for its reply: 1, -1 an error or no reply, -2 while the server is disabled."""
        return await self._command(ctx, server, command, (), reply)

    @function("redis_cmd", suspends=True)
    async def redis_cmd_1(self, ctx: Context, server: Str, command: Command1, argument: Str, reply: Str) -> int:
        """Send a command with an argument."""
        return await self._command(ctx, server, command, (argument,), reply)

    @function("redis_cmd", suspends=True)
    async def redis_cmd_2(
        self, ctx: Context, server: Str, command: Command2, argument1: Str, argument2: Str, reply: Str
    ) -> int:
        """Send a command with two arguments."""
        return await self._command(ctx, server, command, (argument1, argument2), reply)

    @function("redis_cmd", suspends=True)
    async def redis_cmd_3(
        self, ctx: Context, server: Str, command: Command3, argument1: Str, argument2: Str, argument3: Str, reply: Str
    ) -> int:
        """Send a command with three arguments."""
        return await self._command(ctx, server, command, (argument1, argument2, argument3), reply)

    # ---- several commands in one go

    @function("redis_pipe_cmd")
    def redis_pipe_cmd(self, ctx: Context, server: Str, command: Command0, reply: Str) -> int:
        """Put a command aside until `redis_execute()`."""
        return self._put_aside(ctx, server, command, (), reply)

    @function("redis_pipe_cmd")
    def redis_pipe_cmd_1(self, ctx: Context, server: Str, command: Command1, argument: Str, reply: Str) -> int:
        """Put a command with an argument aside."""
        return self._put_aside(ctx, server, command, (argument,), reply)

    @function("redis_pipe_cmd")
    def redis_pipe_cmd_2(
        self, ctx: Context, server: Str, command: Command2, argument1: Str, argument2: Str, reply: Str
    ) -> int:
        """Put a command with two arguments aside."""
        return self._put_aside(ctx, server, command, (argument1, argument2), reply)

    @function("redis_pipe_cmd")
    def redis_pipe_cmd_3(
        self, ctx: Context, server: Str, command: Command3, argument1: Str, argument2: Str, argument3: Str, reply: Str
    ) -> int:
        """Put a command with three arguments aside."""
        return self._put_aside(ctx, server, command, (argument1, argument2, argument3), reply)

    @function(suspends=True)
    async def redis_execute(self, ctx: Context, server: Str) -> int:
        """Send the commands that were put aside and wait for all replies: 1, -1 none or no reply, -2 disabled."""
        found = self._server("redis_execute", ctx, server)
        if found is None:
            return FAILED
        if not _conversation(ctx).pipelines.get(server):
            self.services.log.warning("redis_execute(%r): no command was put aside", server)
            return FAILED
        return await self._execute(ctx, found)

    # ---- replies

    @function()
    def redis_free(self, ctx: Context, reply: Str) -> int:
        """Forget a reply; -1 when there is none of that name."""
        return 1 if _conversation(ctx).replies.pop(reply, self) is not self else FAILED

    @pvar_factory("redis")
    def pv_redis(self, use: VariableUse) -> Variable:
        """Of a reply, `$redis(r=>key)`: `value` (string or integer), `type` (see `$redisd`), `info`, `size` (array).

        `value[N]` and `type[N]` are those of an element; `value[0]=>value[1]` goes into an array in an array. `info` is
        the text of a status or an error, or why there is no reply.
        """
        if use.index is not None:
            raise ArgumentError("$redis takes its index inside: $redis(r=>value[0])")
        name, read = parse_path(use.inner or ())

        def get(ctx: Context) -> Value:
            replies = _conversation(ctx).replies
            return read(ctx, replies[name]) if name in replies else None

        return Variable(use.text, get)

    @pvar_factory("redisd")
    def pv_redisd(self, use: VariableUse) -> Variable:
        """The number of a type: `rpl_str`, `rpl_arr`, `rpl_int`, `rpl_nil`, `rpl_sts`, `rpl_err`."""
        number = TYPES.get(use.fixed_inner())
        if number is None:
            raise ArgumentError(f"expected one of {', '.join(TYPES)}")
        return Variable(use.text, lambda _ctx: number)

    # ---- the way out and back

    async def _command(self, ctx: Context, server: str, command: Command, arguments: Sequence[str], reply: str) -> int:
        found = self._server("redis_cmd", ctx, server)
        words = None if found is None else self._words("redis_cmd", ctx, command, arguments)
        if found is None or words is None:
            return FAILED
        conversation = _conversation(ctx)
        if conversation.pipelines.get(server):
            self.services.log.warning("redis_cmd(%r): the commands that were put aside are sent before", server)
            await self._execute(ctx, found)
        if self._is_disabled(found):
            return DISABLED
        to_send, result = conversation.begin(server, words)
        if to_send:
            result = (await self._ask(ctx, found, to_send))[-1]
        conversation.replies[reply] = result
        if isinstance(result, RedisAnswerError):
            return self._failed("redis_cmd", ctx, f"{server} answered {result}")
        return FAILED if isinstance(result, RedisAwayError) else 1

    def _put_aside(self, ctx: Context, server: str, command: Command, arguments: Sequence[str], reply: str) -> int:
        if self._server("redis_pipe_cmd", ctx, server) is None:
            return FAILED
        words = self._words("redis_pipe_cmd", ctx, command, arguments)
        if words is None:
            return FAILED
        pipeline = _conversation(ctx).pipelines.setdefault(server, [])
        if len(pipeline) >= MAX_PIPELINED:
            return self._failed("redis_pipe_cmd", ctx, f"{MAX_PIPELINED} commands are put aside already")
        pipeline.append((words, reply))
        return 1

    async def _execute(self, ctx: Context, server: RedisServer) -> int:
        """Send what was put aside in one piece, and keep the replies."""
        conversation = _conversation(ctx)
        commands = conversation.pipelines.pop(server.name)
        if self._is_disabled(server):
            return DISABLED
        to_send: list[list[str]] = []
        # Of each command, the reply that it has already, or else where in `to_send` the last of its words are.
        places: list[Result | _At] = []
        for words, _name in commands:
            sent, known = conversation.begin(server.name, words)
            to_send += sent
            places.append(_At(len(to_send) - 1) if known is None else known)
        replies = await self._ask(ctx, server, to_send) if to_send else []
        results = [replies[place] if isinstance(place, _At) else place for place in places]
        for (_words, name), result in zip(commands, results, strict=True):
            conversation.replies[name] = result
        # Kamailio: an error among the replies is one of them, and no failure.
        return FAILED if any(isinstance(result, RedisAwayError) for result in results) else 1

    async def _ask(self, ctx: Context, server: RedisServer, commands: list[list[str]]) -> list[Any]:
        wait = Wait(ctx)
        if not self.services.hold(wait):
            self._failed("redis_cmd", ctx, "too many transactions are suspended")
            return [RedisAwayError("too many transactions are suspended")] * len(commands)
        # Meanwhile the transaction may be cancelled: then nothing here goes on.
        if len(commands) == 1 and server.client.submit(commands[0], self.services.go_on, wait):
            replies: list[Any] = [await wait]
        elif len(commands) > 1 and server.client.submit_all(commands, self.services.go_on, wait):
            replies = await wait
        else:
            self.services.unsuspend(wait)
            replies = [RedisAwayError(f"{server.address} is away")] * len(commands)
        self._count(server, is_lost=isinstance(replies[-1], RedisAwayError))
        return replies

    # ---- a server that fails too often

    def _is_disabled(self, server: RedisServer) -> bool:
        if server.disabled_until is None:
            return False
        if self.services.clock() < server.disabled_until:
            return True
        server.disabled_until = None
        self.services.log.warning("Redis %s is asked again", server.name)
        return False

    def _count(self, server: RedisServer, *, is_lost: bool) -> None:
        server.failures = server.failures + 1 if is_lost else 0
        if 0 <= self.allowed_timeouts < server.failures and self.disable_time:
            server.failures = 0
            server.disabled_until = self.services.clock() + self.disable_time
            self.services.log.error("Redis %s is disabled for %d s: too many failures", server.name, self.disable_time)

    # ---- arguments

    def _server(self, function_name: str, ctx: Context, name: str) -> RedisServer | None:
        server = self.servers.get(name)
        if server is None:
            known = ", ".join(self.servers) or "none"
            self._failed(function_name, ctx, f"there is no server {name!r} (modparam server); there are: {known}")
        return server

    def _words(self, function_name: str, ctx: Context, command: Command, arguments: Sequence[str]) -> list[str] | None:
        words = command.words(ctx, arguments)
        reason = why_not(words)
        if reason is not None:
            self._failed(function_name, ctx, reason)
        return words if reason is None else None

    def _failed(self, function_name: str, ctx: Context, why: str) -> int:
        self.services.log.error("%s: %s (%s %s)", function_name, why, ctx.message.method, ctx.message.call_id)
        return FAILED


class _At(int):
    """A place in a list, which is no reply."""


def _conversation(ctx: Context) -> Conversation:
    if ctx.extra is None:
        ctx.extra = {}
    conversation: Conversation | None = ctx.extra.get("ndb_redis")
    if conversation is None:
        conversation = ctx.extra["ndb_redis"] = Conversation()
    return conversation
