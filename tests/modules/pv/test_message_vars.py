"""Values as Kamailio 5.6.3 gives them for the same message, but for the addresses."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ArgumentError

MESSAGE = b"""MESSAGE tel:+49123 SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:5999;branch=z9hG4bK776
Max-Forwards: 70
From: <sip:atlanta.com>;tag=1928
To: <tel:+1555>
Call-ID: abc@pc33
CSeq: 314 MESSAGE
Route: <sip:r1@h;lr>, <sip:r2@h;lr>
Route: <sip:r3@h;lr>
Authorization: Digest username="al@dom.com", realm="rr", uri="sip:x", nonce="n", response="abc", algorithm=MD5
Content-Length: 0

""".replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rm", "INVITE"),
        ("rv", "SIP/2.0"),
        ("ru", "sip:bob:pw@example.com:5070;transport=udp;x=1"),
        ("rU", "bob"),
        ("rd", "example.com"),
        ("rp", 5070),
        ("rP", "udp"),
        ("rz", "sip"),
        ("rUl", 3),
        ("ou", "sip:bob:pw@example.com:5070;transport=udp;x=1"),
        ("oU", "bob"),
        ("od", "example.com"),
        ("op", 5070),
        ("oP", "udp"),
        ("fu", "sip:alice@atlanta.com;p=1"),
        ("fU", "alice"),
        ("fd", "atlanta.com"),
        ("fn", '"Alice A"'),
        ("ft", "1928"),
        ("tu", "sip:bob@biloxi.com"),
        ("tU", "bob"),
        ("td", "biloxi.com"),
        ("tn", "Bob"),
        ("tt", None),
        ("ci", "abc@pc33"),
        ("cs", 314),
        ("csb", "314 INVITE"),
        ("ct", "<sip:alice@192.0.2.1>;expires=60, <sip:a2@192.0.2.1>;expires=30"),
        ("cT", "application/sdp"),
        ("cl", 5),
        ("ua", "UA 1"),
        ("rb", "v=0\r\n"),
        ("bs", 5),
        ("mt", 1),
        ("rs", None),
        ("rr", None),
        ("si", "192.0.2.1"),
        ("sp", 5999),
        ("su", "sip:192.0.2.1:5999"),
        ("sut", "sip:192.0.2.1:5999;transport=udp"),
        ("sas", "udp:192.0.2.1:5999"),
        ("proto", "udp"),
        ("Ri", "192.0.2.100"),
        ("Rp", 5060),
        ("Ru", "sip:192.0.2.100:5060"),
        ("du", None),
        ("dd", None),
        ("dp", None),
        ("ai", "sip:pai@h.com"),
        ("di", "sip:div@h.com"),
        ("dir", "busy"),
        ("au", None),
        ("pu", None),
        ("pp", 4711),
        ("TS", 1_700_000_000),
    ],
)
def test_variables_of_a_message(load: Any, name: str, value: object) -> None:
    assert load("pv").get(name) == value


def test_whole_message_and_its_length(load: Any) -> None:
    script = load("pv")
    assert script.get("mb").startswith("INVITE sip:bob")
    assert script.get("ml") == len(script.ctx.message.data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fn", None),
        ("tn", None),
        ("fU", None),
        ("fd", "atlanta.com"),
        ("tU", "+1555"),
        ("td", None),
        ("rU", "+49123"),
        ("rd", None),
        ("rp", 5060),
        ("rP", "UDP"),
        ("rb", ""),
        ("cT", None),
        ("au", "al"),
        ("aU", "al@dom.com"),
        ("ad", "dom.com"),
        ("ar", "rr"),
        ("aa", "MD5"),
        ("adu", "sip:x"),
    ],
)
def test_parts_that_are_missing(load: Any, name: str, value: object) -> None:
    assert load("pv", data=MESSAGE).get(name) == value


def test_messages_are_numbered(load: Any) -> None:
    script = load("pv")
    assert [script.get("mi"), script.get("mi")] == [1, 1]
    script.ctx = script.context()
    assert script.get("mi") == 2


def test_headers_by_name_and_index(load: Any) -> None:
    script = load("pv")
    assert script.get("hdr", "X-A") == "one"
    assert [script.get("hdr", "X-A", i) for i in (0, 1, -1, 2, "*")] == ["one", "two", "two", None, "one,two"]
    assert script.get("hdr", "v") == "SIP/2.0/UDP 192.0.2.1:5999;branch=z9hG4bK776"
    assert script.get("hdr", "X-B") == ""
    assert script.get("hdr", "nope") is None
    assert [script.get("hdrc", "x-a"), script.get("hdrc", "nope")] == [2, 0]
    assert script.get("hfl", "Via", 2) == "SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK9"
    assert [script.get("hflc", "Via"), script.get("hfl", "Contact", 1)] == [3, "<sip:a2@192.0.2.1>;expires=30"]
    script.set("var", "h", "x-a")
    assert script.get("hdr", script.variable("var", "h")) == "one"


def test_expires_of_contacts(load: Any) -> None:
    script = load("pv")
    assert [script.get("expires", "min"), script.get("expires", "max")] == [30, 60]
    assert load("pv", data=MESSAGE).get("expires", "min") is None


def test_the_request_uri_can_be_edited_part_by_part(load: Any) -> None:
    script = load("pv")
    script.set("ru", None, "sip:u:pw@h:99;transport=tcp;x?q=1")
    seen = []
    for name, value in [("rU", "new"), ("rd", "d.com"), ("rp", 77), ("rp", "78"), ("rU", None), ("rp", None)]:
        script.set(name, None, value)
        seen.append(script.get("ru"))
    assert seen == [
        "sip:new:pw@h:99;transport=tcp;x?q=1",
        "sip:new:pw@d.com:99;transport=tcp;x?q=1",
        "sip:new:pw@d.com:77;transport=tcp;x?q=1",
        "sip:new:pw@d.com:78;transport=tcp;x?q=1",
        "sip:d.com:78;transport=tcp;x?q=1",
        "sip:d.com;transport=tcp;x?q=1",
    ]
    assert script.get("ou").startswith("sip:bob:pw@")


def test_an_edit_that_makes_no_uri_is_logged_and_left_out(load: Any) -> None:
    script = load("pv")
    script.set("rp", None, "70000x")
    script.set("rd", None, "not a host")
    assert script.get("ru") == script.get("ou")
    assert [level for level, _ in script.services.lines] == ["ERROR", "ERROR"]


def test_the_destination_can_be_set_and_reset(load: Any) -> None:
    script = load("pv")
    script.set("du", None, "sip:h2.com:99;transport=tls")
    assert [script.get(name) for name in ("du", "dd", "dp", "dP")] == [
        "sip:h2.com:99;transport=tls",
        "h2.com",
        99,
        "tls",
    ]
    script.set("du", None, None)
    assert script.get("du") is None


def test_transaction_numbers(load: Any) -> None:
    script = load("pv")
    assert script.get("T", "id_index") is None
    script.services.label = (3, 99)
    assert [script.get("T", "id_index"), script.get("T", "id_label")] == [3, 99]


def test_time(load: Any) -> None:
    script = load("pv")
    assert script.get("TV", "Sn") == "1700000000.250000"
    assert script.get("Ts") == 1_700_000_000
    script.services.time += 5
    assert [script.get("Ts"), script.get("TS"), script.get("TV", "u")] == [1_700_000_000, 1_700_000_005, 250_000]
    assert [script.get("utime", part) for part in ("year", "mon", "mday", "wday", "yday")] == [2023, 11, 14, 3, 318]
    assert script.get("utimef", "%Y-%m-%d %H:%M:%S") == "2023-11-14 22:13:25"


def test_a_format_and_the_environment(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("pv")
    monkeypatch.setenv("SIPWRIGHT_TEST", "yes")
    assert script.get("env", "SIPWRIGHT_TEST") == "yes"
    assert script.get("_s", ["sip:", script.variable("rU"), "@x"]) == "sip:bob@x"


@pytest.mark.parametrize(
    ("name", "inner", "message"),
    [
        ("TV", "x", r"expected \$TV\(s\|u\|sn\|un\|Sn\), found 'x'"),
        ("T", "id", r"expected \$T\(id_index\|id_label\), found 'id'"),
        ("rm", "x", r"\$rm takes no name in parentheses"),
        ("hdr", None, r"\$hdr needs a name in parentheses"),
        ("rM", None, r"unknown variable '\$rM'"),
    ],
)
def test_wrong_uses_are_errors(load: Any, name: str, inner: str | None, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load("pv").get(name, inner)
