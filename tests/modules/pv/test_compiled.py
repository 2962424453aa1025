"""Variables and transformations where scripts use them: compiled, in strings, expressions and assignments."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("$rU@$fd $(hdr(X-A)[-1]) $hdrc(Via) $$", "bob@atlanta.com two 2 $"),
        ("$(hdr(X-A){s.encode.hexa}) $(fU{s.prefixes.quoted,2})", "6f6e65 'a','al'"),
        ("$(hdr(Supported){s.select,1,,}{s.trim}) $(hdr(Supported){s.count,,})", "100rel 1"),
        ("$_s(sip:$rU@$fd) $T(id_index) $(du{s.len})", "sip:bob@atlanta.com <null> "),
        ("$(ct{nameaddr.uri}) $expires(max)", "sip:alice@192.0.2.1 60"),
    ],
)
def test_values_in_strings(compiled: Any, expression: str, text: str) -> None:
    assert compiled.value(expression) == text


def test_values_in_expressions(compiled: Any) -> None:
    conditions = [
        "$rp == 5070",
        '$rU =~ "^B[[:lower:]]b$"',
        "$(hdr(Expires){s.int}) == 0",
        "$hdr(Nope) == $null",
        "$(ru{uri.host}) == $rd",
        "$cs + 1 == 315",
    ]
    assert compiled.is_true(*conditions) == [True] * len(conditions)


def test_stacks_in_scripts(compiled: Any) -> None:
    body = '$avp(s:x) = "a"; $avp(x) = 2; $xavp(r=>f) = 1; $xavp(r[0]=>g) = "z"; $var(i) = 0;'
    assert compiled.value("$avp(x) $(avp(x)[1]) $cnt($avp(x)) $xavp(r[$var(i)]=>g) $cnt($xavp(r))", body) == "2 a 2 z 1"
    assert compiled.value("$avp(x)", body + "$(avp(x)[*]) = $null;") == "<null>"


def test_variables_outlive_a_route_but_not_a_message(compiled: Any) -> None:
    run = compiled.run("$var(n) = $var(n) + 1; route(SHOW);", more='route[SHOW] { xlog("$var(n)"); }')
    run.receive(
        b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK-other\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 1\r\nContent-Length: 0\r\n\r\n"
    )
    assert run.log == ["<script>: 1", "<script>: 1"]


def test_a_parameter_that_is_wrong_at_run_time_is_logged_and_the_value_is_missing(compiled: Any) -> None:
    lines = compiled.log('$var(i) = "x"; xlog("[$(fU{s.select,$var(i),,})]"); xlog("next");')
    assert lines == ["{s.select}: expected an integer, found 'x'", "[]", "next"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('xlog("$fx");', "unknown variable '$fx'"),
        ('xlog("$(fU{s.lenn})");', "unknown transformation '{s.lenn}'"),
        ('xlog("$(fU{s.select,1})");', "{s.select} takes 2 parameters, found 1"),
        ('$fu = "sip:x@y";', "$fu"),
        ("$time(hour) = 1;", "$time(hour)"),
    ],
)
def test_wrong_uses_are_found_at_load(compiled: Any, body: str, message: str) -> None:
    assert message in compiled.fault(body)
