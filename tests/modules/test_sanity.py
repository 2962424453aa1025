from __future__ import annotations

from typing import Any

import pytest

from sipwright.testing.script import sip_request

BODY = 'if (sanity_check("2023", "7")) xlog("good"); xlog("behind");'


def test_a_good_request_goes_on(compiled: Any) -> None:
    run = compiled.run(BODY)
    assert [run.log, run.replies] == [["<script>: good", "<script>: behind"], []]


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (sip_request(uri="http://example.org"), 416, "Unsupported URI Scheme"),
        (sip_request(headers={"Expires": "soon"}), 400, "Malformed Expires"),
        (sip_request(headers={"Proxy-Require": "foo, bar"}), 420, "Bad Extension"),
        (sip_request() + b"more", 400, "Content-Length mis-match"),
    ],
)
def test_a_bad_request_is_answered_and_the_script_ends(compiled: Any, data: bytes, status: int, reason: str) -> None:
    run = compiled.run(BODY, data)
    assert run.log == []
    assert [(reply.status, reply.reason) for reply in run.replies] == [(status, reason)]


def test_only_the_checks_that_are_asked_for_are_made(compiled: Any) -> None:
    body = 'if (sanity_check("512", "7")) xlog("good");'
    assert compiled.log(body, sip_request(headers={"Expires": "soon"})) == ["good"]


def test_option_tags_match_in_any_case(compiled: Any) -> None:
    before = 'modparam("sanity", "proxy_require", "Foo")'
    assert compiled.log(BODY, sip_request(headers={"Proxy-Require": "fOO"}), before=before) == ["good", "behind"]


def test_the_script_goes_on_after_a_bad_request_when_it_wants_to(compiled: Any) -> None:
    body = 'if (!sanity_check("2023", "7")) xlog("bad"); xlog("behind");'
    run = compiled.run(body, sip_request(headers={"Expires": "soon"}), before='modparam("sanity", "autodrop", 0)')
    assert run.log == ["<script>: bad", "<script>: behind"]
    assert [reply.status for reply in run.replies] == [400]


def test_extensions_that_are_not_understood_are_listed(compiled: Any) -> None:
    run = compiled.run(
        BODY,
        sip_request(headers={"Proxy-Require": "foo, bar"}),
        before='modparam("sanity", "proxy_require", "foo")',
    )
    assert run.replies[0].header("Unsupported") == "bar"


def test_the_answer_can_be_left_to_the_script(compiled: Any) -> None:
    run = compiled.run(
        'if (!sanity_check()) { xlog("bad"); sanity_reply(); }',
        sip_request(headers={"Expires": "soon"}),
        before='modparam("sanity", "noreply", 1)',
    )
    assert run.log == ["<script>: bad"]
    assert run.status == 400


def test_checks_are_integers(compiled: Any) -> None:
    assert "expected an integer" in compiled.fault('sanity_check("all");')
