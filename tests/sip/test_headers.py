"""Typed header values."""

from __future__ import annotations

import pytest

from sipwright.errors import SipParseError
from sipwright.sip.grammar import parse_params, split_values
from sipwright.sip.headers import (
    header_key,
    parse_contacts,
    parse_cseq,
    parse_name_addr,
    parse_number,
    parse_via,
    parse_vias,
)


@pytest.mark.parametrize(
    ("text", "name", "uri", "params"),
    [
        ("<sip:a@b>", "", "sip:a@b", {}),
        ('"A. \\"B\\"" <sip:a@b;lr>;tag=1;x', 'A. "B"', "sip:a@b;lr", {"tag": "1", "x": None}),
        ("Alice B <sip:a@b> ; tag = 1", "Alice B", "sip:a@b", {"tag": "1"}),
        ("Jörg <sip:a@b>", "Jörg", "sip:a@b", {}),
        ("sip:a@b;tag=1", "", "sip:a@b", {"tag": "1"}),
        ('"x;tag=2>" <sip:a@b>;y=";tag=3"', "x;tag=2>", "sip:a@b", {"y": ";tag=3"}),
    ],
)
def test_name_addr_is_taken_apart(text: str, name: str, uri: str, params: dict[str, str | None]) -> None:
    value = parse_name_addr(text)
    assert (value.name, value.uri, value.params, value.tag) == (name, uri, params, params.get("tag"))
    again = parse_name_addr(str(value))
    assert (again.name, again.uri, again.params) == (name, uri, params)


@pytest.mark.parametrize(
    "text", ["", "a", "<>", "<sip:a@b", '"a <sip:a@b>', "a, b <sip:a@b>", "< sip:a@b>", "sip:a@b?x=y", "<sip:a@b>;;"]
)
def test_malformed_name_addr_is_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_name_addr(text)


def test_contacts_are_split_outside_quotes_and_brackets() -> None:
    contacts = parse_contacts('"a, b" <sip:a@b;x=1,2>;q=0.5, sip:c@d')
    assert [(contact.name, contact.uri) for contact in contacts] == [("a, b", "sip:a@b;x=1,2"), ("", "sip:c@d")]
    assert [contact.uri for contact in parse_contacts("*")] == ["*"]


def test_via_has_what_its_parameters_say() -> None:
    via = parse_via("SIP / 2.0 / udp Host.Example : 5070 ;rport;received=192.0.2.1; maddr=224.2.0.1 ;branch=z9hG4bK1")
    assert (via.protocol, via.transport, via.host, via.port) == ("SIP/2.0", "UDP", "Host.Example", 5070)
    assert (via.branch, via.received, via.maddr, via.rport) == ("z9hG4bK1", "192.0.2.1", "224.2.0.1", "")
    assert via.sent_by == "host.example:5070"
    assert parse_via("SIP/2.0/TCP [::1];rport=5").rport == "5"
    assert parse_via("SIP/2.0/TCP [::1]").rport is None


@pytest.mark.parametrize("text", ["", "SIP/2.0/UDP", "SIP/2.0 host", "SIP/2.0/UDP a b", "SIP/2.0/UDP a:70000", "a,"])
def test_malformed_via_is_refused(text: str) -> None:
    with pytest.raises(SipParseError):
        parse_vias(text)


def test_cseq_and_numbers_have_limits() -> None:
    assert parse_cseq("0009  INVITE") == (9, "INVITE")
    assert parse_number("4294967295") == 4294967295
    for text in ("4294967296", "-1", "", "1 2", "\u0661", "1_0"):
        with pytest.raises(SipParseError):
            parse_number(text)
    for text in ("1", "INVITE", "2147483648 INVITE", "-1 INVITE", "1 IN VITE"):
        with pytest.raises(SipParseError):
            parse_cseq(text)


def test_params_are_an_ordered_dict_with_lower_case_names() -> None:
    assert list(parse_params('B=1;a;C="x;\\"y";b=2;d=').items()) == [("b", "1"), ("a", None), ("c", 'x;"y'), ("d", "")]
    assert parse_params("  ") == {}
    for text in (";;", "a=b c", 'a="b', "=1", "a;;b"):
        with pytest.raises(SipParseError):
            parse_params(text)


def test_empty_values_of_a_list_are_refused() -> None:
    assert split_values("a , b") == ["a", "b"]
    for text in ("", "a,,b", ",", "a,", '"a,b', "<a,b"):
        with pytest.raises(SipParseError):
            split_values(text)


def test_header_key_is_the_same_for_all_spellings() -> None:
    assert header_key("V") == header_key("via") == header_key("VIA") == "via"
    assert header_key("Z") == "z"
