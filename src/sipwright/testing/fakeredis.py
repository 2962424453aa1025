"""A Redis server in memory, for tests of scripts: no network, and a clock that the test moves.

    redis = FakeRedis()
    redis.run("SET", "user:bob", "gold")
    run = run_script(SCRIPT, sip_request(), redis=redis)
    assert redis.run("GET", "calls") == b"1"
    redis.is_away = True

It knows the common commands of strings, hashes, lists, sets and keys, and what module htable needs. What else a script
asks is answered as a test says (`on`), and otherwise as by a server that does not know the command. It stands for all
servers that a script names, each with its own databases.
"""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from sipwright.errors import RedisAnswerError, RedisAwayError
from sipwright.redis.addresses import RedisAddress
from sipwright.redis.resp import Reply, Status, Word
from sipwright.redis.scripts import LuaScript

OK = Status(b"OK")
WRONG_TYPE = RedisAnswerError("WRONGTYPE Operation against a key holding the wrong kind of value")
NO_INTEGER = RedisAnswerError("ERR value is not an integer or out of range")
SYNTAX = RedisAnswerError("ERR syntax error")

Value = bytes | dict[bytes, bytes] | list[bytes] | set[bytes]
Done = Callable[[Any, Any], object]


class FakeRedis:
    """A server, and in place of `sipwright.redis.client.Clients` what modules get its clients from.

    While `is_away` is true commands are refused, as by a client that has lost its server; setting it fails those that
    have no reply yet. `commands` are all that were carried out, as texts.
    """

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.clock: Callable[[], float] = lambda: 0.0
        self._databases: dict[tuple[str, int], Database] = {}
        self._answers: dict[str, Callable[[list[str]], Any]] = {}
        self._undelivered: deque[Undelivered] = deque()
        self._is_away = False

    # ---- what a test does with it

    def run(self, *words: Word, server: str = "", db: int = 0) -> Any:
        """Carry out a command and return its reply.

        `server` is an address as it is shown, `127.0.0.1:6379`, and may be left out when the script has one server.
        """
        return self._carry_out(self._database(server, db), words)

    def on(self, command: str, answer: Any) -> None:
        """Answer a command, named by its first word, with a reply, or with what a function of its words returns."""
        self._answers[command.upper()] = answer if callable(answer) else lambda _words: answer

    @property
    def is_away(self) -> bool:
        """Whether the server cannot be reached."""
        return self._is_away

    @is_away.setter
    def is_away(self, is_away: bool) -> None:
        self._is_away = is_away
        if is_away:
            for one in self._undelivered:
                one.replies = [RedisAwayError("the server is away")] * len(one.replies)

    # ---- what the engine does with it

    def open(self, address: RedisAddress, **_settings: Any) -> FakeRedisClient:
        """Return a client of the database that an address names."""
        return FakeRedisClient(self, self._database(_server_of(address), address.db))

    def deliver(self) -> bool:
        """Give all replies to those who asked; return whether there were any."""
        found = bool(self._undelivered)
        while self._undelivered:
            one = self._undelivered.popleft()
            one.done(one.argument, one.replies if one.are_many else one.replies[0])
        return found

    def counters(self) -> dict[str, int]:
        """Return how many commands were carried out."""
        return {"redis:commands": len(self.commands), "redis:pending": len(self._undelivered)}

    async def close(self) -> None:
        """Give what replies there are."""
        self.deliver()

    def ask(
        self, database: Database, commands: Sequence[Sequence[Word]], done: Done, argument: Any, *, are_many: bool
    ) -> bool:
        """Carry out commands now; the replies are delivered later."""
        if self._is_away:
            return False
        replies = [self._carry_out(database, words) for words in commands]
        self._undelivered.append(Undelivered(done, argument, replies, are_many))
        return True

    def ask_script(
        self,
        database: Database,
        script: LuaScript,
        keys: Sequence[Word],
        arguments: Sequence[Word],
        done: Done,
        argument: Any,
    ) -> bool:
        """Run the Python form of a script; the reply is delivered later."""
        if self._is_away:
            return False
        self.commands.append([script.name, *map(_shown, keys), *map(_shown, arguments)])
        run = _SCRIPTS.get(script.name)
        reply: Any
        if run is None:
            reply = RedisAnswerError(f"ERR FakeRedis has no {script.name}")
        else:
            reply = _guarded(run, database, [_bytes(key) for key in keys], [_bytes(one) for one in arguments])
        self._undelivered.append(Undelivered(done, argument, [reply], are_many=False))
        return True

    def _carry_out(self, database: Database, words: Sequence[Word]) -> Any:
        shown = [_shown(word) for word in words]
        self.commands.append(shown)
        name = shown[0].upper()
        if name in self._answers:
            return self._answers[name](shown)
        if database.queue is not None and name not in ("EXEC", "DISCARD", "MULTI"):
            database.queue.append(list(words))
            return Status(b"QUEUED")
        if name == "EXEC" and database.queue is not None:
            queue, database.queue = database.queue, None
            return [self._carry_out(database, queued) for queued in queue]
        command = _COMMANDS.get(name)
        if command is None:
            return RedisAnswerError(f"ERR unknown command '{shown[0]}'")
        arguments = [_bytes(word) for word in words[1:]]
        try:
            signature(command).bind(database, *arguments)
        except TypeError:
            return RedisAnswerError(f"ERR wrong number of arguments for '{name.lower()}' command")
        return _guarded(command, database, *arguments)

    def _database(self, server: str, db: int) -> Database:
        if not server:
            servers = {known for known, _db in self._databases}
            server = servers.pop() if len(servers) == 1 else ""
        found = self._databases.get((server, db))
        if found is None:
            # What was put there before the script had a server is that server's.
            found = self._databases.pop(("", db), None) or Database(lambda: self.clock())
            self._databases[server, db] = found
        return found


@dataclass(slots=True)
class Undelivered:
    """Replies that are there, and who asked. With `are_many` all of them are one answer."""

    done: Done
    argument: Any
    replies: list[Any]
    are_many: bool


class FakeRedisClient:
    """The client of one database (as `sipwright.redis.client.Client`)."""

    def __init__(self, server: FakeRedis, database: Database) -> None:
        self._server = server
        self._database = database

    @property
    def is_up(self) -> bool:
        """True unless the server is away."""
        return not self._server.is_away

    def submit(self, words: Sequence[Word], done: Done, argument: Any = None) -> bool:
        """Send a command."""
        return self._server.ask(self._database, [words], done, argument, are_many=False)

    def submit_all(self, commands: Sequence[Sequence[Word]], done: Done, argument: Any = None) -> bool:
        """Send several commands."""
        return self._server.ask(self._database, commands, done, argument, are_many=True)

    def submit_script(
        self, script: LuaScript, keys: Sequence[Word], arguments: Sequence[Word], done: Done, argument: Any = None
    ) -> bool:
        """Run a script."""
        return self._server.ask_script(self._database, script, keys, arguments, done, argument)


class Database:
    """Keys, their values, and when they expire. `queue` has the commands since a MULTI."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[bytes, Value] = {}
        self._expires: dict[bytes, float] = {}
        self.queue: list[list[Word]] | None = None

    def get(self, key: bytes, kind: type) -> Any:
        """Return the value of a key, None when there is none. Raises RedisAnswerError: it is of another kind."""
        when = self._expires.get(key)
        if when is not None and when <= self._clock():
            self.delete(key)
        value = self._values.get(key)
        if value is not None and not isinstance(value, kind):
            raise WRONG_TYPE
        return value

    def make(self, key: bytes, kind: Callable[[], Any]) -> Any:
        """Return the collection of a key, made if there is none."""
        value = self.get(key, kind)  # type: ignore[arg-type]
        if value is None:
            value = self._values[key] = kind()
        return value

    def put(self, key: bytes, value: Value, milliseconds: int | None) -> None:
        """Set the value of a key, and when it expires."""
        self._values[key] = value
        self.expire(key, milliseconds)

    def change(self, key: bytes, value: Value) -> None:
        """Set the value of a key, and leave when it expires."""
        self._values[key] = value

    def delete(self, key: bytes) -> int:
        """Delete a key; 1 if it was there."""
        self._expires.pop(key, None)
        return int(self._values.pop(key, None) is not None)

    def expire(self, key: bytes, milliseconds: int | None) -> None:
        """Let a key expire, or not."""
        if milliseconds is None:
            self._expires.pop(key, None)
        else:
            self._expires[key] = self._clock() + milliseconds / 1000

    def left(self, key: bytes) -> int:
        """Return in how many milliseconds a key expires; -1 it does not, -2 it is not there."""
        if self.get(key, object) is None:
            return -2
        when = self._expires.get(key)
        return -1 if when is None else round((when - self._clock()) * 1000)

    def names(self) -> list[bytes]:
        """Return all keys."""
        return [key for key in list(self._values) if self.get(key, object) is not None]

    def clear(self) -> None:
        """Delete everything."""
        self._values.clear()
        self._expires.clear()


# ---- commands: functions of the database and their words

_COMMANDS: dict[str, Callable[..., Reply]] = {}


def _command(*names: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    def register(function: Callable[..., Reply]) -> Callable[..., Reply]:
        _COMMANDS.update(dict.fromkeys(names, function))
        return function

    return register


@_command("PING")
def _ping(_db: Database) -> Reply:
    return Status(b"PONG")


@_command("ECHO")
def _echo(_db: Database, text: bytes) -> Reply:
    return text


@_command("MULTI")
def _multi(db: Database) -> Reply:
    db.queue = []
    return OK


@_command("EXEC", "DISCARD")
def _discard(db: Database) -> Reply:
    if db.queue is None:
        return RedisAnswerError("ERR EXEC or DISCARD without MULTI")
    db.queue = None
    return OK


@_command("FLUSHALL", "FLUSHDB")
def _flush(db: Database) -> Reply:
    db.clear()
    return OK


@_command("GET")
def _get(db: Database, key: bytes) -> Reply:
    found: bytes | None = db.get(key, bytes)
    return found


@_command("MGET")
def _mget(db: Database, *keys: bytes) -> Reply:
    values = [db.get(key, object) for key in keys]
    return [value if isinstance(value, bytes) else None for value in values]


@_command("SET")
def _set(db: Database, key: bytes, value: bytes, *options: bytes) -> Reply:
    words = [option.upper() for option in options]
    old = db.get(key, object)
    milliseconds: int | None = None
    while words:
        word = words.pop(0)
        if word in (b"EX", b"PX") and words:
            milliseconds = _integer(words.pop(0)) * (1000 if word == b"EX" else 1)
        elif word == b"KEEPTTL":
            left = db.left(key)
            milliseconds = None if left < 0 else left
        elif word not in (b"NX", b"XX"):
            return SYNTAX
        elif (old is None) == (word == b"XX"):
            return None
    db.put(key, value, milliseconds)
    return OK


@_command("SETEX")
def _setex(db: Database, key: bytes, seconds: bytes, value: bytes) -> Reply:
    db.put(key, value, _integer(seconds) * 1000)
    return OK


@_command("SETNX")
def _setnx(db: Database, key: bytes, value: bytes) -> Reply:
    return int(_set(db, key, value, b"NX") is not None)


@_command("INCRBY")
def _incrby(db: Database, key: bytes, amount: bytes) -> Reply:
    value = _integer(db.get(key, bytes) or b"0") + _integer(amount)
    if not -(1 << 63) <= value < 1 << 63:
        return NO_INTEGER
    db.change(key, b"%d" % value)
    return value


@_command("DECRBY")
def _decrby(db: Database, key: bytes, amount: bytes) -> Reply:
    return _incrby(db, key, b"%d" % -_integer(amount))


@_command("INCR")
def _incr(db: Database, key: bytes) -> Reply:
    return _incrby(db, key, b"1")


@_command("DECR")
def _decr(db: Database, key: bytes) -> Reply:
    return _incrby(db, key, b"-1")


@_command("DEL", "UNLINK")
def _del(db: Database, *keys: bytes) -> Reply:
    return sum(db.delete(key) for key in keys if db.get(key, object) is not None)


@_command("EXISTS")
def _exists(db: Database, *keys: bytes) -> Reply:
    return sum(db.get(key, object) is not None for key in keys)


@_command("TYPE")
def _type(db: Database, key: bytes) -> Reply:
    names = {bytes: b"string", dict: b"hash", list: b"list", set: b"set", type(None): b"none"}
    return Status(names[type(db.get(key, object))])


@_command("PEXPIRE")
def _pexpire(db: Database, key: bytes, milliseconds: bytes) -> Reply:
    if db.get(key, object) is None:
        return 0
    db.expire(key, _integer(milliseconds))
    return 1


@_command("EXPIRE")
def _expire(db: Database, key: bytes, seconds: bytes) -> Reply:
    return _pexpire(db, key, b"%d" % (_integer(seconds) * 1000))


@_command("PERSIST")
def _persist(db: Database, key: bytes) -> Reply:
    had_one = db.left(key) >= 0
    db.expire(key, None)
    return int(had_one)


@_command("PTTL")
def _pttl(db: Database, key: bytes) -> Reply:
    return db.left(key)


@_command("TTL")
def _ttl(db: Database, key: bytes) -> Reply:
    left = db.left(key)
    return left if left < 0 else round(left / 1000)


@_command("KEYS")
def _keys(db: Database, pattern: bytes) -> Reply:
    matches = re.compile(fnmatch.translate(pattern.decode("latin-1"))).match
    return [key for key in db.names() if matches(key.decode("latin-1"))]


@_command("SCAN")
def _scan(db: Database, cursor: bytes, *options: bytes) -> Reply:
    # COUNT keys at a time, in their order; the cursor is how many were looked at.
    named = dict(zip([name.upper() for name in options[::2]], options[1::2], strict=True))
    at, count = _integer(cursor), _integer(named.get(b"COUNT", b"10"))
    page = db.names()[at : at + count]
    wanted = _keys(db, named.get(b"MATCH", b"*"))
    following = at + count if at + count < len(db.names()) else 0
    return [b"%d" % following, [key for key in page if key in wanted]]  # type: ignore[operator]


@_command("HSET", "HMSET")
def _hset(db: Database, key: bytes, *pairs: bytes) -> Reply:
    fields = db.make(key, dict)
    new = {field for field in pairs[::2] if field not in fields}
    fields.update(zip(pairs[::2], pairs[1::2], strict=True))
    return len(new)


@_command("HGET")
def _hget(db: Database, key: bytes, field: bytes) -> Reply:
    found: bytes | None = (db.get(key, dict) or {}).get(field)
    return found


@_command("HMGET")
def _hmget(db: Database, key: bytes, *fields: bytes) -> Reply:
    return [_hget(db, key, field) for field in fields]


@_command("HGETALL")
def _hgetall(db: Database, key: bytes) -> Reply:
    return [one for pair in (db.get(key, dict) or {}).items() for one in pair]


@_command("HDEL")
def _hdel(db: Database, key: bytes, *fields: bytes) -> Reply:
    found = db.get(key, dict) or {}
    return sum(found.pop(field, None) is not None for field in fields)


@_command("HINCRBY")
def _hincrby(db: Database, key: bytes, field: bytes, amount: bytes) -> Reply:
    fields = db.make(key, dict)
    value = _integer(fields.get(field, b"0")) + _integer(amount)
    fields[field] = b"%d" % value
    return value


@_command("RPUSH")
def _rpush(db: Database, key: bytes, *values: bytes) -> Reply:
    items = db.make(key, list)
    items += values
    return len(items)


@_command("LPUSH")
def _lpush(db: Database, key: bytes, *values: bytes) -> Reply:
    items = db.make(key, list)
    items[:0] = reversed(values)
    return len(items)


@_command("LRANGE")
def _lrange(db: Database, key: bytes, first: bytes, last: bytes) -> Reply:
    items = db.get(key, list) or []
    start, stop = _integer(first), _integer(last)
    end = len(items) + stop + 1 if stop < 0 else stop + 1
    return items[max(start + len(items), 0) if start < 0 else start : max(end, 0)]


@_command("LLEN")
def _llen(db: Database, key: bytes) -> Reply:
    return len(db.get(key, list) or [])


@_command("SADD")
def _sadd(db: Database, key: bytes, *members: bytes) -> Reply:
    found = db.make(key, set)
    new = set(members) - found
    found |= new
    return len(new)


@_command("SREM")
def _srem(db: Database, key: bytes, *members: bytes) -> Reply:
    found = db.get(key, set) or set()
    gone = found & set(members)
    found -= gone
    return len(gone)


@_command("SMEMBERS")
def _smembers(db: Database, key: bytes) -> Reply:
    return sorted(db.get(key, set) or ())


@_command("SISMEMBER")
def _sismember(db: Database, key: bytes, member: bytes) -> Reply:
    return int(member in (db.get(key, set) or ()))


@_command("SCARD")
def _scard(db: Database, key: bytes) -> Reply:
    return len(db.get(key, set) or ())


# ---- the scripts of module htable (`redis_scripts`), in Python


def _sht_add(db: Database, keys: list[bytes], arguments: list[bytes]) -> Reply:
    (key,), (amount, initial, milliseconds, renews) = keys, arguments
    value = db.get(key, bytes)
    is_new = value is None
    if is_new:
        value = initial
        if not initial:
            return None
    if not _is_integer(value):
        return None
    if is_new:
        db.put(key, value, None)
    if isinstance(_incrby(db, key, amount), RedisAnswerError):
        return None
    if not milliseconds:
        db.expire(key, None)
    elif is_new or renews == b"1":
        db.expire(key, int(milliseconds))
    return _get(db, key)


def _sht_set_keeping(db: Database, keys: list[bytes], arguments: list[bytes]) -> Reply:
    left = db.left(keys[0])
    db.put(keys[0], arguments[0], {-1: None, -2: int(arguments[1])}.get(left, max(left, 1)))
    return OK


def _sht_remove(db: Database, keys: list[bytes], values: list[bytes]) -> Reply:
    return sum(db.delete(key) for key, value in zip(keys, values, strict=True) if db.get(key, bytes) == value)


def _sht_lock(db: Database, keys: list[bytes], arguments: list[bytes]) -> Reply:
    if db.get(keys[0], bytes) not in (None, arguments[0]):
        return 0
    db.put(keys[0], arguments[0], int(arguments[1]))
    return 1


def _sht_unlock(db: Database, keys: list[bytes], arguments: list[bytes]) -> Reply:
    return db.delete(keys[0]) if db.get(keys[0], bytes) == arguments[0] else 0


_SCRIPTS: dict[str, Callable[[Database, list[bytes], list[bytes]], Reply]] = {
    "sht_add": _sht_add,
    "sht_set_keeping": _sht_set_keeping,
    "sht_remove": _sht_remove,
    "sht_lock": _sht_lock,
    "sht_unlock": _sht_unlock,
}

_is_integer = re.compile(rb"-?[1-9][0-9]*|0").fullmatch


def _integer(text: bytes) -> int:
    if not _is_integer(text):
        raise NO_INTEGER
    return int(text)


def _guarded(function: Callable[..., Reply], *arguments: Any) -> Reply:
    try:
        return function(*arguments)
    except RedisAnswerError as error:
        return error


def _bytes(word: Word) -> bytes:
    if isinstance(word, str):
        return word.encode("utf-8", "surrogateescape")
    return word if isinstance(word, bytes) else b"%d" % word


def _shown(word: Word) -> str:
    return word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else str(word)


def _server_of(address: RedisAddress) -> str:
    return address.path or f"{address.host}:{address.port}"
