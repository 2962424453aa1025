"""Functions of modules jansson and json beside Kamailio's: the same statements leave the same in the same variables.

What is meant to differ is listed with both results, so that a change of either is seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios.processes import KamailioProcess, SipwrightProcess, require_kamailio_module
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

TEXT = (
    '{"i":1,"n":null,"e":"","l":[1,2,"x",{"k":[7]}],"o":{"b":"x"},"f":1.50,"t":true,"fa":false,"u":"h\\u00e9",'
    '"big":12345678901,"neg":-5,"a.b":1,"sp ace":2}'
)
# Each case begins with the same variables; those of the second line are unset.
SETUP = f"""
    $var(j) = '{TEXT}'; $var(r) = "old"; $var(m) = '{{"l":[1],"s":"x","o":{{"a":1}}}}'; $var(empty) = "";
    $var(arr) = "[1]"; $var(num) = 5; $var(unset) = $null; $avp(unset) = $null; $avp(r) = $null;
"""
FIELDS = " ".join(f"{name}=$xavp(x=>{name})" for name in "i n e l o f t fa u big neg".split())
TOLD = "r=$var(r) m=$var(m) arr=$var(arr) empty=$var(empty) unset=$var(unset) avp=$avp(r) avu=$avp(unset)"
TOLD += f" num=$var(num) {FIELDS} $xavp(x[1]=>i) $xavp(x[2]=>i)"

ALIKE = [
    *(
        f'jansson_get("{path}", $var(j), "$var(r)")'
        for path in "i n e l o t fa u big neg l[0] l[2] l[3] l[3].k[0] l[4] o.b o.zz zz [0] o[0] i.x".split()
    ),
    'jansson_get("sp ace", $var(j), "$var(r)")',
    'jansson_get("i", "$var(j)", "$var(r)")',
    'jansson_get("i", $var(j), "$avp(r)")',
    'jansson_get("n", $var(j), "$avp(r)")',
    'jansson_get("[1]", "[1,2]", "$var(r)")',
    *(f'jansson_get("a", \'{text}\', "$var(r)")' for text in ("", "[1,2]", "5", "{bad", "null", '{"a":1}x')),
    'jansson_get_field($var(j), "i", "$var(r)")',
    'jansson_get_field($var(j), "o.b", "$var(r)")',
    *(f'jansson_array_size("{path}", $var(j), "$var(r)")' for path in ("l", "o", "zz", "", "i", "l[3].k")),
    'jansson_array_size("", "[1,2]", "$var(r)")',
    *(
        f'jansson_set("{kind}", "a", \'{value}\', "$var(m)")'
        for kind, value in (
            ("string", 'x"y'),
            ("str", ""),
            ("integer", "5"),
            ("int", "12345678901234"),
            ("integer", "abc"),
            ("int", "5x"),
            ("real", "3"),
            ("real", "abc"),
            ("true", "0"),
            ("false", "x"),
            ("null", ""),
            ("object", '{"z":[1]}'),
            ("obj", "[]"),
            ("obj", "{bad"),
            ("array", "[1]"),
            ("array", "{}"),
        )
    ),
    *(
        f'jansson_set("int", "{path}", 7, "$var(m)")'
        for path in "a.b l[0] l[5] s.x o.a o [0] a[0] l[0].x x.y.z".split()
    ),
    'jansson_set("int", "", 7, "$var(m)")',
    'jansson_set("int", "[0]", 7, "$var(arr)")',
    'jansson_set("string", "mystr", "my input string", "$var(unset)")',
    'jansson_set("int", "a", 1, "$avp(unset)")',
    'jansson_set("int", "a", 1, "$var(num)")',
    'jansson_set("int", "a", 1, "$var(empty)")',
    'jansson_append("int", "l", 7, "$var(m)")',
    'jansson_append("array", "l", "[8,9]", "$var(m)")',
    'jansson_append("int", "", 7, "$var(arr)")',
    'jansson_append("str", "", "q", "$var(arr)")',
    'jansson_append("obj", "", \'{"a":1,"l":2}\', "$var(m)")',
    'jansson_append("obj", "o", \'{"a":9,"b":2}\', "$var(m)")',
    'jansson_append("int", "o", 5, "$var(m)")',
    'jansson_append("str", "s", "b", "$var(m)")',
    'jansson_append("int", "", 1, "$var(empty)")',
    'jansson_append("int", "", 1, "$avp(unset)")',
    *(
        f"jansson_xdecode('{text}', \"x\")"
        for text in ('[{"i":1},{"i":2},{"i":3}]', '[1,{"i":2}]', '{"i":1,"l":[],"n":null}', "{}", "[]", "5", "{bad", "")
    ),
    'jansson_xencode("x", "$var(r)")',
    *(
        f'{function}($var(j), "{name}", "$var(r)")'
        for function in ("json_get_field", "json_get_string")
        for name in ("i", "n", "e", "f", "t", "u", "big", "neg", "zz", "o.b", "a.b", "sp ace", "")
    ),
    *(
        f'{function}("{text}", "a", "$var(r)")'
        for function in ("json_get_field", "json_get_string")
        for text in ("", "[1,2]", "5", "{bad", "{'a':1}", "{'a': 'x', }", "null")
    ),
]

# Statement: what Kamailio's `$var(r)` or `$var(m)` is, and ours.
OBJECT = '{"l":[1],"s":"x","o":{"a":1}}'
DIFFERENT = {
    # Numbers keep their spelling.
    'jansson_get("f", $var(j), "$var(r)")': ("r=1.5 ", "r=1.50 "),
    'jansson_set("real", "a", "1.50", "$var(m)")': ('"a":1.5}', '"a":1.50}'),
    # The paths of {json.parse}: an index from the end.
    'jansson_get("l[-1]", $var(j), "$var(r)")': ("false r=old ", 'true r={"k":[7]} '),
    'jansson_get("l.0", $var(j), "$var(r)")': ("false r=old ", "true r=1 "),
    # Something that is no number.
    'jansson_set("integer", "a", "", "$var(m)")': ('"a":0}', f"false r=old m={OBJECT} "),
    # An array that is not there yet.
    'jansson_append("int", "a.b", 7, "$var(m)")': (f"false r=old m={OBJECT} ", '"a":{"b":[7]}}'),
    # An item that is no array is replaced there.
    'jansson_append("int", "l[0]", 7, "$var(m)")': ('m={"l":[7],', f"false r=old m={OBJECT} "),
    # White space between members is free.
    'json_get_field($var(j), "o", "$var(r)")': ('r={ "b": "x" } ', 'r={"b":"x"} '),
    'json_get_string($var(j), "l", "$var(r)")': ('r=[ 1, 2, "x", { "k": [ 7 ] } ] ', 'r=[1,2,"x",{"k":[7]}] '),
    'jansson_xdecode(\'{"i":1}\', "x") && jansson_xencode("x", "$var(r)")': ('r={"i": 1} ', 'r={"i":1} '),
    # Text behind the first value.
    'json_get_string("{\'a\':1}x", "a", "$var(r)")': ("true r=1 ", "false r=old "),
}
CASES = [*ALIKE, *DIFFERENT]


def script() -> str:
    head = "#!KAMAILIO\nchildren=1\ndebug=-1\nlog_stderror=yes\ndisable_tcp=yes\nauto_aliases=no\n"
    head += "".join(f'loadmodule "{name}.so"\n' for name in "tm sl pv textops jansson json".split())
    head += 'request_route {\n    if ($rU == "ready") { sl_send_reply("200", "OK"); exit; }\n'
    for number, case in enumerate(CASES):
        head += f"""
    if ($rU == "case{number}") {{
        {SETUP}
        if ({case}) $var(told) = "true"; else $var(told) = "false";
        append_to_reply("X-Told: $var(told) {TOLD}\\r\\n");
        sl_send_reply("200", "OK");
        exit;
    }}
"""
    return head + "}\n"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KamailioProcess, SipwrightProcess]]:
    """Both servers with the same script."""
    require_kamailio_module("jansson")
    require_kamailio_module("json")
    with (
        KamailioProcess(script(), tmp_path_factory.mktemp("kamailio")) as theirs,
        SipwrightProcess(script(), tmp_path_factory.mktemp("sipwright")) as ours,
    ):
        yield theirs, ours


def told(server: KamailioProcess | SipwrightProcess, case: str) -> str:
    with SipClient(server.address) as client:
        text = client.ask("OPTIONS", user=f"case{CASES.index(case)}").header("X-Told")
    assert text is not None
    return text


@pytest.mark.parametrize("case", ALIKE)
def test_a_statement_does_the_same(servers: tuple[KamailioProcess, SipwrightProcess], case: str) -> None:
    theirs, ours = servers
    assert told(ours, case) == told(theirs, case)


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_statement_differs_on_purpose(servers: tuple[KamailioProcess, SipwrightProcess], case: str) -> None:
    theirs, ours = servers
    kamailio, sipwright = DIFFERENT[case]
    assert kamailio in told(theirs, case)
    assert sipwright in told(ours, case)
