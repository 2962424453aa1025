"""The keys of `$redis(reply=>key)`."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ArgumentError, RedisAnswerError, RedisAwayError
from sipwright.lang.namespace import Variable
from sipwright.modules.ndb_redis.replies import parse_path
from sipwright.redis.resp import Status

NESTED = [1, [2, [3, b"x"], Status(b"OK")], b"y", None]


@pytest.mark.parametrize(
    ("reply", "of"),
    [
        (Status(b"OK"), {"type": 5, "value": None, "info": "OK", "size": None, "value[0]": None}),
        (b"text", {"type": 1, "value": "text", "info": "text", "size": None, "value[-1]": "text"}),
        (b"12", {"type": 1, "value": "12"}),
        (12, {"type": 3, "value": 12, "info": None}),
        (None, {"type": 4, "value": None, "info": None}),
        (RedisAnswerError("ERR no"), {"type": 6, "value": None, "info": "ERR no"}),
        (RedisAwayError("away"), {"type": None, "value": None, "info": "away", "size": None}),
        ([], {"type": 2, "value": None, "size": 0, "info": None, "value[0]": None, "type[0]": None}),
        (
            NESTED,
            {
                "size": 4,
                "value[0]": 1,
                "type[0]": 3,
                "value[1]": None,
                "type[1]": 2,
                "value[2]": "y",
                "type[3]": 4,
                "value[4]": None,
                "value[-2]": None,
                "value[1]=>size": 3,
                "value[1]=>value[0]": 2,
                "value[1]=>value[1]=>value[1]": "x",
                "value[1]=>type[1]": 2,
                "value[1]=>value[2]=>info": "OK",
                "value[2]=>value": "y",
                "value[9]=>size": None,
                " value [ 1 ] => size ": 3,
            },
        ),
        (b"\xff", {"value": "\udcff"}),
    ],
)
def test_keys(reply: Any, of: dict[str, Any]) -> None:
    for key, expected in of.items():
        name, read = parse_path([f"r=>{key}"])
        assert (name, read(None, reply)) == ("r", expected), key


def test_an_index_may_be_a_variable() -> None:
    index = Variable("$var(i)", lambda context: context["i"])
    _name, read = parse_path(["r=>value[", index, "]=>value[", index, "]"])
    assert read({"i": 1}, NESTED) is None
    assert read({"i": "1"}, [0, [0, b"x"]]) == "x"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "expected $redis(reply=>key)"),
        (["r"], "expected $redis(reply=>key)"),
        (["=>value"], "expected $redis(reply=>key)"),
        ([Variable("$var(r)", lambda _c: "r"), "=>value"], "with the name of the reply written out"),
        (["r=>text"], "expected value, type, info, size, value[N] or type[N], found 'text'"),
        (["r=>value[x]"], "found 'value[x]'"),
        (["r=>", Variable("$var(k)", lambda _c: "value")], "found '$var(k)'"),
        (["r=>size[1]"], "size has no index"),
        (["r=>value=>size"], "only value[N] can have another key behind it"),
        (["r=>type[0]=>size"], "only value[N] can have another key behind it"),
    ],
)
def test_faults(parts: list[Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_path(parts)
    assert message in caught.value.message
