"""Defines, substitutions, conditional parts and included files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Compile = Callable[..., Any]
Faults = Callable[..., Any]


def test_a_define_replaces_identifiers_but_not_strings(script: Compile) -> None:
    text = (
        '#!KAMAILIO\n#!define A 1 + 2\n#!define B "b" # comment\nrequest_route { $var(x) = A * 2; log("A"); log(B); }\n'
    )
    compiled = script(text)
    assert compiled.run() == ["A", "b"]
    assert compiled.context.vars == {"x": 5}


def test_a_define_may_use_another_and_span_lines(script: Compile) -> None:
    compiled = script("#!define A B\n#!define B 4 \\\n + 1\nrequest_route { $var(x) = A; }\n")
    compiled.run()
    assert compiled.context.vars == {"x": 5}


def test_a_define_that_uses_itself_ends(script: Compile, faults: Faults) -> None:
    errors = faults("#!define A A\nrequest_route { $var(x) = A; }\n")
    assert "unknown word 'A'" in errors[0].message


def test_trydef_keeps_and_redefine_changes_a_value(script: Compile) -> None:
    compiled = script(
        "#!define A 1\n#!trydef A 2\n#!def B 1\n#!redef B 2\nrequest_route { $var(x) = A; $var(y) = B; }\n"
    )
    compiled.run()
    assert compiled.context.vars == {"x": 1, "y": 2}


def test_a_second_define_is_a_fault(faults: Faults) -> None:
    errors = faults("#!define A 1\n#!define A 2\nrequest_route { $var(x) = A; }\n")
    assert (errors[0].line, errors[0].message) == (2, "'A' is defined already; #!redefine changes it")


def test_defines_of_the_command_line_come_first(script: Compile) -> None:
    text = '#!trydef WHO "file"\n#!ifdef FLAG\nrequest_route { log(WHO); }\n#!endif\n'
    assert script(text, defines={"WHO": '"line"', "FLAG": ""}).run() == ["line"]


def test_subst_works_in_strings_and_variables_only(script: Compile) -> None:
    text = '#!subst "/FOO/bar/"\n#!subst "/GO+/x/g"\nrequest_route { log("FOOFOO GOOGO"); $var(FOO) = 1; }\n'
    compiled = script(text)
    assert compiled.run() == ["barFOO xx"]
    assert compiled.context.vars == {"bar": 1}


def test_substdef_defines_too_and_substdefs_in_quotes(script: Compile) -> None:
    text = '#!substdef "!N!5!g"\n#!substdefs "!S!text!g"\nrequest_route { $var(x) = N; log("N S"); log(S); }\n'
    compiled = script(text)
    assert compiled.run() == ["5 text", "text"]
    assert compiled.context.vars == {"x": 5}


@pytest.mark.parametrize(
    ("condition", "chosen"),
    [
        ("#!ifdef A", "yes"),
        ("#!ifndef A", "no"),
        ("!!ifdef A", "yes"),
        ("#!ifdef B", "no"),
        ("#!ifdef KAMAILIO_5", "yes"),
        ("#!ifexp A == 3", "yes"),
        ("#!ifexp A > 3 || UNKNOWN", "no"),
        ("#!ifexp KAMAILIO_VERSION >= 5006000 && !UNKNOWN", "yes"),
        ('#!ifexp S == "text"', "yes"),
    ],
)
def test_conditional_parts(script: Compile, condition: str, chosen: str) -> None:
    text = f'#!define A 3\n#!define S "text"\n{condition}\n#!define R "yes"\n#!else\n#!define R "no"\n#!endif\n'
    assert script(text + "request_route { log(R); }\n").run() == [chosen]


def test_conditional_parts_nest_also_where_they_are_skipped(script: Compile) -> None:
    text = """
    #!ifdef NO
    ? this is not read "
    #!ifdef NEITHER
    #!else
    #!endif
    #!else
    #!ifndef NO
    request_route { log("a"); }
    #!endif
    #!endif
    """
    assert script(text).run() == ["a"]


def test_the_environment_can_be_defined(script: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIPWRIGHT_TEST", 'a "b" \\')
    monkeypatch.setenv("SIPWRIGHT_COUNT", "7")
    text = """
    #!defenvs SIPWRIGHT_TEST
    #!defenvs TEXT=SIPWRIGHT_TEST
    #!defenv COUNT=SIPWRIGHT_COUNT
    #!trydefenv NONE=SIPWRIGHT_NO_SUCH
    #!trydefenv COUNT=SIPWRIGHT_TEST
    request_route {
      log(SIPWRIGHT_TEST);
      log(TEXT);
      if (COUNT + 1 == 8) log("eight");
    #!ifdef NONE
      log("none");
    #!endif
    }
    """
    assert script(text).run() == ['a "b" \\', 'a "b" \\', "eight"]


def test_a_second_define_with_the_same_value_is_none(script: Compile) -> None:
    assert script('#!define A "a"\n#!define A "a"\nrequest_route { log(A); }\n').run() == ["a"]


def test_expressions_can_be_defined(script: Compile) -> None:
    text = """
    #!define BASE 40
    #!defexp SUM BASE + 2
    #!defexps TEXT "a" + "b"
    #!ifexp SUM == 42 && BASE
    request_route { $var(x) = SUM; log("$var(x)"); log(TEXT); }
    #!endif
    """
    assert script(text).run() == ["42", "ab"]


def test_a_module_that_is_loaded_defines_a_name(script: Compile) -> None:
    text = """
    loadmodule "/usr/lib/fake.so"
    #!ifdef MOD_other
    no
    #!endif
    #!ifdef MOD_fake
    request_route { log("fake"); }
    #!endif
    """.replace("/usr/lib/", "")
    assert script(text).run() == ["fake"]


def test_directives_may_stand_inside_of_routes(script: Compile) -> None:
    assert script('request_route {\n#!ifdef NO\nlog("a");\n#!else\nlog("b");\n#!endif\n}\n').run() == ["b"]


def test_included_files_are_found_beside_the_including_one(script: Compile) -> None:
    files = {"sub/a.cfg": '#!define A "a"\ninclude_file "b.cfg"\n', "sub/b.cfg": "route[B] { log(A); }\n"}
    text = '#!include_file "sub/a.cfg"\nimport_file "none.cfg"\nrequest_route { route(B); }\n'
    compiled = script(text, files=files)
    assert compiled.run() == ["a"]
    assert compiled.program.routes[compiled.program.request_route.kind, "B"].file == "sub/b.cfg"


def test_a_file_that_cannot_be_included_is_a_fault_with_its_place(faults: Faults) -> None:
    errors = faults('request_route { log("a"); }\ninclude_file "none.cfg"\n')
    assert (errors[0].line, errors[0].column) == (2, 14)
    assert "cannot read 'none.cfg'" in errors[0].message


def test_files_that_include_one_another_for_ever_are_a_fault(faults: Faults) -> None:
    errors = faults('include_file "a.cfg"\nrequest_route { log("a"); }\n', files={"a.cfg": 'include_file "a.cfg"\n'})
    assert [(e.file, e.message) for e in errors] == [
        ("a.cfg", "'a.cfg' is being read already: a file cannot include itself")
    ]


def test_files_may_include_one_another_ten_deep(script: Compile, faults: Faults) -> None:
    files = {f"{n}.cfg": f'include_file "{n + 1}.cfg"\n' for n in range(10)} | {"9.cfg": "", "10.cfg": ""}
    text = 'include_file "{}.cfg"\nrequest_route {{ log("a"); }}\n'
    assert script(text.format(1), files=files).run() == ["a"]
    files["9.cfg"] = 'include_file "10.cfg"\n'
    assert [e.message for e in faults(text.format(0), files=files)] == ["files include one another more than 10 deep"]


def test_faults_in_included_files_name_them(faults: Faults) -> None:
    errors = faults('include_file "a.cfg"\nrequest_route { log("a"); }\n', files={"a.cfg": "\nroute[A] { lgo(1); }\n"})
    assert [(e.file, e.line, e.source, e.suggestion) for e in errors] == [("a.cfg", 2, "route[A] { lgo(1); }", "log")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("#!ifdef A\nrequest_route { log(1); }\n", 1, "#!ifdef without #!endif"),
        ("#!endif\nrequest_route { log(1); }\n", 1, "#!endif without #!ifdef"),
        ("#!else\nrequest_route { log(1); }\n", 1, "#!else without #!ifdef"),
        ("#!ifdef A\n#!else\n#!else\n#!endif\nrequest_route { log(1); }\n", 3, "a second #!else"),
        ("#!define\nrequest_route { log(1); }\n", 1, "needs a name"),
        ("#!define A-B 1\nrequest_route { log(1); }\n", 1, "needs a name"),
        ("#!ifdefe A\nrequest_route { log(1); }\n", 1, "unknown directive #!ifdefe"),
        ('#!subst "/a/b"\nrequest_route { log(1); }\n', 1, "#!subst is written"),
        ('#!subst "/(/b/"\nrequest_route { log(1); }\n', 1, "bad regular expression"),
        ("#!ifexp 1 +\n#!endif\nrequest_route { log(1); }\n", 1, "an expression expected"),
        ("#!ifexp $var(x)\n#!endif\nrequest_route { log(1); }\n", 1, "expressions of the preprocessor have"),
        ("#!ifexp 7 / 2\n#!endif\nrequest_route { log(1); }\n", 1, "'/' cannot be used in expressions"),
        ("#!defenv SIPWRIGHT_NO_SUCH\nrequest_route { log(1); }\n", 1, "no variable SIPWRIGHT_NO_SUCH"),
        ("#!defenv\nrequest_route { log(1); }\n", 1, "#!defenv is written #!defenv NAME=VARIABLE"),
        ("#!defexp A\nrequest_route { log(1); }\n", 1, "#!defexp is written #!defexp NAME expression"),
    ],
)
def test_directives_that_are_wrong(faults: Faults, text: str, line: int, message: str) -> None:
    errors = faults(text)
    assert errors[0].line == line
    assert message in errors[0].message
