"""Commands of Redis from scripts: the same on Kamailio 5.6 with its ndb_redis and on sipwright, on one Redis server.

Where they differ on purpose, a case says what each of them does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios.processes import HOST, RedisProcess, SipServerProcess, require_kamailio_module
from tests.scenarios.side_by_side import SERVERS
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

KEYS = "type value info size".split()
ELEMENTS = "value[0] type[0] value[1] type[1] value[9] type[9] value[-1]".split()
NESTED = "value[1]=>type value[1]=>size value[1]=>value[0] value[1]=>type[1] value[1]=>value[1]=>value[1]".split()

# What is there before each case.
SETUP = ("SET text bar", "SET number 41", "HSET hash f1 v1 f2 v2", "SADD set a", "RPUSH list x y z")

# One command each: its arguments as the script has them, and what comes of it, `code;type;value;info;size`.
COMMANDS = {
    "status": ('"SET foo bar"', "1;5;<null>;OK;<null>"),
    "string": ('"GET text"', "1;1;bar;bar;<null>"),
    "integer": ('"INCR number"', "1;3;42;<null>;<null>"),
    "nothing": ('"GET none"', "1;4;<null>;<null>;<null>"),
    "wrong_type": (
        '"INCR text"',
        "-1;6;<null>;ERR value is not an integer or out of range;<null>",
    ),
    "no_command": ('"NOSUCH foo"', "-1;6;<null>;ERR unknown command 'NOSUCH', with args beginning with: 'foo' ;<null>"),
    "array": ('"HMGET hash f1 none f2"', "1;2;<null>;<null>;3"),
    "empty_array": ('"HKEYS none"', "1;2;<null>;<null>;0"),
    "arguments": ('"SET %s %s", "k 1", "a b"', "1;5;<null>;OK;<null>"),
    "argument": ('"GET %s", "text"', "1;1;bar;bar;<null>"),
    "three_arguments": ('"HMGET %s %s %s", "hash", "f1", "f2"', "1;2;<null>;<null>;2"),
    "argument_inside_of_a_word": ('"GET te%s", "xt"', "1;1;bar;bar;<null>"),
    "empty_argument": ('"SET empty %s", ""', "1;5;<null>;OK;<null>"),
    "argument_too_many": ('"GET text", "unused"', "1;1;bar;bar;<null>"),
    "many_spaces": ('"  GET   text "', "1;1;bar;bar;<null>"),
    "quotes_are_characters": ("\"SET q 'a b'\"", "-1;6;<null>;ERR syntax error;<null>"),
    "per_cent": ('"ECHO 50%%"', "1;1;50%;50%;<null>"),
    "a_variable": ('"GET $var(name)"', "1;1;bar;bar;<null>"),
    "a_variable_as_argument": ('"ECHO %s", "$var(words)"', "1;1;two words;two words;<null>"),
    "a_missing_variable": ('"ECHO $avp(none)"', "1;1;<null>;<null>;<null>"),
    "a_whole_command_in_a_variable": ('"$var(command)"', "1;1;bar;bar;<null>"),
    "lower_case": ('"get text"', "1;1;bar;bar;<null>"),
}
# What sipwright does otherwise: a variable stays inside of its word.
MENDS = {
    "words_in_a_variable": ('"ECHO $var(words)"', "-1;6", "1;1;two words;two words;<null>"),
    "an_empty_variable": ('"ECHO $var(nothing)"', "-1;6", "1;1;;;<null>"),
}
# Statements, and the variables that are looked at.
SEQUENCES = {
    "elements": ('redis_cmd("s", "HMGET hash f1 none f2", "r");', ELEMENTS, "v1;1;<null>;4;<null>;<null>;<null>"),
    "elements_of_a_string": (
        'redis_cmd("s", "GET text", "r");',
        ELEMENTS,
        "<null>;<null>;<null>;<null>;<null>;<null>;bar",
    ),
    "nested": (
        'redis_cmd("s", "EVAL %s 0", "return {1,{2,{3,\'x\'}},\'y\',false}", "r");',
        [*NESTED, "value[0]=>value", "value[2]=>info", "type[3]"],
        "2;2;2;2;x;1;y;4",
    ),
    "variable_index": (
        '$var(i) = 2; redis_cmd("s", "LRANGE list 0 -1", "r");',
        ["value[$var(i)]", "type[$var(i)]"],
        "z;1",
    ),
    "transaction": (
        (
            'redis_cmd("s", "MULTI", "a"); $var(a) = $redis(a=>info); redis_cmd("s", "SMEMBERS set", "b"); '
            '$var(b) = $redis(b=>info); redis_cmd("s", "INCR number", "c"); redis_cmd("s", "EXEC", "r");'
        ),
        ["size", "value[0]=>size", "value[0]=>value[0]", "value[0]=>type[0]", "value[1]", "type[1]"],
        "2;1;a;1;42;3",
    ),
    "discard": (
        (
            'redis_cmd("s", "MULTI", "a"); redis_cmd("s", "INCR number", "b"); redis_cmd("s", "DISCARD", "r"); '
            'redis_cmd("s", "GET number", "r");'
        ),
        ["value"],
        "41",
    ),
    "exec_without_multi": ('redis_cmd("s", "EXEC", "r");', ["type", "info"], "6;ERR EXEC without MULTI"),
    "pipeline": (
        'redis_pipe_cmd("s", "SET p %s", "a b", "a"); redis_pipe_cmd("s", "GET p", "r"); redis_execute("s");',
        KEYS,
        "1;a b;a b;<null>",
    ),
    "pipeline_with_an_error": (
        (
            'redis_pipe_cmd("s", "INCR text", "r"); redis_pipe_cmd("s", "GET text", "b"); redis_execute("s");'
            ' if ($rc == 1) redis_cmd("s", "GET number", "b");'
        ),
        ["type", "info"],
        "6;ERR value is not an integer or out of range",
    ),
    "pipeline_before_a_command": (
        'redis_pipe_cmd("s", "SET p 5", "a"); redis_cmd("s", "GET p", "r");',
        ["value"],
        "5",
    ),
    "freed": ('redis_cmd("s", "GET text", "r"); redis_free("r");', KEYS, "<null>;<null>;<null>;<null>"),
    "arithmetic": ('redis_cmd("s", "GET number", "r"); $var(n) = $redis(r=>value) + 1;', ["value"], "41"),
    "no_server_keeps_the_reply": (
        'redis_cmd("s", "GET text", "r"); redis_cmd("nobody", "GET number", "r");',
        ["value"],
        "bar",
    ),
}
CODES = {
    "execute_nothing": ('redis_execute("s");', "-1"),
    "execute_nowhere": ('redis_execute("nobody");', "-1"),
    "put_aside": ('redis_pipe_cmd("s", "GET text", "r");', "1"),
    "put_aside_nowhere": ('redis_pipe_cmd("nobody", "GET text", "r");', "-1"),
    "execute": ('redis_pipe_cmd("s", "INCR text", "r"); redis_execute("s");', "1"),
    "nobody": ('redis_cmd("nobody", "GET text", "r");', "-1"),
    "free": ('redis_cmd("s", "GET text", "r"); redis_free("r");', "1"),
    "free_nothing": ('redis_free("never");', "-1"),
    "type_of_a_reply": ('redis_cmd("s", "SMEMBERS set", "r"); if ($redis(r=>type) == 2) redis_free("r");', "1"),
}

PREAMBLE = """#!KAMAILIO
children=1
debug=0
log_stderror=yes
disable_tcp=yes
auto_aliases=no
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "ndb_redis.so"
modparam("ndb_redis", "server", "name=s;addr={host};port={port};db=2")
request_route {{
    if ($rU == "ready") {{ sl_send_reply("200", "Ready"); exit; }}
    $var(name) = "text"; $var(words) = "two words"; $var(nothing) = ""; $var(command) = "GET text";
"""


def shown(keys: list[str]) -> str:
    return ";".join(f"$redis(r=>{key})" for key in keys)


def whole_script(port: int) -> str:
    lines = [PREAMBLE.format(host=HOST, port=port)]

    def add(name: str, statements: str, text: str) -> None:
        answer = f'append_to_reply("X-Seen: [{text}]\\r\\n"); sl_send_reply("200", "OK"); exit;'
        lines.append(f'    if ($rU == "{name}") {{ {statements} {answer} }}')

    for name, case in {**COMMANDS, **MENDS}.items():
        add(name, f'redis_cmd("s", {case[0]}, "r"); $var(code) = $rc;', f"$var(code);{shown(KEYS)}")
    for name, (statements, keys, _expected) in SEQUENCES.items():
        add(name, statements, shown(keys))
    for name, (statements, _code) in CODES.items():
        add(name, f"{statements} $var(code) = $rc;", "$var(code)")
    return "\n".join([*lines, "}", ""])


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module", params=list(SERVERS))
def server(
    request: pytest.FixtureRequest, redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, SipServerProcess]]:
    if request.param == "kamailio":
        require_kamailio_module("ndb_redis")
    with SERVERS[request.param](whole_script(redis.port), tmp_path_factory.mktemp(request.param)) as running:
        yield request.param, running


def seen(server: SipServerProcess, redis: RedisProcess, name: str) -> str:
    """Return what a case showed, on a database that is as it was before."""
    redis.run("FLUSHALL")
    for command in SETUP:
        redis.run(*command.split(), db=2)
    with SipClient(server.address) as client:
        text = client.ask("OPTIONS", user=name).header("X-Seen")
    assert text is not None
    return text[1:-1]


@pytest.mark.parametrize("name", COMMANDS)
def test_replies_and_codes(server: tuple[str, SipServerProcess], redis: RedisProcess, name: str) -> None:
    assert seen(server[1], redis, name) == COMMANDS[name][1]


@pytest.mark.parametrize("name", MENDS)
def test_values_that_kamailio_takes_for_words(
    server: tuple[str, SipServerProcess], redis: RedisProcess, name: str
) -> None:
    _arguments, kamailio, ours = MENDS[name]
    if server[0] == "kamailio":
        assert seen(server[1], redis, name).startswith(kamailio)
    else:
        assert seen(server[1], redis, name) == ours


@pytest.mark.parametrize("name", SEQUENCES)
def test_arrays_transactions_and_pipelines(
    server: tuple[str, SipServerProcess], redis: RedisProcess, name: str
) -> None:
    assert seen(server[1], redis, name) == SEQUENCES[name][2]


@pytest.mark.parametrize("name", CODES)
def test_codes_of_the_other_functions(server: tuple[str, SipServerProcess], redis: RedisProcess, name: str) -> None:
    assert seen(server[1], redis, name) == CODES[name][1]


def test_a_server_that_is_away_makes_a_command_false(server: tuple[str, SipServerProcess], redis: RedisProcess) -> None:
    assert seen(server[1], redis, "string") == "1;1;bar;bar;<null>"
    redis.kill()
    try:
        with SipClient(server[1].address) as client:
            text = client.ask("OPTIONS", user="string").header("X-Seen")
    finally:
        redis.__enter__()
    assert text is not None
    code, kind, value, _info, size = text[1:-1].split(";")
    assert (code, kind, value, size) == ("-1", "<null>", "<null>", "<null>")
