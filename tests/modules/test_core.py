"""The Request-URIs were observed on Kamailio 5.6.3."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.testing.script import sip_request


def test_flags_are_set_and_reset(compiled: Any) -> None:
    assert compiled.value("$mf $mF", "setflag(7);") == "128 00000080"
    assert compiled.value("$mf", "$mf = 5; resetflag(0);") == "4"
    assert compiled.is_true("isflagset(7)", "isflagset(6)", body="setflag(7);") == [True, False]


@pytest.mark.parametrize(
    ("body", "uri"),
    [
        ("strip(1);", "sip:b"),
        ('strip(1); prefix("xy");', "sip:xy@b"),
        ('prefix("xy"); strip_tail(1);', "sip:xy@b"),
        ("strip(5);", "sip:b"),
        ("strip_tail(5);", "sip:b"),
        ("strip_tail(0);", "sip:a@b"),
        ('$ru = "sip:a:pw@b:5070"; rewritehost("hh.com");', "sip:a:pw@hh.com"),
        ('$ru = "sip:a:pw@b"; $rU = "";', "sip:b"),
        ('$ru = "sip:a:pw@b"; $rU = "z";', "sip:z:pw@b"),
        ('$ru = "sip:b"; prefix("9");', "sip:9@b"),
        ('rewritehost("hh.com");', "sip:a@hh.com"),
        ('rewritehostport("h3:99");', "sip:a@h3:99"),
        ('sethostport("h3:99"); rewriteport("88");', "sip:a@h3:88"),
        ('rewriteuser("zed");', "sip:zed@b"),
        ('setuserpass("z:p");', "sip:z:p@b"),
        ('seturi("sip:x@y;lr");', "sip:x@y;lr"),
        ('seturi("not a uri");', "sip:a@b"),
        ('rewritehost("a b");', "sip:a@b"),
    ],
)
def test_the_request_uri_is_changed(compiled: Any, body: str, uri: str) -> None:
    assert compiled.value("$ru", f'$ru = "sip:a@b"; {body}') == uri


def test_changes_of_the_request_uri_are_taken_back(compiled: Any) -> None:
    assert compiled.is_true("$ru == $ou", body='$ru = "sip:a@b"; revert_uri();') == [True]


def test_lines_are_logged_without_a_prefix(compiled: Any) -> None:
    assert compiled.run('log("hello\\n"); log(1, "world");').log == ["hello", "world"]


def test_an_answer_goes_to_the_port_that_the_request_came_from(compiled: Any) -> None:
    data = compiled.run('force_rport(); t_reply("200", "OK");').replies[0]
    assert data.via.params["rport"] == "5070"
    assert compiled.run('t_reply("200", "OK");').replies[0].via.rport is None


def test_the_via_that_is_answered_may_stand_anywhere(compiled: Any) -> None:
    data = sip_request()
    first, via, rest = data.split(b"\r\n", 2)
    assert via.startswith(b"Via:")
    moved = b"\r\n".join([first, b"Subject: via", via.replace(b";rport", b""), rest])
    assert compiled.run('force_rport(); t_reply("200", "OK");', moved).replies[0].via.params["rport"] == "5070"


def test_edits_made_before_stay(compiled: Any) -> None:
    body = 'append_hf("X-New: 1\\r\\n"); add_rport(); msg_apply_changes();'
    assert compiled.value("$hdr(X-New) $(hdr(v){param.in,rport})", body) == "1 1"


def test_a_flag_out_of_range_is_an_error(compiled: Any) -> None:
    assert "a flag is a number from 0 to 31, not 32" in compiled.fault("setflag(32);")
