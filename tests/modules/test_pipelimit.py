from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from sipwright.errors import ConfigErrors, SipwrightError
from sipwright.sip.message import Response
from sipwright.testing import ScriptDriver, sip_request

Load = Callable[..., Any]

HEAD = """
    loadmodule "tm"
    loadmodule "sl"
    loadmodule "pv"
    loadmodule "textops"
    loadmodule "pipelimit"
    modparam("pipelimit", "timer_interval", 2)
"""


def worker(load: Load, *params: tuple[str, Any], beside: Any = None) -> Any:
    return load("pipelimit", params=[("pipelimit", *param) for param in params], beside=beside)


def codes(script: Any, count: int, *arguments: Any) -> list[tuple[int, int]]:
    """Call `pl_check` so often; return the codes, equal ones in a row with their number."""
    found = [script.call("pl_check", *arguments) for _ in range(count)]
    return [(code, len(list(group))) for code, group in groupby(found)]


def test_the_three_argument_form_makes_a_pipe_and_limits_it(load: Load) -> None:
    script = worker(load)
    assert script.call("pl_active", "a") == -1
    assert script.call("pl_check", "a") == -2
    # Limits are per interval.
    assert codes(script, 8, "a", "TAILDROP", 4) == [(1, 4), (-1, 4)]
    assert script.call("pl_active", "a") == 1
    assert script.call("pl_check", "a") == -1
    assert script.call("pl_check", "b") == -2
    script.services.fake_clock.advance(10)
    assert codes(script, 8, "a") == [(1, 4), (-1, 4)]


def test_a_pipe_that_is_there_keeps_its_algorithm_and_takes_a_limit_above_0(load: Load) -> None:
    script = worker(load)
    assert codes(script, 6, "a", "TAILDROP", 4) == [(1, 4), (-1, 2)]
    assert codes(script, 3, "a", "TAILDROP", 0) == [(-1, 3)]
    # Of RED all would pass.
    assert codes(script, 5, "a", "RED", 8) == [(1, 3), (-1, 2)]
    script.services.fake_clock.advance(10)
    assert codes(script, 10, "a") == [(1, 8), (-1, 2)]


# Observed on Kamailio 5.6.3.
@pytest.mark.parametrize(
    ("algorithm", "limit", "expected"),
    [
        ("taildrop", 4, [(1, 4), (-1, 4)]),
        ("TAILDROP", 0, [(-1, 8)]),
        ("RED", 4, [(1, 8)]),
        ("NOP", 4, [(2, 8)]),
        ("NETWORK", 400, [(1, 8)]),
        ("FEEDBACK", 50, [(1, 8)]),
    ],
)
def test_algorithms(load: Load, algorithm: str, limit: int, expected: list[tuple[int, int]]) -> None:
    assert codes(worker(load), 8, "a", algorithm, limit) == expected


def test_network_and_feedback_have_no_effect_without_load_fetch(load: Load) -> None:
    script = worker(load, ("load_fetch", 0))
    script.services.counters["core:udp_queued"] = 1000
    assert codes(script, 5, "n", "NETWORK", 1) == [(1, 5)]
    assert codes(script, 5, "f", "FEEDBACK", 1) == [(1, 5)]
    other = worker(load)
    other.services.counters["core:udp_queued"] = 1000
    assert codes(other, 5, "n", "NETWORK", 1) == [(-1, 5)]


def test_a_load_above_100_percent_cannot_be_wanted(load: Load) -> None:
    script = worker(load)
    assert codes(script, 1, "f", "FEEDBACK", 140) == [(-1, 1)]
    assert script.services.lines == [
        ("ERROR", "pl_check: the limit of FEEDBACK is a load in percent, 0 to 100, not 140")
    ]


def test_a_pipe_that_one_worker_has_made_is_known_to_all_and_counted_by_all(load: Load) -> None:
    first = worker(load)
    second = worker(load, beside=first)
    assert codes(first, 2, "a", "TAILDROP", 5) == [(1, 2)]
    assert second.call("pl_active", "a") == 1
    assert codes(second, 5, "a") == [(1, 3), (-1, 2)]
    # A new limit, too.
    assert codes(second, 1, "a", "TAILDROP", 8) == [(1, 1)]
    assert codes(first, 3, "a") == [(1, 1), (-1, 2)]


def test_pipes_that_are_not_used_are_forgotten_where_that_is_wanted(load: Load) -> None:
    script = worker(load, ("timer_interval", 1), ("clean_unused", 2))
    clock = script.services.fake_clock
    script.call("pl_check", "a", "TAILDROP", 5)
    script.call("pl_check", "b", "TAILDROP", 5)
    for _ in range(10):
        clock.advance(0.5)
        assert script.call("pl_check", "a") == 1
    assert script.call("pl_active", "b") == -1
    clock.advance(1.9)
    assert script.call("pl_active", "a") == 1
    clock.advance(1.5)
    assert script.call("pl_active", "a") == -1
    assert script.services.shared_store("pipelimit:pipes").count() == 0
    other = worker(load, ("timer_interval", 1))
    other.call("pl_check", "a", "TAILDROP", 5)
    other.services.fake_clock.advance(1000)
    assert other.call("pl_active", "a") == 1


def test_beyond_max_pipes_limits_hold_without_a_pipe_being_kept(load: Load) -> None:
    script = worker(load, ("max_pipes", 3))
    for number in range(3):
        script.call("pl_check", str(number), "TAILDROP", 2)
    script.services.fake_clock.advance(10)
    assert codes(script, 4, "more", "TAILDROP", 2) == [(1, 2), (-1, 2)]
    assert (script.call("pl_active", "more"), script.call("pl_check", "more")) == (-1, -2)
    assert script.services.shared_store("pipelimit:pipes").count() == 3
    counters = script.services.statistics()
    assert (counters["pipelimit:not_kept"], counters["pipelimit:limited"]) == (4, 2)
    # Nor are more counted in an interval than so many, by a worker.
    for number in range(10):
        script.call("pl_check", f"even more {number}", "TAILDROP", 0)
    assert script.services.shared_store("pipelimit:counts").count() <= 3 + 3
    assert script.services.statistics()["pipelimit:uncounted"] == 8


def test_nothing_is_turned_away_when_the_pipes_cannot_be_reached(load: Load) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise SipwrightError("the store is gone")

    script = worker(load, ("clean_unused", 1))
    module = script.module("pipelimit")
    module._kept = module._pipes._store = Broken()
    assert codes(script, 5, "a", "TAILDROP", 1) == [(1, 5)]
    assert codes(script, 5, "a") == [(1, 5)]
    assert script.call("pl_active", "a") == -1
    script.services.fake_clock.advance(30)
    assert len(script.services.timers) == 2


# ---- pl_drop


def drop(call: str, before: str = "", head: str = HEAD) -> tuple[Response, ScriptDriver]:
    driver = ScriptDriver(f"{head} request_route {{ {before} {call} xlog('$rc'); exit; }}\nloadmodule \"xlog\"")
    (reply,) = driver.receive(sip_request("OPTIONS"))
    return reply, driver


@pytest.mark.parametrize(
    ("call", "seconds"),
    [
        ("pl_drop();", [None]),
        ('pl_drop("7");', ["7"]),
        ('pl_drop("3", "5");', ["3", "4", "5"]),
        # Kamailio: the least then.
        ('pl_drop("9", "3");', ["9"]),
        ('pl_drop("0");', ["5"]),
        ('$var(x) = 8; pl_drop("$var(x)");', ["8"]),
    ],
)
def test_pl_drop_answers_503_with_retry_after(call: str, seconds: list[str | None]) -> None:
    reply, driver = drop(call)
    replies = [reply]
    for number in range(30):
        replies += driver.receive(sip_request("OPTIONS", branch=f"z9hG4bK{number}", call_id=str(number)))
    assert {(reply.status, reply.reason) for reply in replies} == {(503, "Server Unavailable")}
    assert {reply.header("Retry-After") for reply in replies} == {*seconds}
    assert driver.log == ["<script>: 1"] * 31


def test_pl_drop_answers_within_the_transaction_where_there_is_one() -> None:
    _reply, driver = drop('pl_drop("5");')
    assert driver.statistics()["sl:sent_replies"] == 1
    reply, driver = drop('append_to_reply("X-More: 1\\r\\n"); pl_drop("5");', before="t_newtran();")
    assert driver.statistics()["tm:sent_replies"] == 1
    assert (reply.header("Retry-After"), reply.header("X-More")) == ("5", "1")


def test_pl_drop_says_what_the_parameters_say() -> None:
    head = HEAD + 'modparam("pipelimit", "reply_code", 480) modparam("pipelimit", "reply_reason", "Limiting")\n'
    reply, _driver = drop("pl_drop();", head=head)
    assert (reply.status, reply.reason) == (480, "Limiting")


def test_an_ack_is_not_answered() -> None:
    driver = ScriptDriver(f'{HEAD} request_route {{ pl_drop("5"); }}')
    assert driver.receive(sip_request("ACK")) == []


# ---- mistakes


@pytest.mark.parametrize(
    ("call", "message", "suggestion"),
    [
        ('pl_check("a", "TAILDRP", "5");', "unknown algorithm 'TAILDRP', expected one of NOP, TAILDROP", "TAILDROP"),
        ('pl_check("a", "RED", "-5");', "a limit is not negative, as -5 is", None),
        ('pl_check("a", "RED", "many");', "expected an integer, found 'many'", None),
        ('pl_check("a", "RED");', "pl_check takes 1 or 3 arguments, not 2", None),
        ('pl_drop("-4");', "a number of seconds is not negative, as -4 is", None),
    ],
)
def test_mistakes_are_found_at_load(call: str, message: str, suggestion: str | None) -> None:
    with pytest.raises(ConfigErrors) as caught:
        ScriptDriver(f"{HEAD} request_route {{ {call} }}")
    (error,) = caught.value.errors
    assert message in error.message
    assert error.suggestion == suggestion


def test_a_limit_that_is_none_at_run_time_is_false_and_logged() -> None:
    driver = ScriptDriver(
        f'{HEAD} request_route {{ if (!pl_check("a", "TAILDROP", "$hdr(X-Limit)")) sl_send_reply("500", "No limit"); }}'
    )
    (reply,) = driver.receive(sip_request("OPTIONS", headers={"X-Limit": "-5"}))
    assert reply.status == 500
    assert "a limit is not negative, as -5 is" in driver.log[0]


def test_a_database_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ConfigErrors, match="there is no database: give the pipe in the script"):
        ScriptDriver(f'{HEAD} modparam("pipelimit", "db_url", "mysql://x") request_route {{ exit; }}')


@pytest.mark.parametrize("name", ["plp_table_name", "hash_size", "timer_mode"])
def test_parameters_of_what_is_not_here_are_accepted(name: str) -> None:
    ScriptDriver(f'{HEAD} modparam("pipelimit", "{name}", 1) request_route {{ exit; }}')


def test_routes_are_kamailios() -> None:
    script = HEAD + "request_route { exit; }\n"
    for block in ("failure_route[A]", "branch_route[A]", "onsend_route", "event_route[core:worker-one-init]"):
        ScriptDriver(f'{script} {block} {{ pl_check("a"); pl_active("a"); pl_drop("5"); }}')
    for block in ("onreply_route[A]", "reply_route"):
        ScriptDriver(f'{script} {block} {{ pl_check("a", "RED", "5"); pl_active("a"); }}')
        with pytest.raises(ConfigErrors, match="cannot be called from"):
            ScriptDriver(f"{script} {block} {{ pl_drop(); }}")
