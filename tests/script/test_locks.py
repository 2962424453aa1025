"""Locks of scripts, in a whole server: who waits, who goes on when, and what becomes of one that nobody gives back."""

from __future__ import annotations

import re

import pytest

from sipwright.testing import NoAnswer, ScriptDriver, sip_request

# OPTIONS hold the lock for as long as the service takes; its answer comes after `timeout`, as a failure.
SCRIPT = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "jsonrpc.so"
loadmodule "htable.so"
modparam("jsonrpc", "servers", "127.0.0.1:9999,1")
modparam("htable", "htable", "t=>size=4")
request_route {
    if ($rm == "ACK") { exit; }
    if (!sht_lock("t=>$rU")) {
        sl_send_reply("500", "busy");
        exit;
    }
    if ($rm == "OPTIONS") {
        jsonrpc_call("m", "[]", "$var(x)", "timeout=$hdr(Hold)");
    }
    if ($rm != "INFO") {
        sht_unlock("t=>$rU");
    }
    sl_send_reply("200", "$ci");
}
"""


@pytest.fixture
def driver() -> ScriptDriver:
    return ScriptDriver(SCRIPT, rpc={"m": NoAnswer.TIMEOUT})


def request(method: str, name: str, hold: int = 1000, user: str = "a") -> bytes:
    return sip_request(
        method, f"sip:{user}@example.org", call_id=name, branch=f"z9hG4bK{name}", headers={"Hold": str(hold)}
    )


def answers(driver: ScriptDriver) -> list[str]:
    return [reply.reason for reply in driver.replies if reply.status >= 200]


def log(driver: ScriptDriver) -> list[str]:
    return [re.sub(r"^<script>: ", "", line) for line in driver.log]


def test_who_finds_a_lock_taken_waits_for_it(driver: ScriptDriver) -> None:
    driver.receive(request("OPTIONS", "first"))
    driver.receive(request("MESSAGE", "second"))
    driver.receive(request("MESSAGE", "other", user="b"))
    assert answers(driver) == ["other"]
    driver.advance(0.9)
    assert answers(driver) == ["other"]
    driver.advance(0.15)
    assert answers(driver) == ["other", "first", "second"]
    assert driver.log == []


def test_who_waits_too_long_goes_on_without_the_lock(driver: ScriptDriver) -> None:
    driver.receive(request("OPTIONS", "first", hold=6000))
    driver.receive(request("MESSAGE", "second"))
    driver.advance(4.9)
    assert answers(driver) == []
    driver.advance(0.2)
    assert answers(driver) == ["busy"]
    assert driver.log == [
        "sht_lock(t=>a): somebody else has the lock, going on without it",
    ]
    driver.advance(1)
    driver.receive(request("MESSAGE", "third"))
    assert answers(driver) == ["busy", "first", "third"]


def test_many_that_wait_get_the_lock_one_after_the_other(driver: ScriptDriver) -> None:
    for number in range(5):
        driver.receive(request("OPTIONS", f"o{number}", hold=200))
    driver.advance(1.5)
    assert sorted(answers(driver)) == [f"o{number}" for number in range(5)]
    assert driver.log == []


def test_a_lock_that_a_script_forgets_comes_free_when_its_message_has_gone(driver: ScriptDriver) -> None:
    driver.receive(request("INFO", "forgets"))
    driver.receive(request("MESSAGE", "next"))
    assert answers(driver) == ["forgets"]
    driver.advance(1.1)
    assert answers(driver) == ["forgets", "next"]
    assert driver.log == ["a lock of 'a' was not given back by the script that took it"]


def test_a_lock_that_is_held_for_too_long_is_lost() -> None:
    driver = ScriptDriver(
        SCRIPT.replace('loadmodule "tm.so"', 'loadmodule "tm.so"\nmodparam("tm", "max_suspend", 100)'),
        rpc={"m": NoAnswer.TIMEOUT},
    )
    driver.receive(request("OPTIONS", "first", hold=62_000))
    driver.advance(59)
    driver.receive(request("OPTIONS", "second", hold=10_000))
    driver.advance(4)
    assert answers(driver) == ["first"]
    driver.advance(8)
    assert answers(driver) == ["first", "second"]
    assert driver.log == ["sht_unlock(t=>a): the lock was held for more than 60 s, and is lost"]


def test_a_message_may_lock_a_key_several_times() -> None:
    driver = ScriptDriver(
        SCRIPT.replace(
            'if ($rm == "OPTIONS") {',
            'sht_lock("t=>$rU"); sht_unlock("t=>$rU"); if ($rm == "OPTIONS") {',
        ),
        rpc={"m": NoAnswer.TIMEOUT},
    )
    driver.receive(request("OPTIONS", "first", hold=100))
    driver.receive(request("MESSAGE", "second"))
    driver.advance(0.05)
    assert answers(driver) == []
    driver.advance(0.2)
    assert answers(driver) == ["first", "second"]
    assert driver.log == []


def test_a_lock_is_of_one_key_and_one_table() -> None:
    driver = ScriptDriver(
        """
        loadmodule "xlog.so"
        loadmodule "pv.so"
        loadmodule "htable.so"
        modparam("htable", "htable", "a=>size=4")
        modparam("htable", "htable", "b=>size=4")
        request_route {
            xlog("$(var(x)) ");
            if (sht_lock("a=>k") && sht_lock("a=>l") && sht_lock("b=>k") && !sht_lock("c=>k")) xlog("all");
            sht_unlock("a=>k");
            sht_unlock("a=>k");
            xlog("$rc");
            sht_unlock("c=>k");
            xlog("$rc");
        }
        """
    )
    driver.receive(sip_request())
    assert log(driver) == ["0 ", "all", "1", "-1"]


def test_who_waits_needs_no_transaction_and_sends_nothing(driver: ScriptDriver) -> None:
    driver.receive(request("OPTIONS", "first"))
    driver.receive(request("INVITE", "second"))
    assert [driver.replies, driver.statistics()["tm:live"]] == [[], 1]
    driver.advance(1.1)
    assert [reply.status for reply in driver.replies] == [200, 200]


def test_a_message_that_is_dropped_after_it_waited_is_not_answered() -> None:
    driver = ScriptDriver(
        SCRIPT.replace('sl_send_reply("200", "$ci");', 'if ($rm == "OPTIONS") sl_send_reply("200", "$ci");'),
        rpc={"m": NoAnswer.TIMEOUT},
    )
    driver.receive(request("OPTIONS", "first"))
    driver.receive(request("MESSAGE", "dropped"))
    driver.advance(1.1)
    assert answers(driver) == ["first"]
    assert driver.log == []


def test_an_ack_waits_like_any_other_message() -> None:
    driver = ScriptDriver(
        SCRIPT.replace('if ($rm == "ACK") { exit; }', "").replace(
            "sl_send_reply", 'if ($rm == "ACK") { xlog("$ci has it"); exit; } sl_send_reply'
        ),
        rpc={"m": NoAnswer.TIMEOUT},
    )
    driver.receive(request("OPTIONS", "first"))
    driver.receive(request("ACK", "ack"))
    assert log(driver) == []
    driver.advance(1.1)
    assert log(driver) == ["ack has it"]


def test_who_is_cancelled_while_it_waits_does_not_get_the_lock(driver: ScriptDriver) -> None:
    driver.receive(request("OPTIONS", "first"))
    driver.receive(request("INVITE", "second"))
    driver.receive(request("CANCEL", "second"))
    assert sorted(reply.status for reply in driver.replies) == [200, 487]
    driver.advance(1.1)
    driver.receive(request("MESSAGE", "third"))
    assert answers(driver)[-2:] == ["first", "third"]
    assert driver.log == []
