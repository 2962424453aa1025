"""The client of one Redis server (L2): commands with callbacks, the connection kept up, nothing that waits.

Who asks gives `done(argument, reply)`, which is called exactly once, never inside of `submit`: with the reply, with
the `RedisAnswerError` that the server answered, or with a `RedisAwayError`.

Away is a server that cannot be reached, that closed the connection, or that left a command without an answer for
`command_timeout`: the connection is given up then, all that was pending fails at once, and what is asked from now on is
refused (`submit` returns False) until a connection stands again. It is looked for in the background, after 50 ms, then
after pauses that double up to a second. Only what is asked before the first attempt has ended waits for it. The log has
one line when the server goes and one when it is back.

A command that failed may have been carried out: nothing is asked twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random as chance
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from sipwright.errors import RedisAnswerError, RedisAwayError, RedisError
from sipwright.redis.addresses import RedisAddress
from sipwright.redis.connection import Connection, Done, call_back
from sipwright.redis.resp import Reply, Word, encode_command
from sipwright.redis.scripts import LuaScript

logger = logging.getLogger("sipwright.redis")
# Who has set up no logging hears of servers by errors of commands, not on stderr.
logger.addHandler(logging.NullHandler())

FIRST_PAUSE = 0.05
# Varied by a quarter: so a server that is back is found within a second.
LAST_PAUSE = 0.75


class Client:
    """A client of one server, for one event loop.

    Times are in seconds. `max_pending` limits the commands without a reply; beyond it `submit` refuses. With
    `flush_on_reconnect`, everything on the server is deleted when it is reached again (Kamailio: ndb_redis).
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        connect_timeout: float = 1.0,
        command_timeout: float = 1.0,
        max_pending: int = 10_000,
        flush_on_reconnect: bool = False,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        self._max_pending = max_pending
        self._flush_on_reconnect = flush_on_reconnect
        self._random = random
        self._connection: Connection | None = None
        # What was asked before the first attempt to connect has ended; None afterwards.
        self._early: list[tuple[bytes, Done, Any, float]] | None = []
        self._scripts: dict[str, LuaScript] = {}
        self._attempt: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._told = ""
        self._away_since: float | None = None
        self._failed_meanwhile = 0
        self._is_closed = False
        self._counts = dict.fromkeys(("commands", "failed", "refused", "connects"), 0)

    # ---- asking

    def submit(self, words: Sequence[Word], done: Done, argument: Any = None) -> bool:
        """Send a command. False: it is refused, and `done` is not called."""
        return self._request(encode_command(words), done, argument)

    def submit_all(
        self, commands: Sequence[Sequence[Word]], done: Callable[[Any, list[Any]], object], argument: Any = None
    ) -> bool:
        """Send several commands with nothing between them; `done(argument, replies)` has all of them, in order.

        Each reply is as that to one command. False: all of them are refused.
        """
        if self._room() < len(commands):
            self._refuse()
            return False
        all_replies = _AllReplies(done, argument, len(commands))
        for words in commands:
            self._request(encode_command(words), _AllReplies.take, all_replies)
        return True

    def submit_script(
        self, script: LuaScript, keys: Sequence[Word], arguments: Sequence[Word], done: Done, argument: Any = None
    ) -> bool:
        """Run a script. The server learns it when it does not know it yet, or no longer."""
        self._scripts[script.sha] = script
        rest = (len(keys), *keys, *arguments)
        return self._request(
            encode_command(("EVALSHA", script.sha, *rest)), self._script_answered, (script, rest, done, argument)
        )

    @property
    def is_up(self) -> bool:
        """True while the server can be asked."""
        return self._connection is not None

    @property
    def pending(self) -> int:
        """How many commands have no reply yet."""
        if self._connection is not None:
            return len(self._connection.pending)
        return len(self._early or ())

    def counters(self) -> dict[str, int]:
        """Return what has happened so far: only `pending` and `up` go up and down."""
        return {**self._counts, "pending": self.pending, "up": int(self.is_up)}

    def _request(self, data: bytes, done: Done, argument: Any) -> bool:
        connection = self._connection
        if connection is not None and len(connection.pending) < self._max_pending:
            connection.request(data, done, argument)
        elif connection is None and self._early is not None and len(self._early) < self._max_pending:
            self._early.append((data, done, argument, self._loop.time()))
        else:
            self._refuse()
            return False
        self._counts["commands"] += 1
        if self._watch is None:
            self._watch = self._loop.call_later(self._command_timeout, self._look_for_overdue)
        return True

    def _room(self) -> int:
        if self._connection is None and self._early is None:
            return 0
        return self._max_pending - self.pending

    def _refuse(self) -> None:
        self._counts["refused"] += 1
        self._failed_meanwhile += self._connection is None

    def _script_answered(self, asked: tuple[LuaScript, tuple[Word, ...], Done, Any], reply: Reply | RedisError) -> None:
        script, rest, done, argument = asked
        if isinstance(reply, RedisAnswerError) and reply.code == "NOSCRIPT":
            # It was flushed. EVAL makes it known again.
            if self._request(encode_command(("EVAL", script.source, *rest)), done, argument):
                return
            reply = RedisAwayError(f"{self.address} is away")
        done(argument, reply)

    # ---- life

    def start(self) -> None:
        """Begin to connect."""
        self._attempt = self._loop.create_task(self._connect(0.0))

    async def close(self) -> None:
        """Wait for the replies that are pending, `command_timeout` at the most, and close."""
        until = self._loop.time() + self._command_timeout
        while self.pending and self._loop.time() < until:
            # Meanwhile replies come in, and who gets them may ask again.
            await asyncio.sleep(0.002)
        self._is_closed = True
        if self._attempt is not None:
            self._attempt.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._connection is not None:
            self._connection.abort("the client is closed")
        self._fail_early("the client is closed")

    # ---- the connection

    async def _connect(self, pause: float) -> None:
        while True:
            if pause:
                await asyncio.sleep(pause * (0.75 + self._random() / 2))
            connection: Connection | None = None
            try:
                async with asyncio.timeout(self._connect_timeout):
                    connection = await self._open()
                    await self._greet(connection)
                if connection.is_ended:
                    raise RedisAwayError("the connection was closed at once")
            except (OSError, RedisError, UnicodeError) as error:
                # A TimeoutError is an OSError; a UnicodeError is a host name that is none.
                if connection is not None:
                    connection.abort("it could not be used")
                self._cannot_connect(error)
                pause = min(max(2 * pause, FIRST_PAUSE), LAST_PAUSE)
            else:
                self._attempt = None
                self._connected(connection)
                return

    async def _open(self) -> Connection:
        address = self.address

        def make() -> Connection:
            return Connection(self._loop, self)

        if address.path:
            _transport, connection = await self._loop.create_unix_connection(make, address.path)
            return connection
        context = _tls_context(address) if address.tls else None
        _transport, connection = await self._loop.create_connection(make, address.host, address.port, ssl=context)
        return connection

    async def _greet(self, connection: Connection) -> None:
        """Log in, choose the database, make the scripts known. Raises RedisError: the server does not let us."""
        address = self.address
        needed: list[tuple[Word, ...]] = []
        if address.password:
            needed.append(("AUTH", address.user, address.password) if address.user else ("AUTH", address.password))
        if address.db:
            needed.append(("SELECT", address.db))
        if self._flush_on_reconnect and self._counts["connects"]:
            needed.append(("FLUSHALL",))
        needed.append(("PING",))
        # Not needed: a server that forbids this will say so when one is run.
        wanted = [("SCRIPT", "LOAD", script.source) for script in self._scripts.values()]
        answers = []
        for words in (*needed, *wanted):
            answer: asyncio.Future[Reply | RedisError] = self._loop.create_future()
            connection.request(encode_command(words), _settle, answer)
            answers.append(answer)
        for number, answer in enumerate(answers):
            reply = await answer
            if isinstance(reply, RedisError) and number < len(needed):
                raise reply

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        self._counts["connects"] += 1
        if self._away_since is not None:
            away = self._loop.time() - self._away_since
            logger.warning(
                "Redis %s is back after %.1f s; %d commands failed meanwhile",
                self.address,
                away,
                self._failed_meanwhile,
            )
        else:
            logger.info("connected to Redis %s", self.address)
        self._told = ""
        self._away_since = None
        self._failed_meanwhile = 0
        early, self._early = self._early or (), None
        for data, done, argument, _asked in early:
            connection.request(data, done, argument)

    def _cannot_connect(self, error: Exception) -> None:
        reason = _reason(error)
        if self._away_since is None:
            self._away(f"cannot be reached: {reason}")
        elif isinstance(error, RedisAnswerError) and reason != self._told:
            logger.error("Redis %s is there, but %s", self.address, reason)
        self._told = reason
        self._fail_early(reason)

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """Take note that a connection is gone (called by it)."""
        if connection is self._connection:
            self._connection = None
            self._counts["failed"] += len(connection.pending)
            if not self._is_closed:
                self._failed_meanwhile = len(connection.pending)
                self._away(f"is lost: {reason}")
                self._attempt = self._loop.create_task(self._connect(FIRST_PAUSE))
        error = RedisAwayError(f"{self.address}: {reason}")
        pending = connection.pending
        while pending:
            done, argument, _asked = pending.popleft()
            call_back(self._loop, done, argument, error)

    def _away(self, what: str) -> None:
        self._away_since = self._loop.time()
        logger.error("Redis %s %s; commands fail until it is back", self.address, what)

    def _fail_early(self, reason: str) -> None:
        early, self._early = self._early or (), None
        error = RedisAwayError(f"{self.address}: {reason}")
        for _data, done, argument, _asked in early:
            self._counts["failed"] += 1
            self._failed_meanwhile += 1
            call_back(self._loop, done, argument, error)

    def _look_for_overdue(self) -> None:
        """Give the connection up when the oldest command has had no reply for too long."""
        self._watch = None
        if self._connection is not None and self._connection.pending:
            asked = self._connection.pending[0][2]
        elif self._early:
            asked = self._early[0][3]
        else:
            return
        left = asked + self._command_timeout - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look_for_overdue)
        elif self._connection is not None:
            self._connection.abort(f"no answer for {round(self._command_timeout * 1000)} ms")
        else:
            # The attempt goes on; who asked has waited long enough.
            self._fail_early(f"no connection within {round(self._command_timeout * 1000)} ms")


class _AllReplies:
    """The replies to several commands, for one who wants them together. They come in order."""

    __slots__ = ("_argument", "_count", "_done", "_replies")

    def __init__(self, done: Callable[[Any, list[Any]], object], argument: Any, count: int) -> None:
        self._done = done
        self._argument = argument
        self._count = count
        self._replies: list[Any] = []

    def take(self, reply: Reply | RedisError) -> None:
        """Take the next reply."""
        self._replies.append(reply)
        if len(self._replies) == self._count:
            self._done(self._argument, self._replies)


class Clients:
    """The clients of one worker: one for each server and each way to use it, made when it is first asked for."""

    def __init__(self, make: Callable[..., Any] = Client) -> None:
        self._make = make
        self._clients: dict[tuple[Any, ...], Any] = {}

    def open(self, address: RedisAddress, **settings: Any) -> Any:
        """Return the client of a server with these settings (those of `Client`), which has begun to connect."""
        key = (address, *sorted(settings.items()))
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = self._make(address, **settings)
            client.start()
        return client

    async def close(self) -> None:
        """Close all of them, each after its pending replies."""
        for client in self._clients.values():
            await client.close()

    def counters(self) -> dict[str, int]:
        """Return the sums of the counters of all clients, by public name; nothing when there are none."""
        sums: dict[str, int] = {}
        for client in self._clients.values():
            for name, value in client.counters().items():
                sums[f"redis:{name}"] = sums.get(f"redis:{name}", 0) + value
        return sums


def _settle(answer: asyncio.Future[Reply | RedisError], reply: Reply | RedisError) -> None:
    if not answer.done():
        answer.set_result(reply)


def _tls_context(address: RedisAddress) -> ssl.SSLContext:
    is_directory = os.path.isdir(address.ca_file)
    try:
        context = ssl.create_default_context(
            cafile=None if is_directory else address.ca_file or None, capath=address.ca_file if is_directory else None
        )
    except OSError as error:
        raise RedisAwayError(f"ssl_ca_certs={address.ca_file}: {_reason(error)}") from None
    if not address.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
