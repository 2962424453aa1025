from __future__ import annotations

from typing import Any


def test_flags_of_script_and_branch(compiled: Any) -> None:
    assert compiled.value("$sf $bf $bF", "setsflag(3); setbflag(2); setbflag(0); resetbflag(0);") == "8 4 00000004"
    assert compiled.is_true("issflagset(3)", "isbflagset(3)", body="setsflag(3);") == [True, False]
    assert "a flag is a number" in compiled.fault("setbflag(-1);")


def test_the_destination(compiled: Any) -> None:
    assert compiled.value("$du", 'setdsturi("sip:1.1.1.1");') == "sip:1.1.1.1"
    assert compiled.is_true("isdsturiset()", body='$du = "sip:h"; resetdsturi();') == [False]
    assert compiled.is_true("isdsturiset()", body='$du = "sip:h";') == [True]


def test_this_server_knows_its_addresses(compiled: Any) -> None:
    conditions = [
        f'is_myself("{uri}")'
        for uri in ("sip:127.0.0.1", "sip:a@127.0.0.1:5060", "127.0.0.1:5060", "$ru", "sip:127.0.0.1:9")
    ]
    assert compiled.is_true(*conditions) == [True, True, True, False, False]


def test_counters_are_read_by_name(load: Any) -> None:
    script = load("kex")
    assert [script.get("stat", name) for name in ("rcv_requests", "core:rcv_requests", "nope")] == [7, 7, None]


def test_the_level_of_the_log_is_set_and_reset(load: Any) -> None:
    script = load("xlog", "kex")
    script.call("setdebug", -1)
    script.call("xinfo", "off")
    script.call("resetdebug")
    script.call("xinfo", "on")
    assert script.services.lines == [("INFO", "<script>: on")]
