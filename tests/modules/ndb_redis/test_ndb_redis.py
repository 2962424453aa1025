"""Scripts that ask Redis: what comes back, what is refused, what becomes of a server that is away."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ConfigErrors
from sipwright.redis.addresses import RedisAddress
from sipwright.script.loader import load_text
from sipwright.testing import FakeRedis, ScriptDriver, run_script, sip_request

HEAD = """
loadmodule "tm.so" loadmodule "sl.so" loadmodule "pv.so" loadmodule "xlog.so" loadmodule "ndb_redis.so"
modparam("ndb_redis", "server", "name=s;addr=127.0.0.1;port=6379;db=2")
"""


def run(body: str, more: str = "", redis: FakeRedis | None = None) -> ScriptDriver:
    return run_script(f"{HEAD}{more}\nrequest_route {{\n{body}\n}}\n", sip_request(), redis=redis)


def seen(body: str, *shown: str, redis: FakeRedis | None = None) -> str:
    """Return what variables are after a body."""
    text = " ".join(shown)
    return run(f'{body} sl_send_reply("200", "{text}");', redis=redis).replies[-1].reason


def test_a_script_goes_on_with_the_reply() -> None:
    body = 'redis_cmd("s", "SET user:$rU gold", "r"); $var(a) = $rc; redis_cmd("s", "GET user:%s", "$rU", "r");'
    assert seen(body, "$var(a)", "$rc", "$redis(r=>value)", "$redis(r=>type)") == "1 1 gold 1"


def test_replies_have_names_and_can_be_forgotten() -> None:
    body = """
        redis_cmd("s", "INCR a", "one"); redis_cmd("s", "INCRBY b 5", "two");
        $var(a) = $_s($redis(one=>value) $redis(two=>value)); redis_free("one"); $var(b) = $rc; redis_free("one");
    """
    assert seen(body, "$var(a)", "$var(b)", "$rc", "$redis(one=>value)", "$redis(two=>value)") == "1 5 1 -1 <null> 5"


def test_numbers_are_numbers() -> None:
    body = 'redis_cmd("s", "INCR n", "r"); $var(x) = $redis(r=>value) + 1; if ($redis(r=>type) == $redisd(rpl_int))'
    assert seen(body + " $var(x) = $_s($var(x)!);", "$var(x)") == "2!"


def test_an_error_answer_is_minus_1_and_tells_why() -> None:
    driver = run(
        'redis_cmd("s", "SET k text", "r"); redis_cmd("s", "INCR k", "r"); '
        'sl_send_reply("200", "$rc $redis(r=>type) $redis(r=>info)");'
    )
    assert driver.replies[-1].reason == "-1 6 ERR value is not an integer or out of range"
    assert driver.log == ["redis_cmd: s answered ERR value is not an integer or out of range (OPTIONS call1)"]


def test_values_cannot_become_words() -> None:
    redis = FakeRedis()
    request = sip_request(from_='"x" <sip:a%20EX%201@example.org>;tag=1')
    run_script(
        f'{HEAD} request_route {{ redis_cmd("s", "SET from $fn-$(fU{{s.unescape.user}})", "r"); exit; }}',
        request,
        redis=redis,
    )
    assert redis.commands == [["SET", "from", '"x"-a EX 1']]


def test_all_route_kinds_and_messages_can_ask() -> None:
    driver = ScriptDriver(
        f"""{HEAD}
        request_route {{ redis_cmd("s", "INCR $rm", "r"); exit; }}
        event_route[core:worker-one-init] {{ redis_cmd("s", "SET started yes", "r"); }}
        """
    )
    driver.receive(sip_request("ACK"))
    driver.receive(sip_request("INVITE"))
    assert driver.replies == []
    assert [driver.redis.run("GET", key, db=2) for key in ("started", "ACK", "INVITE")] == [b"yes", b"1", b"1"]


class TestPipelines:
    """Commands that are put aside and sent in one go."""

    def test_they_are_sent_by_redis_execute(self) -> None:
        redis = FakeRedis()
        body = """
            redis_pipe_cmd("s", "SET k %s", "a b", "a"); redis_pipe_cmd("s", "GET k", "b");
            redis_pipe_cmd("s", "INCR k", "c"); $var(x) = $_s($rc $redis(b=>value)); redis_execute("s");
        """
        assert (
            seen(body, "$var(x)", "$rc", "$redis(a=>info)", "$redis(b=>value)", "$redis(c=>type)", redis=redis)
            == "1 <null> 1 OK a b 6"
        )
        assert redis.commands == [["SET", "k", "a b"], ["GET", "k"], ["INCR", "k"]]

    def test_a_command_sends_them_before_itself_with_a_warning(self) -> None:
        driver = run(
            'redis_pipe_cmd("s", "SET k 1", "a"); redis_cmd("s", "GET k", "b"); '
            'sl_send_reply("200", "$redis(a=>info) $redis(b=>value)");'
        )
        assert driver.replies[-1].reason == "OK 1"
        assert driver.log == ["redis_cmd('s'): the commands that were put aside are sent before"]

    def test_nothing_to_execute_is_minus_1(self) -> None:
        assert seen('redis_execute("s"); $var(a) = $rc; redis_execute("x");', "$var(a)", "$rc") == "-1 -1"

    def test_there_is_a_limit(self) -> None:
        body = '$var(n) = 0; while ($var(n) < 1001) { $var(n) = $var(n) + 1; redis_pipe_cmd("s", "INCR k", "r"); }'
        driver = run(f'{body} sl_send_reply("200", "$rc");', "max_while_loops=2000")
        assert driver.replies[-1].reason == "-1"
        assert "1000 commands are put aside already" in driver.log[0]


class TestTransactions:
    """MULTI and EXEC: the connection is everybody's, so they leave in one piece."""

    BODY = """
        redis_cmd("s", "SADD set x y", "r"); redis_cmd("s", "MULTI", "r1"); redis_cmd("s", "SMEMBERS set", "r2");
        redis_cmd("s", "SET k v", "r3");
    """

    def test_nothing_is_sent_before_exec(self) -> None:
        redis = FakeRedis()
        shown = ["$redis(r1=>info)", "$redis(r2=>info)", "$redis(r2=>value)"]
        assert seen(self.BODY, *shown, redis=redis) == "OK QUEUED <null>"
        assert redis.commands == [["SADD", "set", "x", "y"]]

    def test_exec_has_the_replies(self) -> None:
        redis = FakeRedis()
        body = self.BODY + 'redis_cmd("s", "EXEC", "r");'
        shown = ["$rc", "$redis(r=>size)", "$redis(r=>value[0]=>size)", "$redis(r=>value[0]=>value[1])"]
        assert seen(body, *shown, "$redis(r=>value[1]=>info)", redis=redis) == "1 2 2 y OK"
        assert [words[0] for words in redis.commands] == ["SADD", "MULTI", "SMEMBERS", "SET", "EXEC", "SMEMBERS", "SET"]

    def test_discard_forgets_them(self) -> None:
        redis = FakeRedis()
        body = self.BODY + 'redis_cmd("s", "DISCARD", "r"); $var(a) = $redis(r=>info); redis_cmd("s", "EXEC", "r");'
        assert seen(body, "$var(a)", "$rc", "$redis(r=>info)", redis=redis) == "OK -1 ERR EXEC or DISCARD without MULTI"
        assert redis.run("GET", "k", db=2) is None

    def test_another_multi_is_an_error(self) -> None:
        body = self.BODY + 'redis_cmd("s", "MULTI", "r");'
        assert seen(body, "$rc", "$redis(r=>info)") == "-1 ERR MULTI calls can not be nested"

    def test_they_work_in_pipelines(self) -> None:
        redis = FakeRedis()
        body = """
            redis_pipe_cmd("s", "MULTI", "a"); redis_pipe_cmd("s", "INCR n", "b"); redis_pipe_cmd("s", "EXEC", "c");
            redis_pipe_cmd("s", "GET n", "d"); redis_execute("s");
        """
        shown = ["$redis(a=>info)", "$redis(b=>info)", "$redis(c=>value[0])", "$redis(d=>value)"]
        assert seen(body, *shown, redis=redis) == "OK QUEUED 1 1"

    def test_two_messages_do_not_meet(self) -> None:
        driver = ScriptDriver(
            f"""{HEAD}
            request_route {{
                redis_cmd("s", "MULTI", "r"); redis_cmd("s", "INCR n", "r"); redis_cmd("s", "GET other", "q");
                redis_cmd("s", "EXEC", "r"); sl_send_reply("200", "$redis(r=>size)");
            }}
            """
        )
        for number in range(3):
            driver._core.receive(sip_request(branch=f"z9hG4bK{number}"), ("127.0.0.1", 5070), driver._socket)
        driver.advance(0.1)
        assert [reply.reason for reply in driver.replies] == ["2", "2", "2"]


class TestAway:
    """The server is away."""

    def test_a_command_is_minus_1_and_says_why(self) -> None:
        redis = FakeRedis()
        redis.is_away = True
        driver = run(
            'redis_cmd("s", "GET k", "r"); $var(a) = $_s($rc $redis(r=>type) $redis(r=>value) $redis(r=>info)); '
            'redis_pipe_cmd("s", "GET k", "r"); redis_execute("s"); sl_send_reply("200", "$var(a), $rc");',
            redis=redis,
        )
        assert driver.replies[-1].reason == "-1 <null> <null> redis://127.0.0.1:6379/2 is away, -1"
        assert driver.log == []

    def test_it_is_disabled_for_a_time_where_the_script_wants_that(self) -> None:
        more = 'modparam("ndb_redis", "allowed_timeouts", 1) modparam("ndb_redis", "disable_time", 5)'
        driver = ScriptDriver(
            f"""{HEAD}{more}
            request_route {{
                redis_cmd("s", "PING", "r"); $var(c) = $rc; redis_pipe_cmd("s", "PING", "r"); redis_execute("s");
                sl_send_reply("200", "$var(c) $rc");
            }}
            """
        )
        driver.redis.is_away = True

        def ask(number: int) -> str:
            return driver.receive(sip_request(branch=f"z9hG4bK{number}"))[0].reason

        assert [ask(1), ask(2)] == ["-1 -1", "-2 -2"]
        assert driver.log == ["Redis s is disabled for 5 s: too many failures"]
        driver.redis.is_away = False
        assert ask(3) == "-2 -2"
        driver.advance(5)
        assert ask(4) == "1 1"
        assert driver.log[1:] == ["Redis s is asked again"]


def test_a_name_that_no_server_has_is_told() -> None:
    driver = run('redis_cmd("nobody", "GET k", "r"); sl_send_reply("200", "$rc");')
    assert driver.replies[-1].reason == "-1"
    assert driver.log == [
        "redis_cmd: there is no server 'nobody' (modparam server); there are: s (OPTIONS call1)",
    ]


def test_a_command_that_turns_out_to_be_refused_is_minus_1() -> None:
    driver = run('$var(c) = "BLPOP list 0"; redis_cmd("s", "$var(c)", "r"); sl_send_reply("200", "$rc");')
    assert driver.replies[-1].reason == "-1"
    assert driver.log == ["redis_cmd: BLPOP would hold up all other messages (OPTIONS call1)"]


def opened(text: str) -> list[tuple[RedisAddress, dict[str, Any]]]:
    """Return the servers that a script connects to, and how."""

    class Watched(FakeRedis):
        def open(self, address: RedisAddress, **settings: Any) -> Any:
            found.append((address, settings))
            return super().open(address, **settings)

    found: list[tuple[RedisAddress, dict[str, Any]]] = []
    ScriptDriver(f'loadmodule "ndb_redis.so"\n{text}\nrequest_route {{ exit; }}', redis=Watched())
    return found


def test_parameters_reach_the_client() -> None:
    found = opened(
        """
        modparam("ndb_redis", "server", "name=a;addr=10.0.0.1;port=6380;db=4;pass=secret;")
        modparam("ndb_redis", "server", "name=b;unix=/run/redis.sock;db=3;connect_timeout=200;command_timeout=300")
        modparam("ndb_redis", "server", "name=c;addr=h;tls=1")
        modparam("ndb_redis", "connect_timeout", 500) modparam("ndb_redis", "cmd_timeout", 600)
        modparam("ndb_redis", "flush_on_reconnect", 1) modparam("ndb_redis", "ca_path", "/etc/ssl/certs")
        modparam("ndb_redis", "init_without_redis", 1) modparam("ndb_redis", "debug", 1)
        """
    )
    assert [address for address, _settings in found] == [
        RedisAddress("10.0.0.1", 6380, db=4, password="secret"),
        RedisAddress("", path="/run/redis.sock", db=3),
        RedisAddress("h", tls=True, ca_file="/etc/ssl/certs"),
    ]
    assert [settings for _address, settings in found] == [
        {"connect_timeout": connect, "command_timeout": command, "flush_on_reconnect": True}
        for connect, command in ((0.5, 0.6), (0.2, 0.3), (0.5, 0.6))
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('modparam("ndb_redis", "server", "addr=h")', "a server needs a name"),
        ('modparam("ndb_redis", "server", "name=a;adr=h")', "unknown key 'adr' of a server"),
        ('modparam("ndb_redis", "server", "name=a;port=x")', "'port' is a number up to 65535, not 'x'"),
        ('modparam("ndb_redis", "server", "name=a;db")', "'db' has no value"),
        ('modparam("ndb_redis", "server", "name=a;sentinel_group=g")', "servers cannot be found by Sentinels here"),
        ('modparam("ndb_redis", "cluster", 1)', "clusters of Redis are not supported here"),
    ],
)
def test_what_cannot_be_is_an_error_at_load(line: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text(f'loadmodule "ndb_redis.so"\n{line}\nrequest_route {{ exit; }}')
    assert message in str(caught.value.errors[0])


def test_places_of_faults_in_a_server_are_shown() -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_text('loadmodule "ndb_redis.so"\nmodparam("ndb_redis", "server", "name=a;prot=1")\n')
    error = caught.value.errors[0]
    assert (error.line, error.column, error.suggestion) == (2, 41, "port")


def test_faults_of_a_command_are_found_at_load() -> None:
    with pytest.raises(ConfigErrors) as caught:
        run('redis_cmd("s", "GET %s", "r"); redis_cmd("s", "GET", "a", "b", "c", "d", "r"); redis_cmd("s", "GET k");')
    assert [error.message.partition(":")[2].strip() or error.message for error in caught.value.errors] == [
        "there are more %s in the command than arguments behind it (0)",
        "redis_cmd takes 3, 4, 5 or 6 arguments, not 7",
        "redis_cmd takes 3, 4, 5 or 6 arguments, not 2",
    ]


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("$redis(r)", "expected $redis(reply=>key)"),
        ("$(redis(r=>value)[1])", "takes its index inside"),
        ("$redisd(rpl_no)", "expected one of rpl_str, rpl_arr"),
    ],
)
def test_faults_of_variables_are_found_at_load(variable: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        run(f'xlog("{variable}");')
    assert message in str(caught.value.errors[0])
