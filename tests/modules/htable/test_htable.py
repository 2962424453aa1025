"""Sequences and their results were observed on Kamailio 5.6.3, but where a test says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import RouteKind
from sipwright.testing import ScriptDriver, sip_request
from tests.modules.conftest import FakeServices, Script

TABLES = [
    ("htable", "htable", "a=>size=4;"),
    ("htable", "htable", "b=>size=4;initval=10"),
    ("htable", "htable", "c=>size=4;autoexpire=100"),
    ("htable", "htable", "d=>size=4;autoexpire=100;updateexpire=0"),
]


@pytest.fixture
def script(load: Any) -> Any:
    return load("pv", "htable", params=TABLES)


def fill(script: Any) -> None:
    for key, value in [("aa", "v1"), ("ab", "v2"), ("bb", "v1"), ("num", 7), ("n2", 9)]:
        script.set("sht", f"c=>{key}", value)


def test_values_are_kept_and_null_deletes(script: Any) -> None:
    script.set("sht", "a=>x", "text")
    assert script.get("sht", "a=>x") == "text"
    script.set("sht", "a=>x", None)
    assert script.get("sht", "a=>x") is None
    assert script.get("sht", "b=>nope") == 10


def test_keys_may_have_variables(script: Any) -> None:
    path = ["a=>", script.variable("ci"), "::src"]
    script.set("sht", path, 1)
    assert script.get("sht", "a=>abc@pc33::src") == 1


def test_increment_and_decrement(script: Any) -> None:
    assert [script.get("shtinc", "a=>x"), script.get("sht", "a=>x")] == [None, None]
    assert [script.get("shtinc", "b=>x"), script.get("sht", "b=>x")] == [11, 11]
    script.set("sht", "a=>s", "5")
    assert script.get("shtinc", "a=>s") is None
    script.set("sht", "a=>i", 5)
    assert [script.get("shtinc", "a=>i"), script.get("shtdec", "a=>i"), script.get("shtdec", "a=>i")] == [6, 5, 4]


def test_items_expire_and_updates_renew_them_or_not(script: Any) -> None:
    script.set("sht", "c=>k", 1)
    script.set("sht", "d=>k", 1)
    assert script.get("shtex", "c=>k") == 100
    script.services.fake_clock.advance(60)
    script.set("sht", "c=>k", 2)
    script.set("sht", "d=>k", 2)
    assert [script.get("shtex", "c=>k"), script.get("shtex", "d=>k")] == [100, 40]
    script.services.fake_clock.advance(40.5)
    assert [script.get("sht", "c=>k"), script.get("sht", "d=>k")] == [2, None]


def test_the_moment_can_be_set_where_the_table_expires(script: Any) -> None:
    script.set("sht", "c=>k", 1)
    script.set("shtex", "c=>k", 7)
    script.set("sht", "a=>k", 1)
    script.set("shtex", "a=>k", 7)
    assert [script.get("shtex", "c=>k"), script.get("shtex", "a=>k"), script.get("shtex", "c=>no")] == [7, 0, 0]
    script.services.fake_clock.advance(8)
    assert [script.get("sht", "c=>k"), script.get("sht", "a=>k")] == [None, 1]


def test_an_item_can_be_told_never_to_expire(script: Any) -> None:
    script.set("sht", "c=>k", 1)
    script.set("shtex", "c=>k", 0)
    script.services.fake_clock.advance(500)
    assert script.get("sht", "c=>k") == 1


def test_event_routes_run_at_the_start_and_for_what_expired(script: Any) -> None:
    seen = []
    script.services.run_event_route = lambda name, extra=None: seen.append((name, extra))
    script.set("sht", "c=>k", 1)
    script.services.fake_clock.advance(140)
    assert seen == [("htable:expired:c", {"htable:expired": ("k", 1)})]
    assert "htable:expired:d" in list(script.registry.event_routes())


def test_the_event_route_of_the_start_runs_once_for_all_workers() -> None:
    script, workers = Script("htable"), [FakeServices() for _ in range(3)]
    for services in workers:
        services.shared_store = workers[0].shared_store
        services.routes[RouteKind.EVENT, "htable:mod-init"] = object()
        script.registry.child_init(services)  # type: ignore[arg-type]
    assert [services.event_routes for services in workers] == [["htable:mod-init"], [], []]


def test_no_store_is_opened_without_a_table_or_an_event_route() -> None:
    script, services = Script("htable"), FakeServices()
    opened: list[str] = []
    services.shared_store = opened.append
    script.registry.child_init(services)  # type: ignore[arg-type]
    assert opened == []


def test_the_event_route_of_the_start_has_run_before_the_first_message() -> None:
    driver = ScriptDriver(
        """
        loadmodule "sl.so"
        loadmodule "pv.so"
        loadmodule "htable.so"
        modparam("htable", "htable", "t=>size=4")
        event_route[htable:mod-init] { $sht(t=>k) = $sht(t=>k) + "x"; }
        request_route { sl_send_reply("200", "$sht(t=>k)"); }
        """
    )
    assert [reply.reason for reply in driver.receive(sip_request())] == ["x"]


def test_the_item_that_expired_is_there_after_a_suspension_too() -> None:
    driver = ScriptDriver(
        """
        loadmodule "tm.so"
        loadmodule "pv.so"
        loadmodule "xlog.so"
        loadmodule "jsonrpc.so"
        modparam("jsonrpc", "servers", "localhost:9999,1")
        loadmodule "htable.so"
        modparam("htable", "htable", "c=>size=4;autoexpire=1")
        request_route {
            $sht(c=>k) = "v";
            xlog("$shtrecord(key)");
        }
        event_route[htable:expired:c] {
            jsonrpc_call("m", "[]", "$var(x)");
            xlog("$shtrecord(key) $shtrecord(value)");
        }
        """,
        rpc={"m": 1},
    )
    driver.receive(sip_request())
    driver.advance(41)
    assert [line.removeprefix("<script>: ") for line in driver.log] == ["<null>", "k v"]


def test_keys_and_values_are_counted(script: Any) -> None:
    fill(script)
    names = {"**": 5, "==aa": 1, "^A": 2, "~~^a": 2, "%~a": 2, "~%b": 2, "~=^a": 0}
    assert {pattern: script.get("shtcn", f"c=>{pattern}") for pattern in names} == names
    values = {"**": 5, "==v1": 2, "v1": 2, "~~^v": 3, "eq7": 1, "7": 0}
    assert {pattern: script.get("shtcv", f"c=>{pattern}") for pattern in values} == values


def test_items_are_found_by_name_and_value(script: Any) -> None:
    fill(script)
    assert script.call("sht_has_name", "c", "eq", "aa") == 1
    assert script.call("sht_match_name", "c", "sw", "z") == -1
    assert script.call("sht_has_name", "c", "re", "^n") == 1
    assert script.call("sht_has_str_value", "c", "eq", "v2") == 1
    assert script.call("sht_has_name", "nope", "eq", "aa") == -1
    with pytest.raises(ArgumentError, match="unknown operator 'xx'; operators are eq, ne, sw, ew, in, re"):
        script.call("sht_has_name", "c", "xx", "aa")


def test_items_are_deleted_by_key_name_and_value(script: Any) -> None:
    fill(script)
    assert script.call("sht_rm", "c", "aa") == 1
    assert script.call("sht_rm_name_re", "c=>^a") == 1
    assert [key for key, _ in script.module("htable").tables["c"].store.items()] == ["bb", "num", "n2"]
    assert script.call("sht_rm_value_re", "c=>^v") == 1
    assert script.call("sht_rm_name", "c", "sw", "nu") == 1
    assert [key for key, _ in script.module("htable").tables["c"].store.items()] == ["n2"]
    assert script.call("sht_reset", "c") == 1
    assert script.get("shtcn", "c=>**") == 0
    assert script.call("sht_reset", "nope") == -1


def test_a_table_can_be_walked_through(script: Any) -> None:
    fill(script)
    assert script.call("sht_iterator_start", "i", "c") == 1
    found = {}
    while script.call("sht_iterator_next", "i") == 1:
        found[script.get("shtitkey", "i")] = script.get("shtitval", "i")
    assert found == {"aa": "v1", "ab": "v2", "bb": "v1", "num": 7, "n2": 9}
    assert script.call("sht_iterator_end", "i") == 1
    assert script.get("shtitkey", "i") is None
    assert script.call("sht_iterator_start", "i", "nope") == -1


def test_an_iterator_goes_on_from_what_it_deletes(script: Any) -> None:
    for key in ("aa", "ab", "ac"):
        script.set("sht", f"c=>{key}", 1)
    script.call("sht_iterator_start", "i", "c")
    assert script.call("sht_iterator_rm", "i") == -1
    script.call("sht_iterator_next", "i")
    assert [(script.call("sht_iterator_rm", "i"), script.get("shtitkey", "i")) for _ in range(3)] == [
        (1, "ab"),
        (1, "ac"),
        (-2, None),
    ]
    assert script.get("shtcn", "c=>**") == 0


def test_an_iterator_changes_the_item_where_it_is(script: Any) -> None:
    script.set("sht", "c=>k", "v")
    script.call("sht_iterator_start", "i", "c")
    assert [script.call("sht_iterator_seti", "i", 7), script.call("sht_iterator_setex", "i", 9)] == [-1, -1]
    script.call("sht_iterator_next", "i")
    assert script.call("sht_iterator_sets", "i", "neu") == 1
    assert [script.get("shtitval", "i"), script.get("sht", "c=>k")] == ["neu", "neu"]
    assert script.call("sht_iterator_seti", "i", 7) == 1
    assert [script.get("shtitval", "i"), script.get("sht", "c=>k")] == [7, 7]
    assert script.call("sht_iterator_setex", "i", 9) == 1
    assert script.get("shtex", "c=>k") == 9


def test_values_with_a_moment_of_their_own(script: Any) -> None:
    assert script.call("sht_setxs", "c", "k", "text", 5) == 1
    assert script.call("sht_setxi", "c", "n", 6, 5) == 1
    assert [script.get("sht", "c=>k"), script.get("sht", "c=>n"), script.get("shtex", "c=>k")] == ["text", 6, 5]


def test_a_lock_is_of_a_key_of_a_table_that_there_is(compiled: Any) -> None:
    before = 'loadmodule "htable.so"\nmodparam("htable", "htable", "c=>size=4")'
    body = """
        sht_lock("c=>$rU"); xlog("$rc"); sht_lock("c=>$rU"); xlog("$rc");
        sht_unlock("c=>$rU"); xlog("$rc"); sht_unlock("c=>$rU"); xlog("$rc");
        sht_unlock("c=>$rU"); xlog("$rc");
        sht_lock("nope=>k"); xlog("$rc"); sht_unlock("nope=>k"); xlog("$rc");
    """
    assert compiled.log(body, before=before) == ["1", "1", "1", "1", "1", "-1", "-1"]


@pytest.mark.parametrize(
    ("inner", "message", "suggestion"),
    [
        ("cc=>x", "unknown table 'cc'", "c"),
        ("c", "expected table=>key", None),
        ("c=>", r"\$sht needs a key behind '=>'", None),
        (None, "expected table=>key", None),
    ],
)
def test_wrong_uses_are_errors(script: Any, inner: str | None, message: str, suggestion: str | None) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        script.get("sht", inner)
    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("c", "a table is defined as", 1),
        ("c d=>size=4", "bad table name 'c d'", 0),
        ("c=>size=4;foo=1", "unknown key 'foo' of a table", 10),
        ("c=>autoexpire=x", "'autoexpire' is an integer, not 'x'", 14),
        ("c=>size=-1", "'size' cannot be negative", 8),
        ("c=>size=4;dbmode=1", "dbmode=1 needs a dbtable", 3),
        ("c=>dbmode=x", "'dbmode' is an integer, not 'x'", 10),
        ("c=>dbtable=", "'' is no name of a table or column", 11),
        ("c=>dbtable=t;cols='a'", "'cols' names the column of the keys and at least one of values", 18),
        ("c=>dbtable=t;cols='a,b]'", r"'b\]' is no name of a table or column", 18),
        ("c=>size=4;dmqreplicate=1", "not replicated by DMQ", 10),
    ],
)
def test_a_wrong_definition_is_an_error(load: Any, text: str, message: str, offset: int) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        load("htable", params=[("htable", "htable", text)])
    assert caught.value.offset == offset
