from __future__ import annotations

from typing import Any

import pytest

BODY = """$var(j) = '{"u":"h\\u00e9","o":{"b":"x"},"i":1,"n":null,"l":[null,"x"],}'; $var(r) = "old";\n"""


@pytest.mark.parametrize(
    ("function", "name", "result"),
    [
        ("json_get_field", "u", '"hé"'),
        ("json_get_field", "o", '{"b":"x"}'),
        ("json_get_field", "i", "1"),
        ("json_get_string", "u", "hé"),
        ("json_get_string", "o", '{"b":"x"}'),
        ("json_get_string", "l", '[null,"x"]'),
    ],
)
def test_members_are_stored(compiled: Any, function: str, name: str, result: str) -> None:
    body = f'{BODY} if ({function}("$var(j)", "{name}", "$var(r)")) xlog("[$var(r)]");'
    assert compiled.log(body) == [f"[{result}]"]


@pytest.mark.parametrize(
    ("json", "name"), [("$var(j)", "zz"), ("$var(j)", "n"), ("$var(j)", "o.b"), ("[1]", "0"), ("", "a")]
)
def test_what_is_not_there_leaves_the_variable_as_it_was(compiled: Any, json: str, name: str) -> None:
    body = f'{BODY} if (!json_get_string("{json}", "{name}", "$var(r)")) xlog("[$var(r)]");'
    assert compiled.log(body)[-1] == "[old]"


def test_what_is_no_json_is_logged(compiled: Any) -> None:
    lines = compiled.log(BODY + 'if (!json_get_field("{no", "a", "$var(r)")) xlog("false");')
    assert lines[0].startswith("json_get_field: not JSON")
    assert lines[1] == "false"
