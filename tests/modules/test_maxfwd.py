"""Results as Kamailio 5.6.3 gives them."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.testing.script import sip_request


def request(max_forwards: str | None) -> bytes:
    data = sip_request()
    line = b"Max-Forwards: 70\r\n"
    assert line in data
    return data.replace(line, b"" if max_forwards is None else f"Max-Forwards: {max_forwards}\r\n".encode())


@pytest.mark.parametrize(
    ("value", "result", "after"),
    [("0", "-1", "0"), ("5", "1", "4"), ("200", "1", "70"), (None, "2", "10")],
)
def test_hops_are_counted(compiled: Any, value: str | None, result: str, after: str) -> None:
    body = 'mf_process_maxfwd_header("10"); $var(rc) = $rc; msg_apply_changes();'
    assert compiled.value("$var(rc) $hdr(Max-Forwards)", body, request(value)) == f"{result} {after}"


def test_a_hop_is_counted_once(compiled: Any) -> None:
    body = 'mf_process_maxfwd_header("10"); mf_process_maxfwd_header("10"); msg_apply_changes();'
    assert compiled.value("$hdr(Max-Forwards) $hdrc(Max-Forwards)", body, request("5")) == "4 1"


def test_hops_left_are_compared(compiled: Any) -> None:
    assert compiled.value("$rc", 'is_maxfwd_lt("5");', request("4")) == "1"
    assert compiled.value("$rc", 'is_maxfwd_lt("5");', request("5")) == "-1"
    assert compiled.value("$rc", 'is_maxfwd_lt("5");', request(None)) == "-2"


def test_a_limit_is_an_integer(compiled: Any) -> None:
    assert "expected an integer" in compiled.fault('mf_process_maxfwd_header("ten");')
