"""Global parameters, modules and their parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Compile = Callable[..., Any]
Faults = Callable[..., Any]

ROUTE = "request_route { ; }\n"


def test_global_parameters_are_read_with_their_types(script: Compile) -> None:
    compiled = script(
        """
        debug=-1; children = 4
        log_stderror=yes
        fork=no
        log_facility=LOG_LOCAL0
        server_header="Server: x"
        listen=udp:127.0.0.1:5060
        listen=tcp:eth0.100:5060 advertise sip.example-host.org:5070
        listen=udp:[2001:db8::1]:5060 name "s1"
        listen=udp:10.0.0.1:5060
               tcp:10.0.0.1:5060
        listen="tls:10.0.0.1:5061";
        alias=example.com
        mhomed=1
        group.limit = 5 desc "a limit"
        flags FLT_A:1, FLT_B,
              FLT_C
        loadpath "/usr/lib"
        """
        + ROUTE
    )
    assert compiled.program.settings == {
        "debug": [(-1,)],
        "children": [(4,)],
        "log_stderror": [(1,)],
        "fork": [(0,)],
        "log_facility": [("LOG_LOCAL0",)],
        "server_header": [("Server: x",)],
        "listen": [
            ("udp:127.0.0.1:5060",),
            ("tcp:eth0.100:5060", "advertise", "sip.example-host.org:5070"),
            ("udp:[2001:db8::1]:5060", "name", "s1"),
            ("udp:10.0.0.1:5060", "tcp:10.0.0.1:5060"),
            ("tls:10.0.0.1:5061",),
        ],
        "alias": [("example.com",)],
        "mhomed": [(1,)],
        "group.limit": [(5, "desc", "a limit")],
        "flags": [("FLT_A:1", "FLT_B", "FLT_C")],
        "loadpath": [("/usr/lib",)],
    }
    assert ("children", [4]) in compiled.namespace.globals
    assert compiled.program.notes == ["test.cfg:14: mhomed has no effect"]


def test_addresses_may_be_made_of_defines(script: Compile) -> None:
    compiled = script("#!define IP 10.0.0.1\n#!define PORT 5062\nlisten=udp:IP:PORT\n" + ROUTE)
    assert compiled.program.settings["listen"] == [("udp:10.0.0.1:5062",)]


def test_modules_and_their_parameters_reach_the_namespace_in_order(script: Compile) -> None:
    compiled = script(
        '#!define URL "host:1"\n#!define PLAIN host:2\n'
        'loadmodule "fake.so"\nloadmodule("other")\nmodparam("fake", "servers", URL)\n'
        'modparam("fake|other", "timeout", -5)\nmodparamx("fake", "servers", "a $def(PLAIN)")\n' + ROUTE
    )
    assert compiled.namespace.modules == ["fake.so", "other"]
    assert compiled.namespace.params == [
        ("fake", "servers", "host:1"),
        ("fake", "timeout", -5),
        ("other", "timeout", -5),
        ("fake", "servers", "a host:2"),
    ]


def test_faults_of_parameters_point_at_what_is_wrong(faults: Faults) -> None:
    errors = faults(
        'loadmodule "fakee"\nmodparam("fkae", "servers", "a")\nmodparam("fake", "server", 1)\n'
        'modparam("fake", "servers", "a;b")\nmodparam("fake", servers, 1)\nchildern=1\nchildren=x\n' + ROUTE
    )
    assert [(e.line, e.column, e.suggestion) for e in errors] == [
        (1, 12, "fake"),
        (2, 10, "fake"),
        (3, 18, "servers"),
        (4, 31, None),
        (5, 18, None),
        (6, 1, "children"),
        (7, 10, None),
    ]


def test_loops_are_limited_as_the_script_says(script: Compile) -> None:
    compiled = script("max_while_loops=7\nrequest_route { while (1) { $var(i) = $var(i) + 1; } }\n")
    compiled.run()
    assert compiled.context.vars == {"i": 7}
    assert compiled.reports == ["test.cfg:2: while: stopped after 7 rounds (max_while_loops)"]
    compiled = script("max_while_loops=0\nrequest_route { while ($var(i) < 1000) { $var(i) = $var(i) + 1; } }\n")
    compiled.run()
    assert compiled.context.vars == {"i": 1000}


def test_a_text_with_variables_may_name_those_of_modules_that_are_loaded_after_it(script: Compile) -> None:
    compiled = script('motto="$rm of $var(x){s.len}"; loadmodule "fake.so"\n' + ROUTE)
    compiled.run(rm="INVITE")
    assert compiled.namespace.texts["motto"](compiled.context) == "INVITE of 0{s.len}"
    assert compiled.program.settings["motto"] == [("$rm of $var(x){s.len}",)]
    assert compiled.namespace.globals == []


def test_faults_in_a_text_with_variables_point_at_the_variable(faults: Faults) -> None:
    errors = faults('motto="{$rm $xx}"\nmotto=yes\nmotto="a $"\n' + ROUTE)
    assert [(e.line, e.column, e.message) for e in errors] == [
        (1, 13, "unknown variable $xx"),
        (2, 7, "motto is one string, in quotes"),
        (3, 10, "a variable name must follow '$'; a dollar sign in a string is written '$$'"),
    ]


def test_a_parameter_that_names_a_variable_gets_it_once_all_modules_are_loaded(script: Compile) -> None:
    compiled = script('modparam("fake", "target", "$var(x)")\nloadmodule "fake.so"\n' + ROUTE)
    compiled.namespace.targets["target"].set(compiled.context, "stored")
    assert compiled.context.vars == {"x": "stored"}
    assert compiled.namespace.params == []


def test_faults_of_a_parameter_that_names_a_variable(faults: Faults) -> None:
    wanted = "parameter 'target' is one writable variable, in quotes, like \"$var(x)\""
    texts = ['"$rm"', '"x"', '"$var(x)y"', "5", '"$xx"', '"$far($far(a))"', '""']
    errors = faults("".join(f'modparam("fake", "target", {text})\n' for text in texts) + ROUTE)
    assert [(e.line, e.column, e.message) for e in errors] == [
        (1, 28, "$rm cannot be written to"),
        (2, 28, wanted),
        (3, 28, wanted),
        (4, 28, wanted),
        (5, 29, "unknown variable $xx"),
        (6, 28, "$far($far(a)) cannot be used here: its name has to be waited for"),
        (7, 28, wanted),
    ]
