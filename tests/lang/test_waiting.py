"""Variables that wait: scripts that read them mean the same as with variables that are at hand."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sipwright.lang.compiler import compile_script
from sipwright.lang.namespace import RouteKind, Variable
from sipwright.lang.unit import Unit
from sipwright.lang.waiting import waiting_variable
from tests.lang.conftest import FakeContext, FakeNamespace

Compile = Callable[..., Any]
HERE = Path(__file__).parent

# Statements with `$V` in each place where a variable can stand, the ones that are not reached too.
STATEMENTS = """
$var(x) = $V(a);
$var(x) = $V(a) + $V(c) * $V(a) - 1;
$var(x) = $V(b) + $V(a);
$var(x) = "a" + $V(nothing);
$var(x) = $V(c) / $V(a);
$var(x) = $V(c) / $V(nothing);
$var(x) = -$V(a) + ~$V(c);
$var(x) = strlen($V(b)) + (str)$V(a);
$var(x) = defined $V(a) && defined $V(nothing) || strempty($V(nothing));
$var(x) = $V(a) << $V(c);
$var(x) = $V(V$V(a));
$var(x) = $V($V($V(text)));
$var(x) = $(V(b){s.len});
$var(x) = $(V(b){s.params,$V(a),x$V(c)}{s.upper});
$var(x) = $(ru{s.params,$V(a)});
$var(x) = $(V($V(b)){s.len});
$var($V(a)) = 5; $var(x) = $var($V(a));
$var(x) = $(said($V(c))[$V(a)]);
$V(new) = $V(a);
$V($V(a)) = $V(c) / 2;
$V($V(a)) = $V(c) / $V(nothing);
$V($V(b)) = $null; $var(x) = $V(text);
if ($V(a) == 1 && $V(c) == 4 && $V(b) == "never") log("no"); else log("yes");
if ($V(a) == 1 || $V(b) == "never") log("yes");
if (!($V(a) == 2 || $V(b) == "text") || $V(c) > 2) log("yes");
if ($V(a)) log("yes");
if ($V(b)) log("no");
if ($V(nothing)) log("no"); else log("yes");
if ($V(a) == $V(a)) log("yes");
if ($V(b) =~ "^T" && $V(b) =~ $V(b)) log("yes");
if ($V(b) == $null || $V(nothing) == $null) log("yes");
if ($V(b) eq $V(text) || $V(a) ne $V(c)) log("yes");
if ($V(a) == "1") log("yes");
if ($V(b) == 10.0.0.0/8) log("no");
if (uri == myself && $V(b) == myself) log("no");
if (fail() && $V(a) == 1) log("no");
if ($V(a) == 1 && fail() && $V(c) == 3) log("no");
if ($V(a) == 2 || code($V(c)) || $V(b) == "never") log("yes");
if ($V(a) == 1 && end() && $V(c) == 3) log("no");
if ($V(a) + code($V(c)) > $V(a) + code(-1)) log("yes");
if (code($V(a)) == $V(a) && !fail()) log("yes");
switch ($V(b)) { case "no": log("no"); break; case "text": log($V(a)); case "more": log("more"); }
switch ($V(a)) { case 1: $var(x) = $V(c); break; default: log("no"); }
switch ($V(b)) { case /"^t": if ($V(a) == 1) break; log("no"); }
while ($V(a) < 4) { $V(a) = $V(a) + 1; if ($V(a) == $V(c)) break; }
while ($V(a) < 3 && code($V(a))) $V(a) = $V(a) + 1;
log("$V(a) and $V(b), $V(nothing)");
log($V(b));
log("$V(b)");
log($V(a) + 1);
log("$(V(nothing){s.null})");
log($(V(nothing){s.null}));
lazy_log("$V(a) and $V($V(b))");
lazy_log($V(a));
lazy_log($V(a) == 1 && $V(c) == 2 && $V(b) == "never");
lazy_log("$(V(b){s.params,$V(a)})");
reply("20$V(a)", "$V(b)");
reply($V(c) * 100 + $V(a), $V(b));
if (!reply($V(b))) log("bad");
search($V(b));
search("$V(b)");
send_json("$V(b)!");
is_set($V(a)); if (!is_set("$V(nothing)")) log("missing");
append($V(a), "x"); log($V(a));
t_on_failure("F$V(a)");
t_on_failure($V(R));
route($V(R));
route("D$V(R)");
route(DONE); log($V(a));
level_log("loud", "$V(a) and $V(b)");
level_log("quiet", "nothing");
wait("$V(a)"); wait($V(b));
request("get $V(a)", "DONE", "$var(x)");
return $V(c);
return $V(a) == 1 && $V(c) == 2;
return code($V(c));
if ($V(a) == 1) { $var(x) = $V(c); exit; } log("no");
"""
SCRIPT = 'request_route {{ {} }}\nroute[DONE] {{ log("done $V(a)"); return $V(c); }}\nfailure_route[F1] {{ exit; }}\n'


@pytest.mark.parametrize("statements", [line for line in STATEMENTS.splitlines() if line])
def test_a_script_does_the_same_with_a_variable_that_waits(script: Compile, statements: str) -> None:
    results = []
    for name in ("near", "far"):
        compiled = script(SCRIPT.format(statements).replace("V(", name + "("))
        did = compiled.run()
        context = compiled.context
        results.append((did, compiled.code, context.vars, context.table, compiled.reports, context.dropped))
    assert results[0] == results[1]
    assert compiled.program.routes[RouteKind.REQUEST, ""].suspends == ("quiet" not in statements)


def test_what_is_not_evaluated_is_not_fetched(script: Compile) -> None:
    compiled = script("request_route { if ($far(a) == 2 && $far(b) == 1) exit; $var(x) = $far(c) == 3 || $far(b); }")
    assert compiled.run() == ["read a", "read c"]


def test_text_that_a_function_does_not_want_is_not_fetched(script: Compile) -> None:
    assert script('request_route { level_log("quiet", "$far(a)"); }').run() == []
    assert script('request_route { $var(l) = "loud"; level_log($var(l), "$far(a)"); }').run() == ["read a", "1"]


def test_the_name_of_what_a_function_writes_to_is_fetched_but_its_value_is_not(script: Compile) -> None:
    compiled = script('request_route { request("m", "R", "$far($far(a))"); }\nroute[R] { exit; }')
    assert compiled.run() == ["read a", ("request", "m", "R"), "write 1"]


def test_what_a_function_reads_and_writes_is_fetched_before_it(script: Compile) -> None:
    compiled = script('request_route { append($far($far(a)), "$far(b)"); }')
    assert compiled.run() == ["read a", "read 1", "read b", "write 1"]
    assert compiled.context.table["1"] == "onetext"


def test_routes_that_wait_are_coroutines_and_so_is_who_calls_them(script: Compile) -> None:
    routes = script(
        "request_route { route(A); }\nroute[A] { $far($far(x)) = 1; }\nroute[B] { log($near(a)); }\n"
        'route[C] { lazy_log("$far(a)"); }\nroute[D] { $far(x) = 1; }\nroute[E] { is_set($far(a)); }\n'
        'route[F] { request("m", "A", "$far(x)"); }\nroute[G] { route("$far(a)"); }\n'
        'route[H] { switch ($rm) { case "x": while ($rm == "y") { return $far(a); } } }'
    ).program.routes
    assert {name: route.suspends for (_kind, name), route in routes.items()} == {
        "": True,
        "A": True,
        "B": False,
        "C": True,
        "D": False,  # writing does not wait
        "E": True,
        "F": False,
        "G": True,
        "H": True,
    }


def test_a_function_that_runs_a_route_waits_for_it(script: Compile) -> None:
    compiled = script(
        'request_route { run_route(A); log("$rc"); if (run_route(B)) log("yes"); }\n'
        "route[A] { return $far(c); }\nroute[B] { return 1; }\nfailure_route[F] { run_route(B); }\n"
    )
    assert compiled.run() == ["read c", "3", "yes"]
    # Which one is run is not looked at: with the names of routes it may be any of them.
    assert compiled.program.routes[RouteKind.FAILURE, "F"].suspends


def test_two_messages_that_wait_at_the_same_place_do_not_see_each_other(script: Compile) -> None:
    route = script('request_route { lazy_log("$far(a) $far(b) $far($far(c))"); }').program.routes[RouteKind.REQUEST, ""]
    contexts = [FakeContext() for _ in range(3)]
    for number, context in enumerate(contexts):
        context.table = {"a": number, "b": "of", "c": "d", "d": number}

    async def run_all() -> None:
        await asyncio.gather(*[route.run(context) for context in contexts])

    asyncio.run(run_all())
    assert [context.did[-1] for context in contexts] == ["0 of 0", "1 of 1", "2 of 2"]


def test_a_function_that_reads_what_it_declared_to_write_only_is_told_so() -> None:
    async def fetch(_context: Any) -> str:
        return "value"

    variable = waiting_variable("$far(a)", fetch)
    context = FakeContext()
    with pytest.raises(RuntimeError, match=r"\$far\(a\) was read before it was fetched"):
        variable.get(context)
    assert variable.keep is not None
    asyncio.run(variable.keep(context))  # type: ignore[arg-type]
    assert variable.get(context) == "value"
    with pytest.raises(RuntimeError, match="before it was fetched"):
        Variable.waiting("$far(a)", fetch).get(context)


def test_a_fault_of_a_transformation_is_found_on_a_variable_that_waits_too(faults: Callable[..., Any]) -> None:
    (fault,) = faults("request_route { log($(far(a){s.lenn})); }")
    assert (fault.message, fault.suggestion) == ("unknown transformation s.lenn", "s.len")


def test_scripts_without_such_variables_are_compiled_to_what_they_always_were(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[str] = []
    define = Unit.define

    def record(unit: Unit, function: Any, *arguments: Any) -> Any:
        made = define(unit, function, *arguments)
        emitted.append(ast.dump(ast.parse(ast.unparse(function))))
        return made

    monkeypatch.setattr(Unit, "define", record)
    compile_script((HERE / "emitted.cfg").read_text(), FakeNamespace(), "test.cfg")
    expected = ast.parse((HERE / "emitted.txt").read_text()).body
    assert emitted == [ast.dump(ast.Module([function], [])) for function in expected]
