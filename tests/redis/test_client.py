"""The client over real sockets: pipelines, deadlines, a server that goes away and comes back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from sipwright.errors import RedisAnswerError, RedisAwayError
from sipwright.redis.addresses import RedisAddress
from sipwright.redis.client import Clients
from sipwright.redis.scripts import LuaScript
from tests.redis.scripted import OK, Asker, ScriptedServer

GREETING = ("PING", "AUTH", "SELECT", "SCRIPT")


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_replies_come_to_who_asked_in_order() -> None:
    async def main() -> None:
        server = ScriptedServer(lambda words: b"$%d\r\n%b\r\n" % (len(words[-1]), words[-1]))
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        await asker.up()
        for number in range(5):
            assert asker.ask("ECHO", number, as_=number)
        assert asker.replies == []
        assert await asker.came(5) == [(number, b"%d" % number) for number in range(5)]
        await asker.client.close()
        await server.stop()

    run(main())


def test_commands_of_one_turn_of_the_loop_leave_together_and_do_not_wait_for_replies() -> None:
    async def main() -> None:
        server = ScriptedServer(lambda words: OK if words[0] == b"PING" else None)
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        await asker.up()
        server.reads.clear()
        for count in (3, 40, 1):
            for _ in range(count):
                asker.ask("GET", "k")
            await asyncio.sleep(0.01)
        assert server.reads == [3, 40, 1]
        assert asker.client.pending == 44
        await server.stop()
        await asker.client.close()

    run(main())


def test_the_greeting_logs_in_chooses_the_database_and_loads_scripts() -> None:
    async def main() -> None:
        server = ScriptedServer()
        await server.start()
        asker = Asker(RedisAddress("127.0.0.1", server.port, db=3, user="ann", password="secret"))
        script = LuaScript("add", "return 1")
        asker.client.submit_script(script, ["k"], [5], asker.take)
        asker.client.start()
        await asker.came()
        assert server.received() == [
            "AUTH ann secret",
            "SELECT 3",
            "PING",
            "SCRIPT LOAD return 1",
            f"EVALSHA {script.sha} 1 k 5",
        ]
        await asker.client.close()
        await server.stop()

    run(main())


def test_a_script_that_the_server_has_forgotten_is_sent_again() -> None:
    async def main() -> None:
        server = ScriptedServer(
            lambda words: b"-NOSCRIPT No matching script\r\n" if words[0] == b"EVALSHA" else b":7\r\n"
        )
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        await asker.up()
        script = LuaScript("add", "return 7")
        asker.client.submit_script(script, ["k"], ["a", "b"], asker.take, "sum")
        assert await asker.came() == [("sum", 7)]
        assert server.received(*GREETING) == [f"EVALSHA {script.sha} 1 k a b", "EVAL return 7 1 k a b"]
        await asker.client.close()
        await server.stop()

    run(main())


def test_an_error_answer_is_a_reply() -> None:
    async def main() -> None:
        server = ScriptedServer(lambda words: b"-ERR no\r\n" if words[0] == b"GET" else OK)
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        asker.ask("GET", "k")
        ((_, reply),) = await asker.came()
        assert isinstance(reply, RedisAnswerError)
        await asker.client.close()
        await server.stop()

    run(main())


def test_a_fault_of_a_callback_harms_no_other() -> None:
    async def main() -> None:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["exception"]))
        server = ScriptedServer()
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        await asker.up()

        def fail(_argument: Any, _reply: Any) -> None:
            raise ZeroDivisionError

        asker.client.submit(("A",), fail)
        asker.ask("B")
        assert await asker.came() == [("B", b"OK")]
        assert [type(fault) for fault in faults] == [ZeroDivisionError]
        await asker.client.close()
        await server.stop()

    run(main())


def test_a_client_that_starts_without_its_server_fails_what_is_asked_and_finds_it_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        server = ScriptedServer()
        await server.start()
        await server.stop()
        asker = Asker(server.address)
        asker.client.start()
        # Asked before it is known whether there is a server: waits for that.
        assert asker.ask("GET", "k")
        ((_, reply),) = await asker.came()
        assert isinstance(reply, RedisAwayError)
        # Then at once.
        assert not asker.ask("GET", "k")
        assert asker.client.counters() == {
            "commands": 1,
            "failed": 1,
            "refused": 1,
            "connects": 0,
            "pending": 0,
            "up": 0,
        }
        await server.start()
        await asker.up()
        assert asker.ask("GET", "k", as_="later")
        assert (await asker.came(2))[1] == ("later", b"OK")
        await asker.client.close()
        await server.stop()

    with caplog.at_level(logging.INFO):
        run(main())
    first, second = [record.getMessage() for record in caplog.records if record.name == "sipwright.redis"]
    assert "cannot be reached: " in first
    assert first.endswith("; commands fail until it is back")
    assert " is back after " in second
    assert second.endswith("; 2 commands failed meanwhile")


def test_a_lost_connection_fails_what_is_pending_at_once_with_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        server = ScriptedServer(lambda words: OK if words[0] in (b"PING", b"SCRIPT") else None)
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        await asker.up()
        for _ in range(3):
            asker.ask("GET", "k")
        await asyncio.sleep(0.01)
        await server.stop()
        replies = await asker.came(3)
        assert all(isinstance(reply, RedisAwayError) for _, reply in replies)
        await asyncio.sleep(0.3)  # several attempts fail meanwhile
        server.answer = lambda _words: OK
        await server.start()
        await asker.up()
        asker.ask("GET", "k", as_="again")
        assert (await asker.came(4))[3] == ("again", b"OK")
        assert asker.client.counters()["connects"] == 2
        await asker.client.close()
        await server.stop()

    with caplog.at_level(logging.INFO):
        run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "sipwright.redis"]
    assert len(lines) == 3
    assert lines[0].startswith("connected to Redis redis://127.0.0.1:")
    assert "is lost: " in lines[1]
    assert "; 3 commands failed meanwhile" in lines[2]


def test_a_server_that_does_not_answer_is_given_up_after_the_timeout_of_its_oldest_command() -> None:
    async def main() -> None:
        is_silent = [False]
        server = ScriptedServer(lambda _words: None if is_silent[0] else OK)
        await server.start()
        asker = Asker(server.address, command_timeout=0.1)
        asker.client.start()
        await asker.up()
        loop = asyncio.get_running_loop()
        began = loop.time()
        is_silent[0] = True
        asker.ask("GET", "k")
        await asyncio.sleep(0.05)
        asker.ask("SET", "k", "v")
        replies = await asker.came(2)
        assert 0.09 < loop.time() - began < 0.5
        assert [str(reply).partition(": ")[2] for _, reply in replies] == ["no answer for 100 ms"] * 2
        is_silent[0] = False
        await asker.up()
        await asker.client.close()
        await server.stop()

    run(main())


def test_a_server_that_takes_connections_and_says_nothing_is_away() -> None:
    async def main() -> None:
        server = ScriptedServer(lambda _words: None)
        await server.start()
        asker = Asker(server.address, connect_timeout=0.05)
        asker.client.start()
        asker.ask("GET", "k")
        ((_, reply),) = await asker.came()
        assert "no answer" in str(reply)
        assert not asker.client.is_up
        await asker.client.close()
        await server.stop()

    run(main())


def test_who_waits_for_the_first_connection_waits_no_longer_than_for_a_reply() -> None:
    async def main() -> None:
        server = ScriptedServer(lambda _words: None)
        await server.start()
        asker = Asker(server.address, connect_timeout=5.0, command_timeout=0.05)
        asker.client.start()
        asker.ask("GET", "k")
        ((_, reply),) = await asker.came()
        assert "no connection within 50 ms" in str(reply)
        await asker.client.close()
        await server.stop()

    run(main())


def test_a_server_that_does_not_let_us_in_is_named_once_and_so_is_its_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        answers = [b"-NOAUTH Authentication required.\r\n"]
        server = ScriptedServer(lambda _words: answers[0])
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        await asyncio.sleep(0.3)
        answers[0] = b"-LOADING Redis is loading the dataset in memory\r\n"
        await asyncio.sleep(0.3)
        answers[0] = OK
        await asker.up()
        await asker.client.close()
        await server.stop()

    with caplog.at_level(logging.WARNING):
        run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "sipwright.redis"]
    assert ["NOAUTH" in lines[0], "LOADING" in lines[1], "is back" in lines[2], len(lines)] == [True, True, True, 3]


@pytest.mark.parametrize("rubbish", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n+OK\r\n"])
def test_a_server_that_speaks_something_else_is_given_up(rubbish: bytes) -> None:
    async def main() -> None:
        server = ScriptedServer(lambda words: rubbish if words[0] == b"GET" else OK)
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        await asker.up()
        asker.ask("GET", "k")
        await asker.came()
        await asker.up(False)
        await asker.up()
        assert asker.client.counters()["connects"] == 2
        await asker.client.close()
        await server.stop()

    run(main())


def test_more_than_max_pending_are_refused() -> None:
    async def main() -> None:
        server = ScriptedServer(lambda words: OK if words[0] == b"PING" else None)
        await server.start()
        asker = Asker(server.address, max_pending=3)
        assert [asker.ask("GET", "k") for _ in range(4)] == [True, True, True, False]
        asker.client.start()
        await asker.up()
        assert not asker.ask("GET", "k")
        assert (asker.client.counters()["refused"], asker.client.pending) == (2, 3)
        await server.stop()
        await asker.client.close()

    run(main())


def test_closing_waits_for_replies_and_for_what_is_asked_because_of_them() -> None:
    async def main() -> None:
        server = ScriptedServer()
        await server.start()
        asker = Asker(server.address)
        asker.client.start()
        await asker.up()

        def ask_again(_argument: Any, _reply: Any) -> None:
            asker.ask("GET", "more", as_="more")

        asker.client.submit(("GET", "k"), ask_again)
        await asker.client.close()
        assert asker.replies == [("more", b"OK")]
        assert not asker.ask("GET", "k")
        await asyncio.sleep(0.1)
        assert not asker.client.is_up
        await server.stop()

    run(main())


def test_closing_does_not_wait_for_ever() -> None:
    async def main() -> None:
        server = ScriptedServer(lambda words: OK if words[0] == b"PING" else None)
        await server.start()
        asker = Asker(server.address, command_timeout=0.1)
        asker.client.start()
        await asker.up()
        asker.ask("GET", "k")
        await asker.client.close()
        ((_, reply),) = asker.replies
        assert isinstance(reply, RedisAwayError)
        await server.stop()

    run(main())


def test_flushing_on_reconnect_deletes_everything_but_not_at_the_first_connection() -> None:
    async def main() -> None:
        server = ScriptedServer()
        await server.start()
        asker = Asker(server.address, flush_on_reconnect=True)
        asker.client.start()
        await asker.up()
        assert "FLUSHALL" not in server.received()
        server.hang_up()
        await asker.up(False)
        await asker.up()
        assert server.received().count("FLUSHALL") == 1
        await asker.client.close()
        await server.stop()

    run(main())


def test_clients_are_shared_by_who_uses_a_server_in_the_same_way() -> None:
    async def main() -> None:
        server = ScriptedServer()
        await server.start()
        clients = Clients()
        first = clients.open(server.address, command_timeout=0.5)
        assert clients.open(server.address, command_timeout=0.5) is first
        assert clients.open(server.address, command_timeout=0.6) is not first
        while not first.is_up:
            await asyncio.sleep(0.001)
        first.submit(("GET", "k"), lambda *_: None)
        assert clients.counters()["redis:commands"] == 1
        await clients.close()
        await server.stop()

    run(main())


def test_a_unix_socket_is_a_server_too(tmp_path: Any) -> None:
    async def main() -> None:
        from tests.redis.scripted import _Connection

        server = ScriptedServer()
        path = str(tmp_path / "redis.sock")
        listener = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(server), path)
        asker = Asker(RedisAddress("", path=path))
        asker.client.start()
        asker.ask("GET", "k")
        assert await asker.came() == [("GET", b"OK")]
        await asker.client.close()
        listener.close()

    run(main())


def test_a_file_of_certificates_that_is_not_there_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asker = Asker(RedisAddress("127.0.0.1", 1, tls=True, ca_file="/nowhere/ca.pem"))
        asker.client.start()
        asker.ask("GET", "k")
        await asker.came()
        await asker.client.close()

    run(main())
    assert "ssl_ca_certs=/nowhere/ca.pem: No such file or directory" in caplog.text


def test_passwords_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = ScriptedServer(lambda words: b"-WRONGPASS invalid username-password pair\r\n")
        await server.start()
        asker = Asker(RedisAddress("127.0.0.1", server.port, password="secret"))
        asker.client.start()
        asker.ask("GET", "k")
        ((_, reply),) = await asker.came()
        assert "secret" not in str(reply)
        await asker.client.close()
        await server.stop()

    with caplog.at_level(logging.DEBUG):
        run(main())
    assert "WRONGPASS" in caplog.text
    assert "secret" not in caplog.text
