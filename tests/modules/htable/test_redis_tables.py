"""Tables on Redis, with the server in memory: scripts see what they see of local ones; and a server that is away."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ConfigErrors, RedisAnswerError
from sipwright.lang.namespace import RouteKind
from sipwright.script.loader import load_text
from sipwright.testing import FakeRedis, NoAnswer, ScriptDriver, run_script, sip_request
from tests.modules.htable.table_scripts import BODIES, script

REDIS = "redis://127.0.0.1:6379/0"
HEAD = f"""
loadmodule "tm.so" loadmodule "sl.so" loadmodule "pv.so" loadmodule "xlog.so" loadmodule "htable.so"
modparam("htable", "htable", "t=>size=4")
modparam("htable", "store", "{REDIS}")
"""


def run(body: str, more: str = "", redis: FakeRedis | None = None, **named: Any) -> ScriptDriver:
    return run_script(f"{HEAD}{more}\nrequest_route {{\n{body}\n}}\n", sip_request(**named), redis=redis)


def reason(driver: ScriptDriver) -> str:
    return driver.replies[-1].reason


@pytest.mark.parametrize("name", BODIES)
def test_a_script_sees_the_same_on_redis_as_on_a_table_of_its_own(name: str) -> None:
    request = sip_request("OPTIONS", f"sip:{name}@example.org")
    local, remote = [run_script(script(store), request) for store in ("local", REDIS)]
    assert reason(local) == reason(remote) != ""
    assert local.log == remote.log
    assert local.redis.commands == []
    assert remote.redis.commands


def test_others_can_read_and_write_what_is_there() -> None:
    redis = FakeRedis()
    redis.run("SET", "sht:t:count", "41")
    redis.run("SET", "sht:t:name", "Alice")
    redis.run("SET", "sht:t:kept", "s:007")
    driver = run(
        '$sht(t=>text) = "12"; $sht(t=>plain) = "twelve"; $var(n) = $shtinc(t=>count);'
        'sl_send_reply("200", "$var(n) $sht(t=>name) $sht(t=>kept)");',
        redis=redis,
    )
    assert reason(driver) == "42 Alice 007"
    assert [redis.run("GET", f"sht:t:{key}") for key in ("count", "text", "plain")] == [b"42", b"s:12", b"twelve"]


def test_items_expire_on_redis_and_are_not_swept_here() -> None:
    driver = ScriptDriver(
        f"""{HEAD}
        modparam("htable", "htable", "e=>autoexpire=30")
        request_route {{ if ($rU == "set") $sht(e=>k) = "v"; sl_send_reply("200", "$sht(e=>k)"); }}
        """
    )
    driver.receive(sip_request("OPTIONS", "sip:set@example.org"))
    assert driver.redis.run("PTTL", "sht:e:k") == 30_000
    driver.advance(29)
    assert driver.receive(sip_request(branch="z9hG4bK2"))[0].reason == "v"
    driver.advance(2)
    assert driver.receive(sip_request(branch="z9hG4bK3"))[0].reason == "<null>"


def test_a_table_may_be_on_redis_by_itself_or_stay_at_home() -> None:
    driver = run_script(
        """
        loadmodule "sl.so" loadmodule "pv.so" loadmodule "htable.so"
        modparam("htable", "htable", "far=>size=4;store=redis://10.0.0.1:6380/3;autoexpire=10")
        modparam("htable", "htable", "near=>size=4")
        modparam("htable", "htable", "home=>store=local")
        request_route {
            $sht(far=>k) = 1; $sht(near=>k) = 2; $sht(home=>k) = 3;
            sl_send_reply("200", "$sht(far=>k) $sht(near=>k) $sht(home=>k)");
        }
        """,
        sip_request(),
    )
    assert reason(driver) == "1 2 3"
    assert driver.redis.commands == [["SET", "sht:far:k", "1", "PX", "10000"], ["GET", "sht:far:k"]]
    assert driver.redis.run("GET", "sht:far:k", server="10.0.0.1:6380", db=3) == b"1"


def test_only_scripts_with_a_table_on_redis_wait() -> None:
    text = """
        loadmodule "pv.so" loadmodule "htable.so" loadmodule "xlog.so"
        modparam("htable", "htable", "t=>{}")
        modparam("htable", "htable", "home=>store=local")
        request_route {{ route(READ); route(FUNCTION); route(WRITE); route(OTHER); }}
        route[READ] {{ xlog("$sht(t=>k)"); }}
        route[FUNCTION] {{ sht_rm("t", "k"); }}
        route[WRITE] {{ $sht(t=>k) = 1; }}
        route[OTHER] {{ xlog("$sht(home=>k)"); }}
    """
    suspends = []
    for store in ("size=4", "store=redis://127.0.0.1"):
        routes = load_text(text.format(store)).routes
        suspends.append([routes[RouteKind.REQUEST, n].suspends for n in ("", "READ", "FUNCTION", "WRITE", "OTHER")])
    assert suspends == [[False] * 5, [True, True, True, False, False]]


def test_a_script_that_reads_a_table_on_redis_still_decides_what_becomes_of_a_request() -> None:
    redis = FakeRedis()
    redis.run("SET", "sht:t:banned", "1")
    driver = ScriptDriver(f'{HEAD} request_route {{ if ($sht(t=>$fU) == 1) exit; t_reply("200", "OK"); }}', redis=redis)
    banned = sip_request("INVITE", from_="<sip:banned@example.org>;tag=1")
    assert driver.receive(banned) == []
    assert driver.receive(banned) == []
    assert driver.statistics()["tm:created"] == 0
    assert [reply.status for reply in driver.receive(sip_request("INVITE", branch="z9hG4bK2"))] == [200]
    assert driver.log == []


class TestAway:
    """The server is away."""

    def test_reading_gives_null_and_writing_is_told_by_the_log(self) -> None:
        redis = FakeRedis()
        redis.is_away = True
        body = """
            $sht(t=>k) = 1; $sht(t=>l) = 2; $sht(i=>k) = 3;
            $var(a) = $_s($sht(t=>k) $sht(i=>k) $shtinc(i=>n) $shtex(i=>k) $shtcn(t=>**));
            sht_rm("t", "k"); $var(b) = $rc; sht_has_name("t", "eq", "k"); $var(b) = $_s($var(b) $rc);
            sht_setxs("t", "k", "v", "5"); $var(b) = $_s($var(b) $rc); sht_reset("t"); $var(b) = $_s($var(b) $rc);
            sht_lock("t=>k"); $var(b) = $_s($var(b) $rc);
            sht_iterator_start("i", "t"); sht_iterator_next("i"); $var(b) = $_s($var(b) $rc);
            sl_send_reply("200", "$var(a), $var(b)");
        """
        driver = run(body, 'modparam("htable", "htable", "i=>initval=7;autoexpire=60")', redis)
        assert reason(driver) == "<null> <null> <null> 0 <null>, -1 -1 -1 -1 -1 -1"
        assert driver.log == [
            "htable t: not written: the server is away",
            "htable i: not written: the server is away",
        ]
        assert driver.statistics()["htable:redis_errors"] == 14
        driver.advance(11)
        assert driver.log[2:] == ["htable t: 5 more values were not written in the last 10 s"]
        driver.advance(20)
        assert len(driver.log) == 3

    def test_reading_may_end_the_script(self) -> None:
        redis = FakeRedis()
        redis.is_away = True
        more = 'modparam("htable", "store_failure", "error")'
        driver = run('xlog("here\\n");\nif ($sht(t=>k) == $null) sl_send_reply("200", "no");', more, redis)
        assert driver.status == 500
        assert driver.log[0] == "<script>: here"
        assert driver.log[1].startswith("script.cfg:8: StoreError: htable t: the server is away")
        assert run('sht_setxs("t", "k", "v", "5"); exit;', more, redis).status == 500
        assert run('$sht(t=>k) = "v"; exit;', more, redis).status == 500

    def test_what_is_asked_and_never_answered_fails(self) -> None:
        redis = FakeRedis()
        redis.on("GET", lambda _words: setattr(redis, "is_away", True))
        assert reason(run('sl_send_reply("200", "$sht(t=>k)");', redis=redis)) == "<null>"

    def test_it_comes_back(self) -> None:
        driver = ScriptDriver(f'{HEAD} request_route {{ $sht(t=>k) = "v"; sl_send_reply("200", "$sht(t=>k)"); }}')
        for number, away in enumerate((False, True, False)):
            driver.redis.is_away = away
            (reply,) = driver.receive(sip_request(branch=f"z9hG4bK{number}"))
            assert reply.reason == ("<null>" if away else "v")

    def test_a_script_that_waits_for_a_service_meanwhile_goes_on(self) -> None:
        driver = ScriptDriver(
            f"""{HEAD} loadmodule "jsonrpc.so" modparam("jsonrpc", "servers", "127.0.0.1:9999,1")
            request_route {{ $var(x) = $sht(t=>k); jsonrpc_request("m", "", "R", "R", "$sht(t=>$sht(t=>name))"); }}
            route[R] {{ t_reply("200", "$sht(t=>answer)"); }}
            """,
            rpc={"m": "found"},
        )
        driver.redis.run("SET", "sht:t:name", "answer")
        assert driver.receive(sip_request())[-1].reason == "found"


def test_a_wrong_kind_of_key_is_a_failure_of_its_own() -> None:
    redis = FakeRedis()
    redis.run("RPUSH", "sht:t:list", "1")
    driver = run('$var(x) = $shtinc(t=>list); sl_send_reply("200", "$sht(t=>list) $shtcn(t=>**)");', redis=redis)
    assert reason(driver) == "<null> 1"
    assert driver.statistics()["htable:redis_errors"] == 2


def test_the_error_of_a_write_that_nobody_waits_for_is_told() -> None:
    redis = FakeRedis()
    redis.on("SET", RedisAnswerError("OOM command not allowed when used memory > 'maxmemory'."))
    driver = run("$sht(t=>k) = 1; exit;", redis=redis)
    assert driver.log == ["htable t: not written: OOM command not allowed when used memory > 'maxmemory'."]


class TestStop:
    """A server that stops."""

    def test_what_waits_for_redis_gets_its_reply(self) -> None:
        driver = ScriptDriver(f'{HEAD} request_route {{ sl_send_reply("200", "$sht(t=>a) $sht(t=>b)"); }}')
        driver.redis.run("SET", "sht:t:a", "first")
        driver.redis.run("SET", "sht:t:b", "second")
        # Without the replies of Redis, which the driver would deliver.
        driver._core.receive(sip_request(), ("127.0.0.1", 5070), driver._socket)
        assert driver.is_suspended
        (reply,) = driver.stop()
        assert reply.reason == "first second"

    def test_routes_that_run_because_of_it_can_still_read(self) -> None:
        driver = ScriptDriver(
            f"""{HEAD} loadmodule "jsonrpc.so" modparam("jsonrpc", "servers", "127.0.0.1:9999,1")
            request_route {{ jsonrpc_request("m", "", "R", "R", "$var(x)"); }}
            route[R] {{ t_reply("200", "$var(x) $sht(t=>k)"); }}
            """,
            rpc={"m": NoAnswer.TIMEOUT},
        )
        driver.redis.run("SET", "sht:t:k", "v")
        driver.receive(sip_request())
        (reply,) = driver.stop()
        assert reply.reason == "failure v"


class TestLocks:
    """A lock keeps out other servers."""

    SCRIPT = f"""{HEAD} loadmodule "jsonrpc.so" modparam("jsonrpc", "servers", "127.0.0.1:9999,1")
    request_route {{
        if (!sht_lock("t=>k")) {{ sl_send_reply("480", "Locked"); exit; }}
        if ($rU == "hold") jsonrpc_call("slow", "", "$var(x)");
        if ($rU != "forget") sht_unlock("t=>k");
        sl_send_reply("200", "OK");
    }}
    """

    def test_the_other_one_waits_until_it_is_free(self) -> None:
        redis = FakeRedis()
        first = ScriptDriver(self.SCRIPT, redis=redis, rpc={"slow": NoAnswer.TIMEOUT})
        second = ScriptDriver(self.SCRIPT, redis=redis)
        redis.clock = first.clock.time
        first.receive(sip_request("OPTIONS", "sip:hold@example.org"))
        assert second.receive(sip_request()) == []
        second.advance(0.3)
        assert second.replies == []
        first.advance(0.6)
        second.advance(0.1)
        assert [reply.status for reply in (*first.replies, *second.replies)] == [200, 200]

    def test_it_gives_up_after_some_seconds(self) -> None:
        redis = FakeRedis()
        redis.run("SET", "shtlock:t:k", "somebody")
        second = ScriptDriver(self.SCRIPT, redis=redis)
        second.receive(sip_request())
        second.advance(6)
        assert second.status == 480
        assert "somebody else has the lock" in second.log[0]

    def test_a_lock_comes_free_when_its_server_has_gone(self) -> None:
        driver = ScriptDriver(self.SCRIPT)
        driver.receive(sip_request("OPTIONS", "sip:forget@example.org"))
        assert 59_000 < driver.redis.run("PTTL", "shtlock:t:k") <= 60_000

    def test_a_lock_that_comes_when_its_message_has_gone_is_given_back(self) -> None:
        driver = ScriptDriver(self.SCRIPT)
        # The reply is under way when the CANCEL comes: the driver is not asked to deliver it before.
        driver._core.receive(sip_request("INVITE"), ("127.0.0.1", 5070), driver._socket)
        assert driver.redis.run("GET", "shtlock:t:k") is not None
        driver.receive(sip_request("CANCEL"))
        assert sorted(reply.status for reply in driver.replies) == [200, 487]
        assert driver.redis.run("GET", "shtlock:t:k") is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('modparam("htable", "store", "localhost")', "a Redis server is written redis://host:port/db"),
        ('modparam("htable", "htable", "x=>store=redis://h/one")', "the database of a Redis server is a number"),
        ('modparam("htable", "htable", "x=>stor=local")', "unknown key 'stor' of a table"),
        ('modparam("htable", "store_failure", "nothing")', "is one of null, error"),
        (
            'modparam("htable", "db_url", "sqlite:////tmp/x")\nmodparam("htable", "htable", "x=>dbtable=y")',
            "htable: table 'x' is on Redis, and cannot have a dbtable, too",
        ),
    ],
)
def test_what_cannot_be_is_an_error_at_load(lines: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text(f"{HEAD}\n{lines}\nrequest_route {{ exit; }}")
    assert message in str(caught.value.errors[0])


def test_an_event_route_that_redis_will_not_run_is_noted() -> None:
    text = HEAD + 'modparam("htable", "htable", "home=>store=local")\nrequest_route { exit; }\n'
    text += "event_route[htable:expired:t] { exit; }\nevent_route[htable:expired:home] { exit; }"
    (note,) = load_text(text).notes
    assert note == (
        "script.cfg:7: nothing runs event_route[htable:expired:t]: "
        "the table is on Redis, which does not tell when an item expires"
    )
