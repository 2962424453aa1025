"""Module sl: answers without a transaction."""

from __future__ import annotations

from sipwright.testing import ScriptDriver, run_script, sip_request

HEAD = 'loadmodule "tm.so"\nloadmodule "sl.so"\nloadmodule "pv.so"\nloadmodule "textops.so"\n'


def test_a_stateless_answer_leaves_no_transaction() -> None:
    run = run_script(HEAD + 'request_route { sl_send_reply("404", "Not Here"); }', sip_request())
    assert [(reply.status, reply.reason) for reply in run.replies] == [(404, "Not Here")]
    assert run.statistics()["tm:created"] == 0


def test_each_retransmission_is_answered_anew_with_the_same_tag() -> None:
    driver = ScriptDriver(HEAD + 'request_route { sl_send_reply("404", "Not Here"); }')
    first, second = driver.receive(sip_request()) + driver.receive(sip_request())
    assert first.to_tag is not None
    assert first.to_tag == second.to_tag


def test_send_reply_uses_the_transaction_where_there_is_one() -> None:
    with_one = run_script(HEAD + 'request_route { t_newtran(); send_reply("200", "OK"); }', sip_request())
    without = run_script(HEAD + 'request_route { send_reply("200", "OK"); }', sip_request())
    assert (with_one.status, without.status) == (200, 200)
    assert with_one.statistics()["tm:sent_replies"] == 1
    assert without.statistics()["sl:sent_replies"] == 1


def test_an_ack_is_never_answered() -> None:
    run = run_script(HEAD + 'request_route { $var(rc) = sl_send_reply("404", "x"); }', sip_request("ACK"))
    assert run.replies == []
    assert run.variables == {"rc": -1}


def test_the_default_error_is_settable() -> None:
    cfg = HEAD + 'modparam("sl", "default_code", 505)\nmodparam("sl", "default_reason", "No way")\n'
    run = run_script(cfg + "request_route { sl_reply_error(); }", sip_request())
    assert [(reply.status, reply.reason) for reply in run.replies] == [(505, "No way")]


def test_a_status_that_is_none_is_refused() -> None:
    run = run_script(HEAD + 'request_route { $var(s) = 700; $var(rc) = sl_send_reply("$var(s)", "x"); }', sip_request())
    assert run.replies == []
    assert run.variables["rc"] == -1


def test_headers_and_body_are_added_to_a_reply() -> None:
    cfg = HEAD + 'request_route { append_to_reply("X-A: 1\\r\\n"); set_reply_body("hello", "text/plain");'
    run = run_script(cfg + ' sl_send_reply("200", "OK"); }', sip_request())
    (reply,) = run.replies
    assert (reply.header("X-A"), reply.header("Content-Type"), reply.body) == ("1", "text/plain", b"hello")


def test_a_stateless_answer_ends_a_transaction_that_was_made_before() -> None:
    driver = ScriptDriver(HEAD + 'request_route { t_newtran(); sl_send_reply("404", "x"); }')
    assert [reply.status for reply in driver.receive(sip_request("INVITE"))] == [404]
    assert driver.statistics()["tm:live"] == 0
    # Neither the 100 of a transaction that waits, nor a repetition.
    assert driver.advance(40) == []


def test_after_a_stateless_answer_there_is_no_transaction() -> None:
    driver = ScriptDriver(
        HEAD
        + 'request_route { sl_send_reply("404", "x"); $var(made) = t_newtran(); $var(again) = t_reply("200", "OK"); }'
    )
    assert [reply.status for reply in driver.receive(sip_request())] == [404]
    assert driver.variables == {"made": -1, "again": -1}
    assert driver.statistics()["tm:live"] == 0


def test_a_resumed_route_may_answer_without_the_transaction() -> None:
    head = HEAD + 'loadmodule "jsonrpc.so"\nmodparam("jsonrpc", "servers", "127.0.0.1:9999,1")\n'
    driver = ScriptDriver(
        head
        + 'request_route { jsonrpc_request("m", "", "R", "R", "$var(x)"); } route[R] { sl_send_reply("404", "x"); }',
        rpc={"m": 1},
    )
    assert [reply.status for reply in driver.receive(sip_request("INVITE"))] == [100, 404]
    assert driver.statistics()["tm:live"] == 0
    assert driver.advance(40) == []
    assert driver.log == []
