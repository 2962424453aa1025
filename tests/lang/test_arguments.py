"""How arguments reach functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Body = Callable[..., list[Any]]
Compile = Callable[..., Any]


@pytest.mark.parametrize(
    ("statement", "done"),
    [
        ('reply(200, "OK");', [("reply", 200, "OK")]),
        ("reply(404);", [("reply", 404)]),
        ('reply("486");', [("reply", 486)]),
        ('reply("4$var(n)", "n $var(n)");', [("reply", 48, "n 8")]),
        ("reply($var(n));", [("reply", 8)]),
        ("reply($var(n) * 100 + 4);", [("reply", 804)]),
        ('log("a" + $var(n) + $rm);', ["a8OPTIONS"]),
        ("log($var(n) == 8);", ["1"]),
        ("log(5);", ["5"]),
        ("log(10.0.0.1);", ["10.0.0.1"]),
        ('lazy_log("a $var(n) b");', ["a 8 b"]),
        ('lazy_log("a" + $var(n));', ["a8"]),
        ("lazy_log($var(n));", ["8"]),
        ("lazy_log(7);", ["7"]),
        ('lazy_log("");', [""]),
        ("setflag(FLT_NAT);", [("setflag", "FLT_NAT")]),
        ("setflag(3);", [("setflag", "3")]),
        ('send_json("{$var(n)}");', [("send_json", "{8}")]),
        ("anywhere;", [("anywhere",)]),
    ],
)
def test_arguments(body: Body, statement: str, done: list[Any]) -> None:
    assert body("$var(n) = 8; " + statement) == done


def test_regular_expressions_are_compiled_at_load_and_keep_their_dollars(body: Body) -> None:
    assert body('if (search("^SIP:bob@.*\\.com$")) log("found");') == ["found"]
    assert body('$var(p) = "bob"; if (search("$var(p)@")) log("found");') == ["found"]


def test_an_argument_that_turns_out_wrong_makes_the_call_minus_1_and_is_reported(script: Compile) -> None:
    compiled = script(
        'request_route {\n  $var(x) = "abc";\n'
        '  if (!reply($var(x))) log("no");\n  if (!send_json("a! $rm")) log("no");\n}\n'
    )
    assert compiled.run() == ["no", "no"]
    assert compiled.reports == [
        "test.cfg:3: reply: expected an integer, found 'abc'",
        "test.cfg:4: send_json: unexpected '!'",
    ]


def test_a_function_gets_the_variable_that_it_writes_to(script: Compile) -> None:
    text = 'request_route { request("m", "R", "$var(result)"); }\nroute[R] { log("$var(result)"); }\n'
    compiled = script(text)
    assert compiled.run() == [("request", "m", "R")]
    assert compiled.context.vars == {"result": "result of m"}
    compiled = script(text.replace('"$var(result)");', "$var(result));"))
    compiled.run()
    assert compiled.code == 0


def test_names_of_routes_may_be_words_strings_or_computed(script: Compile) -> None:
    text = """
    request_route {
      t_on_failure("MANAGE"); t_on_failure(MANAGE);
      $var(n) = "MANAGE"; t_on_failure("$var(n)"); t_on_failure($var(n)); t_on_failure("MAN" + "AGE");
      if (!t_on_failure("NO$var(n)")) log("unknown");
    }
    failure_route[MANAGE] { ; }
    """
    known = ("t_on_failure", "MANAGE")
    assert script(text).run() == [known] * 5 + [("t_on_failure", None), "unknown"]


def test_optional_arguments_that_are_not_given_are_not_passed(body: Body) -> None:
    assert body("reply(100);") == [("reply", 100)]


def test_a_constant_argument_is_checked_by_what_its_module_knows(body: Body, faults: Compile) -> None:
    assert body('$var(x) = "other"; ask("service", ""); ask("$var(x)", "");') == [
        ("ask", "service", ""),
        ("ask", "other", ""),
    ]
    (error,) = faults('request_route { ask("servce", ""); }\n')
    assert (error.column, error.message, error.suggestion) == (
        22,
        "argument 1 (checked0) of ask: there is no servce",
        "service",
    )


def test_a_route_that_is_named_inside_an_argument_must_exist(script: Compile, faults: Compile) -> None:
    text = 'request_route { ask("service", "a >REPLY"); }\nroute[REPLY] { reply(200); }\n'
    assert script(text).run() == [("ask", "service", "a >REPLY")]
    (error,) = faults(text.replace(">REPLY", ">REPLI"))
    assert (error.line, error.column, error.message, error.suggestion) == (
        1,
        36,
        "route[REPLI] is not defined",
        "REPLY",
    )


def test_a_route_that_is_named_inside_an_argument_is_one_that_is_reached(faults: Compile) -> None:
    (error,) = faults('onreply_route { ask("service", ">LATER"); }\nroute[LATER] { relay(); }\nrequest_route { ; }\n')
    assert error.message.startswith("relay cannot be called from onreply_route, which is what leads to route[LATER];")
