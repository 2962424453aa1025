"""Module tm: what its functions tell and do."""

from __future__ import annotations

import pytest

from sipwright.errors import ConfigErrors
from sipwright.testing import NoAnswer, ScriptDriver, run_script, sip_request

HEAD = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "textops.so"
loadmodule "jsonrpc.so"
modparam("jsonrpc", "servers", "127.0.0.1:9999,1")
"""


def script(body: str, head: str = "") -> str:
    return HEAD + head + body


def test_a_transaction_is_made_once_and_not_for_an_ack() -> None:
    cfg = script('request_route { $var(a) = t_newtran(); $var(b) = t_newtran(); t_reply("200", "OK"); }')
    assert run_script(cfg, sip_request()).variables == {"a": 1, "b": -1}
    assert run_script(cfg, sip_request("ACK")).variables == {"a": -1, "b": -1}


def test_a_final_answer_is_given_once() -> None:
    cfg = script('request_route { t_reply("200", "OK"); $var(again) = t_reply("500", "No"); }')
    run = run_script(cfg, sip_request())
    assert [reply.status for reply in run.replies] == [200]
    assert run.variables == {"again": -1}


def test_a_status_out_of_range_is_refused_and_logged() -> None:
    run = run_script(script('request_route { $var(s) = 99; $var(rc) = t_reply("$var(s)", "x"); }'), sip_request())
    assert run.replies == []
    assert run.variables["rc"] == -1
    assert "t_reply: 99 is no status code, 100 to 699" in run.log[0]


def test_a_fixed_status_out_of_range_is_a_load_error() -> None:
    with pytest.raises(ConfigErrors, match="700 is no status code, 100 to 699"):
        run_script(script('request_route { t_reply("700", "x"); }'), sip_request())


def test_provisional_replies_precede_the_final_one_and_share_its_tag() -> None:
    cfg = script('request_route { t_reply("180", "Ringing"); t_reply("486", "Busy Here"); }')
    ringing, busy = run_script(cfg, sip_request("INVITE")).replies[:2]
    assert (ringing.status, busy.status) == (180, 486)
    assert ringing.to_tag == busy.to_tag


def test_append_to_reply_adds_to_the_next_reply_only() -> None:
    cfg = script(
        'request_route { append_to_reply("X-A: 1\\r\\n"); t_reply("180", "Ringing"); t_reply("486", "Busy"); }'
    )
    ringing, busy = run_script(cfg, sip_request("INVITE")).replies[:2]
    assert (ringing.header("X-A"), busy.header("X-A")) == ("1", None)


def test_a_released_transaction_is_gone_without_an_answer() -> None:
    run = run_script(script("request_route { t_newtran(); t_release(); }"), sip_request())
    assert run.replies == []
    assert run.statistics()["tm:live"] == 0
    assert run.log == []


def test_t_is_set_tells_of_the_routes_that_are_set() -> None:
    cfg = script(
        """
        request_route {
            $var(before) = t_is_set("failure_route");
            t_on_failure("F");
            $var(after) = t_is_set("failure_route");
            $var(branch) = t_is_set("branch_route");
            t_reply("200", "OK");
        }
        failure_route[F] { exit; }
        """
    )
    assert run_script(cfg, sip_request()).variables == {"before": -1, "after": 1, "branch": -1}


def test_the_kind_of_route_is_told_and_stays_over_a_suspension() -> None:
    cfg = script(
        """
        request_route { jsonrpc_request("m", "[]", "R", "R", "$var(x)"); }
        route[R] {
            $var(request) = t_is_request_route();
            $var(failure) = t_is_failure_route();
            t_reply("200", "OK");
        }
        """
    )
    variables = run_script(cfg, sip_request(), rpc={"m": 1}).variables
    assert (variables["request"], variables["failure"]) == (1, -1)


def test_t_check_trans_is_true_for_a_cancel_whose_invite_is_here() -> None:
    cfg = script(
        """
        request_route {
            if (is_method("CANCEL")) {
                $var(known) = t_check_trans();
                $var(looked_up) = t_lookup_cancel();
                exit;
            }
            t_reply("486", "Busy Here");
        }
        """
    )
    driver = ScriptDriver(cfg)
    assert driver.receive(sip_request("CANCEL")) == []
    assert driver.variables == {"known": -1, "looked_up": -1}
    driver.receive(sip_request("INVITE"))
    # The script leaves the CANCEL alone, so the server answers it; the INVITE has its answer already.
    assert [(reply.status, reply.cseq_method) for reply in driver.receive(sip_request("CANCEL"))] == [(200, "CANCEL")]
    assert driver.variables == {"known": 1, "looked_up": 1}


def test_t_check_status_and_the_reply_code_tell_the_last_reply() -> None:
    cfg = script(
        """
        request_route {
            t_reply("183", "Progress");
            $var(code) = $T_reply_code;
            $var(is1xx) = t_check_status("^1[0-9]+$");
            $var(is4xx) = t_check_status("4..");
            t_reply("404", "Not Found");
        }
        """
    )
    assert run_script(cfg, sip_request("INVITE")).variables == {"code": 183, "is1xx": 1, "is4xx": -1}


SUSPENDING = """
modparam("tm", "fr_timer", 2000)
modparam("tm", "fr_inv_timer", 4000)
request_route {
    if (is_method("MESSAGE")) {
        $var(rc) = t_continue("$shv(index)", "$shv(label)", "GO");
        t_reply("202", "Accepted");
        exit;
    }
    if (is_present_hf("X-Short")) { t_set_fr(1000, 500); }
    t_on_failure("LATE");
    t_suspend();
    $shv(index) = $T(id_index);
    $shv(label) = $T(id_label);
}
route[GO] { t_reply("200", "Continued"); }
failure_route[LATE] { t_reply("504", "Late $T_reply_code"); }
"""


def test_a_transaction_that_was_suspended_by_hand_is_continued_by_its_numbers() -> None:
    driver = ScriptDriver(script(SUSPENDING))
    assert driver.receive(sip_request("OPTIONS")) == []
    assert driver.is_suspended
    replies = driver.receive(sip_request("MESSAGE", branch="z9hG4bK2", call_id="call2"))
    assert [(reply.status, reply.call_id) for reply in replies] == [(200, "call1"), (202, "call2")]
    assert driver.variables == {"rc": 1}
    driver.receive(sip_request("MESSAGE", branch="z9hG4bK3", call_id="call3"))
    assert driver.variables == {"rc": -1}


@pytest.mark.parametrize(
    ("method", "headers", "seconds"),
    [("OPTIONS", {}, 2.0), ("INVITE", {}, 4.0), ("OPTIONS", {"X-Short": "1"}, 0.5), ("INVITE", {"X-Short": "1"}, 1.0)],
)
def test_a_suspension_by_hand_is_limited_by_the_final_response_timers(
    method: str, headers: dict[str, str], seconds: float
) -> None:
    driver = ScriptDriver(script(SUSPENDING))
    driver.receive(sip_request(method, headers=headers))
    assert 504 not in [reply.status for reply in driver.advance(seconds - 0.1)]
    assert 504 in [reply.status for reply in driver.advance(0.2)]


def test_retransmissions_are_absorbed_for_wt_timer() -> None:
    driver = ScriptDriver(
        script('modparam("tm", "wt_timer", 5000)\nrequest_route { xlog("new"); t_reply("200", "OK"); }')
    )
    driver.receive(sip_request())
    driver.advance(4)
    assert [reply.status for reply in driver.receive(sip_request())] == [200]
    assert driver.log == ["<script>: new"]
    driver.advance(2)
    driver.receive(sip_request())
    assert driver.log == ["<script>: new"] * 2


def test_a_call_that_was_asked_is_not_asked_again_by_a_retransmission() -> None:
    cfg = script(
        'request_route { jsonrpc_request("m", "[]", "R", "R", "$var(x)"); } route[R] { t_reply("200", "OK"); }'
    )
    driver = ScriptDriver(cfg, rpc={"m": NoAnswer.TIMEOUT})
    driver.receive(sip_request())
    driver.receive(sip_request())
    assert len(driver.calls) == 1


def test_timers_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ConfigErrors, match=r"retr_timer2 \(100 ms\) is below retr_timer1 \(500 ms\)"):
        run_script(script("request_route { exit; }", 'modparam("tm", "retr_timer2", 100)\n'), sip_request())


def test_an_unknown_failure_route_is_refused_at_load() -> None:
    with pytest.raises(ConfigErrors, match=r"failure_route\[LAT\] is not defined"):
        run_script(script('request_route { t_on_failure("LAT"); } failure_route[LATE] { exit; }'), sip_request())


def is_left(driver: ScriptDriver) -> bool:
    statistics = driver.statistics()
    return statistics["tm:live"] + statistics["tm:suspended"] > 0


def test_a_suspended_transaction_that_is_released_is_gone_without_an_answer() -> None:
    driver = ScriptDriver(script("request_route { t_suspend(); t_release(); }"))
    driver.receive(sip_request())
    assert not is_left(driver)
    assert driver.advance(70) == []
    assert driver.log == []


def test_a_resumed_route_may_release_its_transaction_instead_of_answering() -> None:
    cfg = script('request_route { jsonrpc_request("m", "", "R", "R", "$var(x)"); } route[R] { t_release(); }')
    driver = ScriptDriver(cfg, rpc={"m": 1})
    assert driver.receive(sip_request()) == []
    assert not is_left(driver)
    assert driver.log == []


def test_a_transaction_that_is_released_after_its_answer_absorbs_retransmissions() -> None:
    driver = ScriptDriver(script('request_route { xlog("new"); t_newtran(); t_reply("404", "No"); t_release(); }'))
    assert [reply.status for _ in range(2) for reply in driver.receive(sip_request())] == [404, 404]
    assert driver.log == ["<script>: new"]


def test_a_final_answer_ends_a_suspension_by_hand() -> None:
    driver = ScriptDriver(script('request_route { t_suspend(); t_reply("200", "OK"); }'))
    assert [reply.status for reply in driver.receive(sip_request())] == [200]
    assert not is_left(driver)
    assert driver.advance(70) == []
    assert driver.log == []


def test_an_invite_gets_one_final_answer_and_its_repetition_ends_with_the_ack() -> None:
    cfg = script(
        """
        request_route {
            if (is_method("ACK")) exit;
            t_reply("200", "OK");
            $var(again) = t_reply("200", "OK");
            $var(other) = t_reply("404", "No");
        }
        """
    )
    driver = ScriptDriver(cfg)
    (reply,) = driver.receive(sip_request("INVITE"))
    assert driver.variables == {"again": -1, "other": -1}
    driver.receive(sip_request("ACK", branch="z9hG4bKack", to=f"<sip:alice@example.org>;tag={reply.to_tag}"))
    assert driver.advance(40) == []


def test_only_what_was_suspended_by_hand_is_continued_by_hand() -> None:
    cfg = script(
        """
        request_route {
            if (is_method("MESSAGE")) {
                $var(rc) = t_continue("$shv(index)", "$shv(label)", "R");
                t_reply("202", "Accepted");
                exit;
            }
            t_newtran();
            $shv(index) = $T(id_index);
            $shv(label) = $T(id_label);
            $var(rc) = jsonrpc_call("m", "", "$var(x)");
            xlog("$var(rc) $var(x)");
            t_reply("200", "OK");
        }
        route[R] { t_reply("500", "No"); }
        """
    )
    driver = ScriptDriver(cfg, rpc={"m": NoAnswer.TIMEOUT})
    driver.receive(sip_request())
    driver.receive(sip_request("MESSAGE", branch="z9hG4bK2", call_id="call2"))
    assert driver.variables == {"rc": -1}
    assert [reply.status for reply in driver.advance(1)] == [200]
    assert driver.log[-1] == "<script>: -2 timeout"


def test_the_last_reply_is_sent_again_by_hand_only_when_there_is_one() -> None:
    cfg = script(
        """
        request_route {
            t_newtran();
            $var(before) = t_retransmit_reply();
            t_reply("183", "Progress");
            $var(after) = t_retransmit_reply();
            t_reply("404", "No");
        }
        """
    )
    run = run_script(cfg, sip_request("INVITE"))
    assert run.variables == {"before": -1, "after": 1}
    assert [reply.status for reply in run.replies[:3]] == [183, 183, 404]


def test_a_cancel_that_comes_too_late_has_the_tag_of_the_answer() -> None:
    driver = ScriptDriver(script('request_route { if (is_method("CANCEL")) exit; t_reply("486", "Busy"); }'))
    (busy,) = driver.receive(sip_request("INVITE"))
    (cancelled,) = driver.receive(sip_request("CANCEL"))
    assert (cancelled.status, cancelled.to_tag) == (200, busy.to_tag)
