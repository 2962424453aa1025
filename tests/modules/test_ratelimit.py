from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from sipwright.errors import ConfigErrors
from sipwright.testing import ScriptDriver, sip_request

Load = Callable[..., Any]

# As the manual of Kamailio's module shows it.
HEAD = """
    loadmodule "sl"
    loadmodule "pv"
    loadmodule "textops"
    loadmodule "kex"
    loadmodule "ratelimit"
    modparam("ratelimit", "timer_interval", 2)
    modparam("ratelimit", "pipe", "0:TAILDROP:5")
    modparam("ratelimit", "pipe", "1:RED:5")
    modparam("ratelimit", "pipe", "2:TAILDROP:1")
    modparam("ratelimit", "pipe", "3:FEEDBACK:80")
    modparam("ratelimit", "pipe", "4:NETWORK:10000")
    modparam("ratelimit", "pipe", "5:NOP:1")
    modparam("ratelimit", "queue", "0:INVITE")
    modparam("ratelimit", "queue", "1:MESSAGE")
    modparam("ratelimit", "queue", "5:INFO")
    modparam("ratelimit", "queue", "2:*")
    request_route {
"""


class Limited:
    def __init__(self, body: str, head: str = HEAD) -> None:
        self.driver = ScriptDriver(f'{head} {body} $var(code) = $rc; sl_send_reply("200", "$var(code)"); }}')
        self.number = 0

    def send(self, count: int, method: str = "INVITE") -> list[tuple[str, int]]:
        codes = []
        for _ in range(count):
            self.number += 1
            request = sip_request(method, branch=f"z9hG4bK{self.number}", call_id=str(self.number))
            codes.append(self.driver.receive(request)[0].reason)
        return [(code, len(list(group))) for code, group in groupby(codes)]


def test_requests_go_through_the_pipe_of_their_method() -> None:
    limited = Limited("rl_check();")
    # Limits are per second.
    assert limited.send(15, "INVITE") == [("1", 10), ("-1", 5)]
    assert limited.send(20, "MESSAGE") == [("1", 20)]
    assert limited.send(5, "SUBSCRIBE") == [("1", 2), ("-1", 3)]
    assert limited.send(5, "OPTIONS") == [("-1", 5)]
    assert limited.send(5, "INFO") == [("1", 5)]
    limited.driver.advance(2)
    assert limited.send(15, "INVITE") == [("1", 10), ("-1", 5)]
    assert limited.send(4, "MESSAGE") == [("-1", 1), ("1", 1), ("-1", 1), ("1", 1)]
    assert limited.driver.statistics()["ratelimit:limited"] == 5 + 3 + 5 + 5 + 2


@pytest.mark.parametrize(
    "body", ["rl_check_pipe(2);", 'rl_check_pipe("2");', '$var(p) = "2"; rl_check("$var(p)");', "rl_check(2);"]
)
def test_a_pipe_may_be_named(body: str) -> None:
    assert Limited(body).send(4) == [("1", 2), ("-1", 2)]


@pytest.mark.parametrize(("number", "said"), [("17", 17), ("5", 5), ("-1", -1)])
def test_a_pipe_that_is_named_must_be_there(number: str, said: int) -> None:
    limited = Limited(f'$var(p) = {number}; rl_check_pipe("$var(p)");')
    assert limited.send(2) == [("-1", 2)]
    assert limited.driver.log == [f"rl_check_pipe: there is no pipe {said} with an algorithm"] * 2


def test_a_pipe_that_is_no_number_is_no_pipe() -> None:
    limited = Limited('$var(p) = "abc"; rl_check("$var(p)");')
    assert limited.send(1) == [("-1", 1)]
    assert "expected an integer, found 'abc'" in limited.driver.log[0]


def test_what_has_no_queue_may_pass() -> None:
    head = HEAD.replace('modparam("ratelimit", "queue", "2:*")', "")
    assert Limited("rl_check();", head).send(30, "SUBSCRIBE") == [("1", 30)]


# Observed on Kamailio 5.6.3.
@pytest.mark.parametrize(
    ("queues", "pipe"),
    [
        (["0:*", "1:OPTIONS"], 1),
        (["1:OPTIONS", "0:*"], 1),
        (["0:OPTIONS", "1:OPTIONS"], 0),
        (["0:*", "1:*"], 1),
        (["1:options", "0:*"], 1),
    ],
)
def test_of_several_queues_one_counts(load: Load, queues: list[str], pipe: int) -> None:
    pipes = [("ratelimit", "pipe", "0:TAILDROP:0"), ("ratelimit", "pipe", "1:TAILDROP:1")]
    data = sip_request("OPTIONS")
    worker = load("ratelimit", params=[*pipes, *(("ratelimit", "queue", queue) for queue in queues)], data=data)
    assert worker.call("rl_check") == (1 if pipe == 1 else -1)


def test_workers_count_together(load: Load) -> None:
    params = [("ratelimit", "pipe", "0:TAILDROP:1"), ("ratelimit", "queue", "0:*")]
    first = load("ratelimit", params=params)
    second = load("ratelimit", params=params, beside=first)
    # Ten seconds are an interval.
    assert [worker.call("rl_check") for worker in (first, second) * 6] == [1] * 10 + [-1] * 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pipe", "0:TAILDROP", "a pipe is written number:algorithm:limit, as 0:TAILDROP:200, not '0:TAILDROP'"),
        ("pipe", "x:TAILDROP:1", "the number of a pipe is a number, not 'x'"),
        ("pipe", "0:TAILDRP:1", "unknown algorithm 'TAILDRP'"),
        ("pipe", "0:taildrop:1", "unknown algorithm 'taildrop'"),
        ("pipe", "0:RED:-3", "the limit of a pipe is a number, not '-3'"),
        ("pipe", "0:FEEDBACK:140", "the limit of FEEDBACK is a load in percent, 0 to 100, not 140"),
        ("queue", "INVITE", "a queue is written pipe:method, as 0:INVITE or 0:*, not 'INVITE'"),
        ("queue", "0:", "a queue is written pipe:method"),
        ("queue", "x:INVITE", "the number of a pipe is a number, not 'x'"),
        ("timer_interval", 0, "must be at least 1, not 0"),
    ],
)
def test_mistakes_in_parameters_are_named_with_their_place(name: str, value: object, message: str) -> None:
    text = value if isinstance(value, int) else f'"{value}"'
    with pytest.raises(ConfigErrors) as caught:
        ScriptDriver(f'loadmodule "ratelimit"\nmodparam("ratelimit", "{name}", {text})\nrequest_route {{ exit; }}')
    (error,) = caught.value.errors
    assert message in error.message
    assert error.line == 2
    if "algorithm '" in message:
        assert error.suggestion == "TAILDROP"
        assert error.source[error.column - 1 :].startswith(("TAILDRP", "taildrop"))


def test_a_queue_must_lead_to_a_pipe() -> None:
    with pytest.raises(ConfigErrors, match='queue "7:INVITE" has no pipe'):
        ScriptDriver('loadmodule "ratelimit"\nmodparam("ratelimit", "queue", "7:INVITE")\nrequest_route { exit; }')


def test_routes_are_kamailios() -> None:
    script = HEAD + "exit; }\n"
    for block in ("failure_route[A]", "onreply_route[A]", "branch_route[A]", "onsend_route"):
        ScriptDriver(f'{script} {block} {{ rl_check(); rl_check_pipe("0"); }}')
        with pytest.raises(ConfigErrors, match="cannot be called from"):
            ScriptDriver(f'{script} {block} {{ rl_check("0"); }}')
