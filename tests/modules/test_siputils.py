"""Results as Kamailio 5.6.3 gives them."""

from __future__ import annotations

from typing import Any

from sipwright.testing.script import sip_request


def test_the_request(compiled: Any) -> None:
    conditions = [
        "has_totag()",
        "is_request()",
        "is_reply()",
        "is_first_hop()",
        'is_supported("100rel")',
        'is_supported("x")',
    ]
    assert compiled.is_true(*conditions) == [False, True, False, False, True, False]
    within = sip_request("BYE", to="<sip:alice@example.org>;tag=a")
    assert compiled.is_true("has_totag()", "is_first_hop()", data=within) == [True, True]


def test_parameters_of_the_request_uri(compiled: Any) -> None:
    conditions = ['uri_param("x")', 'uri_param("x", "1")', 'uri_param_any("x")', 'uri_param_any("y")']
    assert compiled.is_true(*conditions) == [False, True, True, False]
    assert compiled.value("$(ru{uri.params})", 'add_uri_param("q=5");') == "transport=udp;x=1;q=5"
    assert compiled.value("$(ru{uri.params})", 'uri_param_rm("transport");') == "x=1"
    assert compiled.value("$var(v)", 'get_uri_param("transport", "$var(v)");') == "udp"


def test_uris_in_variables(compiled: Any) -> None:
    body = '$var(u) = "sip:a@b"; set_uri_user("$var(u)", "z"); set_uri_host("$var(u)", "h.com");'
    assert compiled.value("$var(u)", body) == "sip:z@h.com"


def test_uris_are_compared(compiled: Any) -> None:
    conditions = [
        'cmp_uri("sip:a@h", "sip:a@H")',
        'cmp_uri("sip:a@h", "sip:A@h")',
        'cmp_uri("sip:a@h", "no uri")',
        'cmp_aor("sip:a@h:5060", "sip:a@H;x=y")',
        'is_uri("sip:h")',
        'is_uri("zz")',
        'is_gruu("sip:a@h;gr=1")',
        "is_gruu()",
    ]
    assert compiled.is_true(*conditions) == [True, False, False, True, True, False, True, False]


def test_numbers(compiled: Any) -> None:
    conditions = [
        'is_e164("+4912")',
        'is_e164("4912")',
        'is_uri_user_e164("sip:+4912@h")',
        'is_tel_number("+491")',
        'is_tel_number("49-1")',
        'is_numeric("12")',
        'is_numeric("")',
        'is_alphanum("a1")',
        'is_alphanum("a-1")',
        'is_alphanumex("a-1", "-_")',
    ]
    assert compiled.is_true(*conditions) == [True, False, True, True, False, True, False, True, False, True]


def test_a_tel_uri_becomes_a_sip_uri(compiled: Any) -> None:
    body = 'tel2sip("tel:+1-23;phone-context=X.y", "h.com", "$var(r)");'
    assert compiled.value("$var(r)", body) == "sip:+123;phone-context=x.y@h.com;user=phone"
    assert compiled.value("$var(r)", 'tel2sip("sip:a@b", "h.com", "$var(r)");') == "sip:a@b"


def test_a_result_needs_a_variable(compiled: Any) -> None:
    assert "variable" in compiled.fault('get_uri_param("transport", "no variable");')
