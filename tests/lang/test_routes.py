"""Route blocks: kinds, calls of one another, coroutines, tracebacks."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from sipwright.lang.namespace import RouteKind

Compile = Callable[..., Any]
Faults = Callable[..., Any]

ALL_KINDS = """
request_route { log("request"); }
route[A] { log("a"); }
route[1] { log("one"); }
failure_route[F] { log("failure"); }
onreply_route { log("any reply"); }
onreply_route[R] { log("reply"); }
branch_route[B] { log("branch"); }
onsend_route { log("send"); }
event_route[fake:start] { log("event"); }
"""


def test_every_kind_of_route_is_found_by_kind_and_name(script: Compile) -> None:
    compiled = script(ALL_KINDS)
    assert {(kind.name, name): compiled.run(kind, name) for kind, name in compiled.program.routes} == {
        ("REQUEST", ""): ["request"],
        ("REQUEST", "A"): ["a"],
        ("REQUEST", "1"): ["one"],
        ("FAILURE", "F"): ["failure"],
        ("ONREPLY", ""): ["any reply"],
        ("ONREPLY", "R"): ["reply"],
        ("BRANCH", "B"): ["branch"],
        ("ONSEND", ""): ["send"],
        ("EVENT", "fake:start"): ["event"],
    }
    assert compiled.program.find(RouteKind.FAILURE, "NO") is None


@pytest.mark.parametrize("keyword", ["request_route", "route"])
def test_the_main_route_has_two_names(script: Compile, keyword: str) -> None:
    assert script(keyword + ' { log("a"); }\n').run() == ["a"]


def test_reply_route_is_onreply_route_without_a_name(script: Compile) -> None:
    compiled = script('request_route { ; }\nreply_route { log("a"); }\n')
    assert compiled.run(RouteKind.ONREPLY) == ["a"]


def test_drop_marks_the_context_and_ends_the_script(script: Compile) -> None:
    compiled = script('request_route { route(A); log("no"); }\nroute[A] { drop; }\n')
    assert compiled.run() == []
    assert (compiled.context.dropped, compiled.code) == (True, 0)


def test_exit_in_a_called_route_ends_the_script(script: Compile) -> None:
    compiled = script('request_route { if (route(A)) log("no"); log("no"); }\nroute[A] { exit(); }\n')
    assert (compiled.run(), compiled.code, compiled.context.dropped) == ([], 0, False)


def test_return_of_a_call_gives_its_code(script: Compile) -> None:
    compiled = script('request_route { if (!route(A)) log("false"); }\nroute[A] { return is_method("INVITE"); }\n')
    assert compiled.run() == ["false"]


def test_routes_call_themselves(script: Compile) -> None:
    compiled = script(
        "request_route { $var(n) = 3; route(A); }\n"
        'route[A] { log("$var(n)"); $var(n) = $var(n) - 1; if ($var(n) > 0) route(A); }\n'
    )
    assert compiled.run() == ["3", "2", "1"]


def test_a_computed_name_of_no_route_is_reported_and_false(script: Compile) -> None:
    compiled = script('request_route { $var(n) = "NO"; if (!route("$var(n)")) log("false"); }\n')
    assert compiled.run() == ["false"]
    assert compiled.reports == ["test.cfg:1: route: route[NO] is not defined"]


def test_routes_that_may_wait_become_coroutines_and_no_others(script: Compile) -> None:
    compiled = script("""
    request_route { route(A); log("end"); }
    route[A] { if (route(B)) log("waited"); }
    route[B] { $var(x) = 1; wait("$rm"); }
    route[C] { log("plain"); }
    failure_route[D] { $var(n) = "B"; route($var(n)); log("dynamic"); }
    failure_route[E] { $var(n) = "C"; route($var(n)); log("dynamic"); }
    """)
    suspends = {name or "request": route.suspends for (_kind, name), route in compiled.program.routes.items()}
    assert suspends == {"request": True, "A": True, "B": True, "C": False, "D": True, "E": True}
    assert compiled.run() == ["waited OPTIONS", "waited", "end"]
    assert compiled.run(RouteKind.FAILURE, "D") == ["waited OPTIONS", "dynamic"]
    assert compiled.run(RouteKind.FAILURE, "E") == ["plain", "dynamic"]


def test_without_waiting_functions_nothing_is_a_coroutine(script: Compile) -> None:
    compiled = script("request_route { route($var(n)); }\nroute[A] { ; }\n")
    assert not any(inspect.iscoroutinefunction(route.run) for route in compiled.program.routes.values())


def test_a_condition_may_wait(script: Compile) -> None:
    compiled = script('request_route { while ($var(i) < 2 && wait("$var(i)")) { $var(i) = $var(i) + 1; } }\n')
    assert compiled.run() == ["waited 0", "waited 1"]


def test_a_function_that_may_wait_ends_the_script_with_0(script: Compile) -> None:
    compiled = script('request_route { if (wait("a") && end()) log("no"); else log("no"); log("no"); }\n')
    assert compiled.run() == ["waited a", ("end",)]


def test_tracebacks_show_the_file_line_and_route_of_the_script(script: Compile) -> None:
    compiled = script(
        "request_route {\n  $var(x) = 1;\n  if ($var(x) == 1) {\n    route(DEEP);\n  }\n}\n"
        "route[DEEP] {\n  anywhere();\n}\n"
    )
    compiled.context.did = None
    with pytest.raises(AttributeError) as caught:
        compiled.program.request_route.run(compiled.context)
    frames = [f for f in traceback.extract_tb(caught.value.__traceback__) if f.filename == "test.cfg"]
    assert [(frame.lineno, frame.name) for frame in frames] == [(4, "request_route"), (8, "route[DEEP]")]


def test_an_awaited_call_has_its_line_too(script: Compile) -> None:
    compiled = script('request_route {\n  log("a");\n  wait(\n    "b");\n}\n')
    compiled.context.did = None
    with pytest.raises(AttributeError) as caught:
        asyncio.run(compiled.program.request_route.run(compiled.context))
    assert [f.lineno for f in traceback.extract_tb(caught.value.__traceback__) if f.filename == "test.cfg"] == [2]


def test_functions_are_checked_against_the_routes_that_lead_to_them(faults: Faults) -> None:
    errors = faults(
        "request_route { route(BOTH); in_event(); }\n"
        "onreply_route[X] { relay(); route(BOTH); route(ONLY); }\n"
        "route[BOTH] { relay(); }\nroute[ONLY] { route(DEEPER); }\nroute[DEEPER] { reply(200); }\n"
        'failure_route[F] { request("m", "NEXT", "$var(x)"); }\nroute[NEXT] { in_event(); }\n'
        "route[FREE] { in_event(); }\n"
    )
    assert [(e.line, e.message.split(";")[0]) for e in errors] == [
        (1, "in_event cannot be called from request_route"),
        (2, "relay cannot be called from onreply_route"),
        (5, "reply cannot be called from onreply_route, which is what leads to route[DEEPER]"),
        (7, "in_event cannot be called from failure_route, which is what leads to route[NEXT]"),
    ]


def test_event_routes_that_nothing_runs_are_a_fault_if_they_look_mistyped_and_a_note_otherwise(
    script: Compile, faults: Faults
) -> None:
    errors = faults('request_route { ; }\nevent_route[fake:strat] { log("a"); }\n')
    assert [(e.line, e.column, e.suggestion) for e in errors] == [(2, 13, "fake:start")]
    compiled = script('request_route { ; }\nevent_route[http:open] { log("a"); }\n')
    assert compiled.program.notes == ["test.cfg:2: nothing runs event_route[http:open]"]


@pytest.mark.parametrize("keyword", ["route", "onreply_route"])
def test_the_route_0_is_the_one_without_a_name(script: Compile, keyword: str) -> None:
    text = "request_route { ; }\n" if keyword != "route" else ""
    program = script(f"{text}{keyword}[0] {{ log(1); }}\n").program
    kind = RouteKind.REQUEST if keyword == "route" else RouteKind.ONREPLY
    assert program.find(kind, "").name == ""
    assert program.find(kind, "0") is None
