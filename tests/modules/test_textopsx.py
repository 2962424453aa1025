from __future__ import annotations

from typing import Any


def test_edits_and_the_request_uri_become_the_message(compiled: Any) -> None:
    once = 'append_hf("X-New: 1\\r\\n"); msg_apply_changes();'
    body = f'$ru = "sip:new@h"; {once} {once}'
    assert compiled.value("$ru $ou $hdrc(X-New)", body) == "sip:new@h sip:new@h 2"


def test_edits_that_make_no_message_change_nothing(compiled: Any) -> None:
    lines = compiled.log('remove_hf("Call-ID"); if (!msg_apply_changes()) xlog("no"); xlog("$ci");')
    assert lines[1:] == ["no", "abc@pc33"]
    assert lines[0].startswith("msg_apply_changes: the edits make the message unreadable")


def test_headers_that_are_not_needed_are_removed(compiled: Any) -> None:
    assert compiled.value("$hdrc(X-A) $hdrc(User-Agent) $ci", "keep_hf(); msg_apply_changes();") == "0 0 abc@pc33"
    assert compiled.value("$hdrc(X-A) $hdrc(User-Agent)", 'keep_hf("^x-a$"); msg_apply_changes();') == "2 0"


def test_a_bad_expression_is_an_error(compiled: Any) -> None:
    assert "bad regular expression" in compiled.fault('keep_hf("(");')
