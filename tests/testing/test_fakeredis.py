"""The Redis server in memory: its commands, databases, transactions, and how it goes away."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import RedisAnswerError, RedisAwayError
from sipwright.redis.addresses import RedisAddress
from sipwright.redis.resp import Status
from sipwright.redis.scripts import LuaScript
from sipwright.testing import FakeRedis
from tests.redis.commands import COMMANDS, comparable


@pytest.mark.parametrize(("words", "reply"), COMMANDS, ids=lambda words: str(words)[:40])
def test_commands(redis: FakeRedis, words: tuple[Any, ...], reply: Any) -> None:
    assert comparable(redis.run(*words)) == reply


@pytest.fixture(scope="module")
def redis() -> FakeRedis:
    return FakeRedis()


def test_keys_expire_by_its_clock() -> None:
    redis = FakeRedis()
    now = [0.0]
    redis.clock = lambda: now[0]
    redis.run("SET", "k", "v", "EX", 10)
    redis.run("SET", "k", "w", "KEEPTTL")
    assert redis.run("PTTL", "k") == 10_000
    now[0] = 10.0
    assert [redis.run("GET", "k"), redis.run("PTTL", "k"), redis.run("KEYS", "*")] == [None, -2, []]


def test_replies_are_given_when_they_are_delivered() -> None:
    redis = FakeRedis()
    client = redis.open(RedisAddress())
    came: list[Any] = []
    assert client.submit(("PING",), lambda argument, reply: came.append((argument, reply)), "a")
    assert client.submit_all([("SET", "k", "v"), ("GET", "k")], lambda argument, reply: came.append(reply))
    assert came == []
    assert redis.deliver()
    assert came == [("a", Status(b"PONG")), [b"OK", b"v"]]
    assert not redis.deliver()


def test_servers_and_databases_are_apart() -> None:
    redis = FakeRedis()
    redis.run("SET", "k", "early")
    first, second, third = (redis.open(RedisAddress("h", 1, db=db)) for db in (0, 1, 0))
    other = redis.open(RedisAddress("i", 1))
    for number, client in enumerate((second, other)):
        client.submit(("SET", "k", number), lambda *_: None)
    third.submit(("SET", "l", "v"), lambda *_: None)
    came: list[Any] = []
    for client in (first, second, third, other):
        client.submit(("GET", "k"), lambda _, reply: came.append(reply))
    redis.deliver()
    assert came == [b"early", b"0", b"early", b"1"]
    assert redis.run("GET", "l", server="h:1") == b"v"
    assert redis.run("GET", "k", server="h:1", db=1) == b"0"


def test_a_transaction_is_carried_out_at_its_end() -> None:
    redis = FakeRedis()
    assert [redis.run("MULTI"), redis.run("SET", "k", "v"), redis.run("GET", "k")] == [b"OK", b"QUEUED", b"QUEUED"]
    assert redis.run("EXEC") == [b"OK", b"v"]
    assert isinstance(redis.run("EXEC"), RedisAnswerError)
    redis.run("MULTI")
    redis.run("SET", "k", "w")
    assert [redis.run("DISCARD"), redis.run("GET", "k")] == [b"OK", b"v"]


def test_a_test_may_answer_itself() -> None:
    redis = FakeRedis()
    redis.on("TIME", [b"1700000000", b"0"])
    redis.on("GET", lambda words: words[1].encode())
    assert [redis.run("TIME"), redis.run("get", "key")] == [[b"1700000000", b"0"], b"key"]
    assert redis.commands == [["TIME"], ["get", "key"]]


def test_away_it_refuses_and_fails_what_has_no_reply_yet() -> None:
    redis = FakeRedis()
    client = redis.open(RedisAddress())
    came: list[Any] = []
    client.submit(("SET", "k", "v"), lambda _, reply: came.append(reply))
    client.submit_all([("PING",), ("PING",)], lambda _, replies: came.extend(replies))
    redis.is_away = True
    assert not client.is_up
    assert not client.submit(("PING",), lambda *_: None)
    assert not client.submit_all([("PING",)], lambda *_: None)
    assert not client.submit_script(LuaScript("sht_add", ""), [], [], lambda *_: None)
    redis.deliver()
    assert [type(reply) for reply in came] == [RedisAwayError] * 3
    # It was carried out all the same, as it may be.
    assert redis.run("GET", "k") == b"v"


def test_a_script_that_it_does_not_have_is_an_error() -> None:
    redis = FakeRedis()
    came: list[Any] = []
    redis.open(RedisAddress()).submit_script(LuaScript("mine", "return 1"), [], [], lambda _, reply: came.append(reply))
    redis.deliver()
    assert str(came[0]) == "ERR FakeRedis has no mine"
