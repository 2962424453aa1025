"""Commands one after another and their replies: the server in memory and a real one give the same."""

from __future__ import annotations

from typing import Any

from sipwright.errors import RedisAnswerError


class Error:
    """An error answer of a kind, whatever its words are."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Error) and other.code == self.code

    def __hash__(self) -> int:
        return hash(self.code)

    def __repr__(self) -> str:
        return f"Error({self.code})"


def comparable(reply: Any) -> Any:
    """Return a reply with errors that can be compared, and what has no order in order."""
    if isinstance(reply, RedisAnswerError):
        return Error(reply.code)
    return reply


COMMANDS: list[tuple[tuple[Any, ...], Any]] = [
    (("PING",), b"PONG"),
    (("ECHO", "a b"), b"a b"),
    (("SET", "k", "v"), b"OK"),
    (("GET", "k"), b"v"),
    (("GET", "none"), None),
    (("SET", "k", "w", "NX"), None),
    (("SET", "none", "w", "XX"), None),
    (("SET", "k", "w", "XX"), b"OK"),
    (("SET", "k", "w", "BAD"), Error("ERR")),
    (("SETNX", "k", "x"), 0),
    (("MGET", "k", "none"), [b"w", None]),
    (("INCR", "n"), 1),
    (("INCRBY", "n", 10), 11),
    (("DECR", "n"), 10),
    (("DECRBY", "n", 3), 7),
    (("INCR", "k"), Error("ERR")),
    (("INCRBY", "n", "x"), Error("ERR")),
    (("SET", "big", "9223372036854775807"), b"OK"),
    (("INCR", "big"), Error("ERR")),
    (("EXISTS", "k", "n", "none"), 2),
    (("TTL", "k"), -1),
    (("TTL", "none"), -2),
    (("EXPIRE", "k", 100), 1),
    (("EXPIRE", "none", 100), 0),
    (("TTL", "k"), 100),
    (("PERSIST", "k"), 1),
    (("PERSIST", "k"), 0),
    (("SETEX", "s", 50, "v"), b"OK"),
    (("TTL", "s"), 50),
    (("SET", "s", "w"), b"OK"),
    (("PTTL", "s"), -1),
    (("HSET", "h", "a", "1", "b", "2"), 2),
    (("HSET", "h", "a", "3"), 0),
    (("HGET", "h", "a"), b"3"),
    (("HGET", "h", "none"), None),
    (("HMGET", "h", "a", "none", "b"), [b"3", None, b"2"]),
    (("HGETALL", "h"), [b"a", b"3", b"b", b"2"]),
    (("HINCRBY", "h", "a", 4), 7),
    (("HDEL", "h", "a", "none"), 1),
    (("GET", "h"), Error("WRONGTYPE")),
    (("HGET", "k", "a"), Error("WRONGTYPE")),
    (("MGET", "h", "k"), [None, b"w"]),
    (("RPUSH", "l", "b", "c"), 2),
    (("LPUSH", "l", "a", "z"), 4),
    (("LRANGE", "l", 0, -1), [b"z", b"a", b"b", b"c"]),
    (("LRANGE", "l", 1, 2), [b"a", b"b"]),
    (("LRANGE", "l", -2, -1), [b"b", b"c"]),
    (("LRANGE", "l", 5, 9), []),
    (("LLEN", "l"), 4),
    (("SADD", "set", "x", "y"), 2),
    (("SADD", "set", "x"), 0),
    (("SISMEMBER", "set", "x"), 1),
    (("SCARD", "set"), 2),
    (("SREM", "set", "y", "z"), 1),
    (("SMEMBERS", "set"), [b"x"]),
    (("TYPE", "set"), b"set"),
    (("TYPE", "none"), b"none"),
    (("KEYS", "se*"), [b"set"]),
    (("SCAN", "0", "MATCH", "se*", "COUNT", 1000), [b"0", [b"set"]]),
    (("DEL", "k", "n", "none"), 2),
    (("GET",), Error("ERR")),
    (("GET", "a", "b"), Error("ERR")),
    (("NOSUCH", "a"), Error("ERR")),
    (("FLUSHDB",), b"OK"),
    (("KEYS", "*"), []),
]
