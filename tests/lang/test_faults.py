"""What beginners get wrong: each mistake is told once, with its place and a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Faults = Callable[..., Any]


def body(statements: str) -> str:
    return f"request_route {{\n{statements}\n}}\n"


# Statements, and for each fault: line, column (the first line of the statements is 2), part of the message, suggestion.
MISTAKES: list[tuple[str, list[tuple[int, int, str, str | None]]]] = [
    ('log("a")\nlog("b");', [(2, 9, "';' is missing after log(...)", None)]),
    ('log("a") log("b")', [(2, 9, "';' is missing", None), (2, 18, "';' is missing", None)]),
    ("$var(x) = 1\n", [(2, 12, "';' is missing after the assignment", None)]),
    ("exit\n", [(2, 5, "';' is missing after exit", None)]),
    ('if (is_method("A") {\nlog("a");\n}', [(2, 19, "')' is missing for the '(' in column 4", None)]),
    ('log("a";', [(2, 8, "')' is missing", None)]),
    ('if ($var(x) = 3) log("a");', [(2, 13, "'=' assigns; to compare, write '=='", None)]),
    ('if $var(x) = 3 log("a");', [(2, 12, "'=' assigns; to compare, write '=='", None)]),
    ("$var(x) == 3;", [(2, 9, "'==' compares; to assign, write one '='", None)]),
    ("$var(x) += 3;", [(2, 9, "there is no operator '+='", "$var(x) = $var(x) + ...")]),
    ("$var(x) := 3;", [(2, 9, "there is no operator ':='", "$var(x) = ...")]),
    ('if ($var(x) === 3) log("a");', [(2, 15, "'==' compares; there is no '==='", None)]),
    ("x = 3;", [(2, 3, "'x' is no variable", None)]),
    ("$rm = 3;", [(2, 1, "$rm cannot be written to", None)]),
    ("$(ru{s.len}) = 3;", [(2, 1, "transformations cannot be assigned to", None)]),
    ("$def(X) = 3;", [(2, 1, "is not defined", None)]),
    ('lgo("a");', [(2, 1, "unknown function 'lgo'", "log")]),
    ('zzzzz("a");', [(2, 1, "unknown function 'zzzzz'", None)]),
    ("log();", [(2, 1, "log takes 1 argument, not 0", None)]),
    ("reply();", [(2, 1, "reply takes 1 or 2 arguments, not 0", None)]),
    ('anywhere("a");', [(2, 1, "anywhere takes no arguments, not 1", None)]),
    ('reply("abc");', [(2, 7, "argument 1 (integer0) of reply: expected an integer, found 'abc'", None)]),
    ("send_json(\"{'a': !}\");", [(2, 18, "argument 1 (json0) of send_json: unexpected '!'", None)]),
    ("log(INVITE);", [(2, 5, "a string is written in quotes", '"INVITE"')]),
    ('log("a" "b", );', [(2, 14, "an argument expected", None)]),
    ('reply(200 "OK");', [(2, 11, "',' or ')' expected between arguments", None)]),
    ('log("$rx");', [(2, 6, "unknown variable $rx", None)]),
    ('log("a $vra(x)");', [(2, 8, "unknown variable $vra", "var")]),
    ("log($(ru{s.lne}));", [(2, 10, "unknown transformation s.lne", "s.len")]),
    ('log("$(ru{s.len}");', [(2, 17, "')' expected to close '$('", None)]),
    ('log("cost: 5 $");', [(2, 14, "a dollar sign in a string is written '$$'", None)]),
    ("$var(x) = $;", [(2, 11, "a variable name must follow '$'", None)]),
    ('request("a", "NO", "$var(x)");', [(2, 14, "route[NO] is not defined", None)]),
    ("route(SOM);", [(2, 7, "route[SOM] is not defined", "SOME")]),
    ("route();", [(2, 1, "route() takes one argument", None)]),
    ('t_on_failure("SOME");', [(2, 14, "failure_route[SOME] is not defined", None)]),
    ('request("a", "SOME", "b");', [(2, 22, "argument 3 (variable2) of request is one writable variable", None)]),
    ('request("a", "SOME", "$rm");', [(2, 22, "$rm cannot be written to", None)]),
    ('if (relay) log("a");', [(2, 5, "relay is a function: it is called with ()", None)]),
    ('if ($var(x) == FLAG) log("a");', [(2, 16, "unknown word 'FLAG'", '"FLAG"')]),
    # What follows a fault is read again from the right place.
    ("if ($rx ===) { exit; } else { exit; }\nlgo(1);",
     [(2, 11, "'==' compares; there is no '==='", None), (3, 1, "unknown function", "log")]),
    ("x = { exit; } else { exit; }\nlgo(1);", [(2, 3, "'x' is no variable", None), (3, 1, "unknown function", "log")]),
    ("exti;", [(2, 1, "unknown function 'exti'", "exit")]),
    ("retrun;", [(2, 1, "unknown function 'retrun'", "return")]),
    ("$var(i)++;", [(2, 8, "there is no operator '++'", "$var(i) = $var(i) + 1")]),
    ("$avp(x)[2] = 1;", [(2, 8, "an index is written in the brackets", "$(avp(x)[2])")]),
    ('log("a" . $rm);', [(2, 9, "texts are joined with '+'", None)]),
    ('$var(x) = "a" . $rm;', [(2, 15, "texts are joined with '+'", None)]),
    ('log("{"a": 1}");', [(2, 8, "a quote inside of", None)]),
    ("log(\u201ca b\u201d);", [(2, 5, "a string is written in plain quotes", None)]),
    ("log(\u2018a b\u2019, 1);", [(2, 1, "log takes 1", None), (2, 5, "a string is written in plain quotes", None)]),
    ("log(\u201ca);", [(2, 5, "unexpected character", None), (2, 6, "a string is written in quotes", '"a"')]),
    ("log(\u00a71);", [(2, 5, "unexpected character", None)]),
    ('if (is_method("A")) { exit; } elseif ($rm) { exit; } else { exit; }\nlgo(1);',
     [(2, 31, "there is no 'elseif'", "else if"), (3, 1, "unknown function", "log")]),
    ("for ($var(i)=0; $var(i)<3; $var(i)=$var(i)+1) { log($rx); }\nlgo(1);",
     [(2, 1, "there is no 'for'", None), (3, 1, "unknown function", "log")]),
    ('if (is_method("A"))) { exit; }', [(2, 20, "this ')' closes nothing", None)]),
    ('switch ($rm) { case "A" exit; default lgo(1); }',
     [(2, 24, "':' is missing after case", None), (2, 38, "':' is missing after default", None),
      (2, 39, "unknown function", "log")]),
    ("log($rx); log($rx);\nlgo(1); lgo(1);\nlog($rx);\nlog(\"$rx\");",
     [(2, 5, "unknown variable $rx (also in lines 4 and 5)", None),
      (3, 1, "unknown function 'lgo'", "log")]),
    ("$cfg(word) = 1;", [(2, 1, "$cfg needs one of these in parentheses: name, line, route", None)]),
    ("if (@ == 3) exit;", [(2, 7, "the name of a select expected after '@'", None)]),
    ('if (!"abc") log("a");', [(2, 6, "'!' works on numbers", None)]),
    ('$var(x) = 3 * "abc";', [(2, 15, "'*' works on numbers", None)]),
    ("$var(x) = 3 / 0;", [(2, 15, "division by zero", None)]),
    ('if ($rm =~ "(") log("a");', [(2, 13, "bad regular expression", None)]),
    ('search("[a");', [(2, 9, "bad regular expression", None)]),
    ("log(code(1));", [(2, 5, "an argument cannot be the result of a function", None)]),
    ("route(code(1));", [(2, 7, "cannot be the result of a function", None)]),
    ("if (myself) exit;", [(2, 5, "'myself' can only be compared", None)]),
    ("if (uri + myself) exit;", [(2, 11, "'myself' can only be compared", None)]),
    ("if (src_ip > 10.0.0.0/8) exit;", [(2, 14, "a network can only be compared", None)]),
    ("if () exit;", [(2, 5, "an expression expected before ')'", None)]),
    ("if { exit; }", [(2, 4, "a condition expected after if", None)]),
    ('else log("a");', [(2, 1, "'else' without if", None)]),
    ("case 1: exit;", [(2, 1, "'case' without switch", None)]),
    ('(log("a"));', [(2, 1, "a statement cannot begin with '('", None)]),
    ('switch ($rm) { log("a"); case "A": exit; }', [(2, 16, "'case' or 'default' expected in switch", None)]),
    ('switch ($rm) { case "A": exit; case 3: exit; }', [(2, 32, "numbers and strings cannot be mixed", None)]),
    ("switch ($rm) { default: ; default: ; }", [(2, 27, "a second 'default'", None)]),
    ("switch ($rm) { case $rm: ; }", [(2, 21, "a case label is a number or a string", None)]),
    ('switch ($rm) { case /"(": ; }', [(2, 23, "bad regular expression", None)]),
    ('loadmodule "tm.so"\nlog("a");', [(2, 1, "'loadmodule' cannot begin a statement", None)]),
    ('lgo("a"); $rm = 2;\nlog()\nlog($rx);',
     [(2, 1, "lgo", "log"), (2, 11, "$rm", None), (3, 1, "takes 1", None), (3, 6, "';'", None),
      (4, 5, "$rx", None)]),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "expected"), MISTAKES, ids=[repr(m[0]) for m in MISTAKES])
def test_mistakes_in_statements(
    faults: Faults, statements: str, expected: list[tuple[int, int, str, str | None]]
) -> None:
    errors = faults(body(statements) + "route[SOME] { ; }\n")
    assert [(e.line, e.column, e.suggestion) for e in errors] == [(e[0], e[1], e[3]) for e in expected]
    for error, (_line, _column, message, _suggestion) in zip(errors, expected, strict=True):
        assert message in error.message


TOP_LEVEL: list[tuple[str, list[tuple[int, int, str]]]] = [
    ("route[A] { exit; }\n", [(1, 1, "the script has no request_route")]),
    ("", [(1, 1, "the script has no request_route")]),
    ("request_route {\n if (1) {\n exit;\n}\nroute[A] { exit; }\n", [(1, 15, "not closed: a '}' is missing")]),
    ("request_route {\n if (1) {\n exit;\n}\n", [(1, 15, "not closed: a '}' is missing")]),
    ("request_route {\n if (1) {\n exit;\n}\nroute[A] {\n exit;\n}\n",
     [(1, 15, "is missing (the '}' of line 4 closes the '{' of line 2: is it meant?)")]),
    ("request_route {\n if (1) {\n  exit;\n }\n\nroute[A] {\n exit;\n}\n", [(1, 15, "a '}' is missing")]),
    ("request_route {\n exit;\n}\n exit;\nlog(1);\n}\nroute[A] { exit; }\n",
     [(4, 2, "'exit' stands outside of a route block: the one before ended in line 3"),
      (5, 1, "the call of log stands outside of a route block")]),
    ("request_route {\n $var(x) = \nroute[A] { lgo(1); }\n",
     [(1, 15, "is not closed"), (2, 11, "an expression expected, and a '}' before the next route"),
      (3, 12, "unknown function")]),
    ('include "a.cfg"\nlaodmodule "fake"\nrequest_route { exit; }\n',
     [(1, 1, "unknown word 'include'"), (2, 1, "unknown word 'laodmodule'")]),
    ('loadmodule "fkae"\nrequest_route { exit; }\n', [(1, 12, "unknown module 'fkae'")]),
    ("request_route {\nswitch ($rm) {\nexit;\nroute[A] { exit; }\n",
     [(2, 14, "the switch that begins here is not closed"), (3, 1, "'case' or 'default' expected")]),
    ("request_route { exit; }\n}\nroute[A] { lgo(); }\n",
     [(2, 1, "this '}' closes nothing"), (3, 12, "unknown function")]),
    ("request_route { exit; }\nroute[A] { exit; }\nroute[A] { exit; }\n",
     [(3, 7, "route[A] is defined twice; first in test.cfg:2")]),
    ("request_route { exit; }\nroute { exit; }\n", [(2, 1, "route is defined twice; first in test.cfg:1")]),
    ("request_route { exit; }\nfailure_route { exit; }\n", [(2, 14, "failure_route needs a name")]),
    ("request_route[X] { exit; }\n", [(1, 15, "request_route takes no name")]),
    ("request_route { exit; }\nroute A { exit; }\n", [(2, 7, "'[' or '{' expected after route")]),
    ("request_route { exit; }\nroute[A { exit; }\n", [(2, 9, "']' expected after the name of the route")]),
    ("request_route { exit; }\nroute[] { exit; }\n", [(2, 7, "route[] has no name")]),
    ('log("a");\nrequest_route { exit; }\n', [(1, 1, "the call of log stands outside of a route block")]),
    ("$var(x) = 1;\nif (1) exit;\nrequest_route { exit; }\n",
     [(1, 1, "outside of a route"), (2, 1, "'if' stands outside")]),
    ("listen udp:1.2.3.4\nlisten=\nrequest_route { exit; }\n",
     [(1, 8, "'=' expected after listen"), (2, 8, "listen needs a value")]),
    ("loadmodule tm\nrequest_route { exit; }\n", [(1, 12, "loadmodule needs the name of a module in quotes")]),
    ('modparam("fake", "servers")\nrequest_route { exit; }\n', [(1, 27, "',' expected after the parameter's name")]),
    ('modparam("fake", "servers", $x)\nrequest_route { exit; }\n',
     [(1, 29, "a parameter's value is a number or a string")]),
    ('"stray"\nrequest_route { exit; }\n', [(1, 1, "a global parameter, loadmodule, modparam or a route expected")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TOP_LEVEL, ids=[repr(m[0]) for m in TOP_LEVEL])
def test_mistakes_outside_of_routes(faults: Faults, text: str, expected: list[tuple[int, int, str]]) -> None:
    errors = faults(text)
    assert [(e.line, e.column) for e in errors] == [(e[0], e[1]) for e in expected]
    for error, (_line, _column, message) in zip(errors, expected, strict=True):
        assert message in error.message


def test_a_fault_is_printed_with_its_line_a_caret_and_the_suggestion(faults: Faults) -> None:
    errors = faults('request_route {\n\tlgo("a");\n}\n')
    assert str(errors[0]).splitlines() == [
        "test.cfg:2:2: unknown function 'lgo'",
        '    \tlgo("a");',
        "    \t^",
        "    did you mean 'log'?",
    ]


def test_faults_come_in_the_order_of_the_file(faults: Faults) -> None:
    errors = faults("request_route { route(NO); exit }\nroute[A] { relay(1); }\nchildren=x\n")
    assert [error.line for error in errors] == [1, 1, 2, 3]


def test_a_script_that_is_nested_too_deeply_is_a_fault(faults: Faults) -> None:
    errors = faults(body("if (1) exit; else " * 3000 + "exit;"))
    assert "nested too deeply" in errors[0].message


def test_a_missing_brace_is_not_looked_for_in_blocks_that_end_where_they_should(faults: Faults) -> None:
    errors = faults("request_route {\n  if (1) {\n    exit;\n  }\n  while (1) {\n    exit;\n\nroute[A] {\n  exit;\n}\n")
    assert [(e.line, e.message) for e in errors] == [(5, "the block that begins here is not closed: a '}' is missing")]


def test_the_places_of_an_unknown_name_are_listed_up_to_a_number(faults: Faults) -> None:
    eight = ", ".join(str(line) for line in range(3, 10)) + " and 10"
    assert [e.message for e in faults(body("lgo(1);\n" * 9))] == [f"unknown function 'lgo' (also in lines {eight})"]
    errors = faults(body("lgo(1);\n" * 10))
    assert [e.message for e in errors] == [
        f"unknown function 'lgo' (also in lines {eight.replace(' and', ',')} and 1 more)"
    ]


def test_the_places_of_an_unknown_name_in_other_files_name_them(faults: Faults) -> None:
    text = 'request_route { lgo(1); }\ninclude_file "a.cfg"\n'
    errors = faults(text, files={"a.cfg": "\nroute[A] { lgo(1); }\n"})
    assert [e.message for e in errors] == ["unknown function 'lgo' (also in a.cfg:2)"]
