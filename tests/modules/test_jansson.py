from __future__ import annotations

from typing import Any

import pytest

TEXT = """{"i":1,"n":null,"e":"","l":[1,2,"x"],"o":{"b":"x"},"f":1.50,"t":true,"u":"h\\u00e9","big":12345678901}"""
BODY = f"$var(j) = '{TEXT}'; $var(r) = \"old\";\n"


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("i", "1"),
        ("n", "0"),  # $null, which a $var does not hold
        ("e", ""),
        ("f", "1.50"),
        ("t", "1"),
        ("l", '[1,2,"x"]'),
        ("l[2]", "x"),
        ("l[-1]", "x"),
        ("o", '{"b":"x"}'),
        ("o.b", "x"),
        ("u", "hé"),
        ("big", "12345678901"),
    ],
)
def test_values_are_found_by_their_path(compiled: Any, path: str, result: str) -> None:
    body = f'{BODY} if (jansson_get("{path}", $var(j), "$var(r)")) xlog("[$var(r)]"); else xlog("false");'
    assert compiled.log(body) == [f"[{result}]"]


def test_an_integer_can_be_calculated_with(compiled: Any) -> None:
    assert compiled.log(BODY + 'jansson_get("i", "$var(j)", "$var(r)"); $var(r) = $var(r) + 1; xlog("$var(r)");') == [
        "2"
    ]


@pytest.mark.parametrize("path", ["zz", "l[3]", "o.b.c", "i.x"])
def test_what_is_not_there_leaves_the_variable_as_it_was(compiled: Any, path: str) -> None:
    body = f'{BODY} if (jansson_get("{path}", $var(j), "$var(r)")) xlog("true"); else xlog("[$var(r)]");'
    assert compiled.log(body) == ["[old]"]


def test_arrays_are_counted_and_nothing_else(compiled: Any) -> None:
    body = """
        if (jansson_array_size("l", $var(j), "$var(r)")) xlog("$var(r)");
        if (!jansson_array_size("o", $var(j), "$var(r)")) xlog("no array");
        if (!jansson_array_size("zz", $var(j), "$var(r)")) xlog("nothing");
    """
    assert compiled.log(BODY + body) == ["3", "no array", "nothing"]


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ('jansson_set("string", "a.b", "x\\"y", "$var(m)")', '{"a":{"b":"x\\"y"}}'),
        ('jansson_set("integer", "a", 5, "$var(m)")', '{"a":5}'),
        ('jansson_set("int", "a", "-6", "$var(m)")', '{"a":-6}'),
        ('jansson_set("real", "a", "1.50", "$var(m)")', '{"a":1.50}'),
        ('jansson_set("true", "a", 0, "$var(m)")', '{"a":true}'),
        ('jansson_set("false", "a", "x", "$var(m)")', '{"a":false}'),
        ('jansson_set("null", "a", "", "$var(m)")', '{"a":null}'),
        ('jansson_set("obj", "a", \'{"z":[1]}\', "$var(m)")', '{"a":{"z":[1]}}'),
        ('jansson_set("array", "a", \'[1,"b"]\', "$var(m)")', '{"a":[1,"b"]}'),
        ('jansson_append("str", "a", "b", "$var(m)")', '{"a":["b"]}'),
        ('jansson_append("int", "x.a", 1, "$var(m)")', '{"x":{"a":[1]}}'),
        ('jansson_set("string", "é", "ü", "$var(m)")', '{"é":"ü"}'),
        ('jansson_set("real", "a", "3", "$var(m)")', '{"a":3.0}'),
        ('jansson_append("obj", "", \'{"b":2}\', "$var(m)")', '{"b":2}'),
    ],
)
def test_values_are_put_into_a_text(compiled: Any, call: str, result: str) -> None:
    assert compiled.log(f"$var(m) = '{{}}'; if ({call}) xlog(\"$var(m)\");") == [result]


def test_an_object_that_is_appended_to_an_object_replaces_the_members_of_the_same_name(compiled: Any) -> None:
    body = """
        $var(m) = '{"a":1,"b":1,"o":{}}';
        jansson_append("obj", "", '{"b":2,"c":3}', "$var(m)");
        jansson_append("obj", "o", '{"d":4}', "$var(m)");
        xlog("$var(m)");
    """
    assert compiled.log(body) == ['{"a":1,"b":2,"o":{"d":4},"c":3}']


def test_a_variable_that_holds_no_text_is_an_empty_object(compiled: Any) -> None:
    body = """
        jansson_set("str", "a", "x", "$var(new)"); jansson_set("int", "b", 2, "$var(new)");
        $avp(old) = 5; jansson_append("int", "l", 1, "$avp(old)");
        xlog("$var(new) $avp(old)");
    """
    assert compiled.log(body) == ['{"a":"x","b":2} {"l":[1]}']


def test_the_older_name_of_jansson_get(compiled: Any) -> None:
    assert compiled.log(BODY + 'if (jansson_get_field($var(j), "o.b", "$var(r)")) xlog("$var(r)");') == ["x"]


def test_an_object_becomes_an_xavp_with_its_members_as_fields(compiled: Any) -> None:
    body = """
        if (jansson_xdecode($var(j), "x"))
            xlog("$xavp(x=>i) $xavp(x=>n) $xavp(x=>l) $xavp(x=>o) $xavp(x=>f) $xavp(x=>t) $xavp(x=>u) [$xavp(x=>e)]");
    """
    assert compiled.log(BODY + body) == ['1 <null> [1,2,"x"] {"b":"x"} 1.50 1 hé []']


def test_objects_of_an_array_are_xavps_of_one_name_above_those_that_were_there(compiled: Any) -> None:
    body = """
        $xavp(x=>i) = "before";
        jansson_xdecode('[{"i":1},2,{"i":3}]', "x");
        xlog("$xavp(x[0]=>i) $xavp(x[1]=>i) $xavp(x[2]=>i) $xavp(x[3]=>i)");
    """
    assert compiled.log(body) == ["3 <null> 1 before"]


def test_an_xavp_becomes_an_object(compiled: Any) -> None:
    body = """
        $xavp(x=>i) = "older"; $xavp(x=>i) = 5; $xavp(x[0]=>s) = 'a"b'; $xavp(x[0]=>s) = "newest";
        if (jansson_xencode("x", "$var(r)")) xlog("$var(r)");
        $xavp(y) = 5;
        if (!jansson_xencode("y", "$var(r)") && !jansson_xencode("z", "$var(r)")) xlog("$var(r)");
    """
    assert compiled.log(body) == ['{"i":5,"s":"newest"}', '{"i":5,"s":"newest"}']


def test_items_of_arrays_are_replaced_and_appended(compiled: Any) -> None:
    body = """
        $var(m) = '{"l":[1,2]}'; $var(list) = "[]";
        jansson_set("string", "l[1]", "b", "$var(m)");
        jansson_append("true", "l", "", "$var(m)");
        jansson_append("int", "", "5", "$var(list)");
        xlog("$var(m) $var(list)");
    """
    assert compiled.log(body) == ['{"l":[1,"b",true]} [5]']


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ('jansson_get("a", "{no json", "$var(m)")', "jansson_get: not JSON"),
        ('jansson_set("integer", "a", "abc", "$var(m)")', "jansson_set: 'abc' is no integer"),
        ('jansson_set("integer", "a", "true", "$var(m)")', "jansson_set: 'true' is no integer"),
        ('jansson_set("object", "a", "[]", "$var(m)")', "jansson_set: '[]' is no object"),
        ('jansson_set("string", "l[5]", "a", "$var(m)")', "jansson_set: there is nothing at the path"),
        ('jansson_set("string", "s.x", "a", "$var(m)")', "jansson_set: there is nothing at the path"),
        ('jansson_append("string", "s", "a", "$var(m)")', "jansson_append: there is no array at the path"),
        ('jansson_set("string", "", "a", "$var(m)")', "jansson_set: there is nothing at the path"),
        ('jansson_xdecode("{no", "x")', "jansson_xdecode: not JSON"),
        ('jansson_set("string", "[0]", "a", "$var(m)")', "jansson_set: there is nothing at the path"),
        ('jansson_append("int", "n[0]", 1, "$var(m)")', "jansson_append: there is no array at the path"),
        ('jansson_append("obj", "s", "{}", "$var(m)")', "jansson_append: there is no array at the path"),
        ('jansson_set("string", "a", "b", "$var(empty)")', "jansson_set: not JSON"),
    ],
)
def test_what_cannot_be_done_is_logged_and_false(compiled: Any, call: str, told: str) -> None:
    text = '{"l":[1],"s":"x"}'
    lines = compiled.log(f'$var(m) = \'{text}\'; $var(empty) = ""; if (!{call}) xlog("$var(m)");')
    assert lines[0].startswith(told)
    assert lines[1] == text


def test_a_kind_of_value_that_is_not_known_is_a_fault_of_the_script(compiled: Any) -> None:
    assert "'number' is no kind of value" in compiled.fault('jansson_set("number", "a", 1, "$var(m)");')
