from __future__ import annotations

from typing import Any

import pytest

SELECTS = [
    ("method", "INVITE"),
    ("ruri", "sip:bob:pw@example.com:5070;transport=udp;x=1"),
    ("ruri.user", "bob"),
    ("ruri.pwd", "pw"),
    ("ruri.host", "example.com"),
    ("ruri.port", "5070"),
    ("ruri.hostport", "example.com:5070"),
    ("ruri.type", "sip"),
    ("ruri.params", "transport=udp;x=1"),
    ("ruri.params.x", "1"),
    ("ruri.params.y", "<null>"),
    ("ruri.params.X", "1"),
    ("from.params.Tag", "1928"),
    ("from", '"Alice A" <sip:alice@atlanta.com;p=1>;tag=1928'),
    ("from.name", '"Alice A"'),
    ("from.tag", "1928"),
    ("from.params.tag", "1928"),
    ("from.uri", "sip:alice@atlanta.com;p=1"),
    ("from.uri.user", "alice"),
    ("from.uri.port", "<null>"),
    ("from.uri.params.p", "1"),
    ("to.uri.host", "biloxi.com"),
    ("to.tag", "<null>"),
    ("contact.uri", "sip:alice@192.0.2.1"),
    ("contact.params.expires", "60"),
    ("call_id", "abc@pc33"),
    ("cseq.num", "314"),
    ("cseq.method", "INVITE"),
    ("via.host", "192.0.2.1"),
    ("via[1].port", "5999"),
    ("via.branch", "z9hG4bK776"),
    ("via.transport", "UDP"),
    ("expires", "<null>"),
    ("msg.header.user_agent", "UA 1"),
    ("msg.h.x_a", "one"),
    ("cfg_get.front.name", "one"),
    ("cfg_get.front.limit", "7"),
]
CUSTOM = 'front.name = "one" desc "what it is"\nfront.limit = 7\n'


@pytest.mark.parametrize(("path", "result"), SELECTS)
def test_selects(compiled: Any, path: str, result: str) -> None:
    body = f'$avp(x) = @{path}; xlog("$sel({path})"); xlog("$avp(x)");'
    assert compiled.log(body, before=CUSTOM) == [result, result]


def test_selects_in_conditions(compiled: Any) -> None:
    conditions = ("@cfg_get.front.limit == 7", '@from.uri.user == "alice"', "strempty(@to.tag)", '@via.branch =~ "^z9"')
    tests = "".join(f'if ({condition}) xlog("yes"); else xlog("no");\n' for condition in conditions)
    assert compiled.log(tests, before=CUSTOM) == ["yes"] * 4


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "unknown select 'nothing'"),
        ("from.uri.nothing", "unknown select"),
        ("from.nothing", "unknown select"),
        ("ruri.params.x.y", "unknown select"),
        ("via.nothing", "unknown select"),
        ("msg.header", "unknown select"),
        ("cfg_get.front.nothing", "there is no global parameter 'front.nothing'"),
    ],
)
def test_selects_that_do_not_exist(compiled: Any, path: str, message: str) -> None:
    assert message in compiled.fault(f'if (@{path} == "x") exit;')


def test_where_in_the_script_a_line_is(compiled: Any) -> None:
    lines = compiled.log(
        'xlog("$cfg(route)");\nxlog("$cfg(line)"); route(NEXT);', more='route[NEXT] { xlog("$cfg(route)"); }'
    )
    assert lines[::2] == ["DEFAULT_ROUTE", "NEXT"]
    assert compiled.log('\nxlog("$cfg(line)");') == [str(int(lines[1]))]
    assert compiled.log('xlog("$cfg(name)");') == ["script.cfg"]
