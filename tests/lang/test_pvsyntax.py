"""How variables are written."""

from __future__ import annotations

import pytest

from sipwright.errors import ArgumentError
from sipwright.lang.pvsyntax import Pv, TextPart, read_pv, split_text


def shown(part: TextPart) -> object:
    if isinstance(part, str):
        return part
    inner = None if part.inner is None else [shown(p) for p in part.inner]
    index = shown(part.index) if isinstance(part.index, Pv) else part.index
    transforms = [(f"{t.cls}.{t.name}", [[shown(p) for p in param] for param in t.params]) for t in part.transforms]
    return (part.name, inner, index, transforms)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$ru", ("ru", None, None, [])),
        ("$?", ("?", None, None, [])),
        ("$(ru)", ("ru", None, None, [])),
        ("$var(x)", ("var", ["x"], None, [])),
        ("$hdr(X-Foo)", ("hdr", ["X-Foo"], None, [])),
        ("$sht(t=>$var(k)::x)", ("sht", ["t=>", ("var", ["k"], None, []), "::x"], None, [])),
        ("$sht(t=>$(var(k){s.len}))", ("sht", ["t=>", ("var", ["k"], None, [("s.len", [])])], None, [])),
        ("$xavp(a[0]=>b[1])", ("xavp", ["a[0]=>b[1]"], None, [])),
        ("$var(a(b)c)", ("var", ["a(b)c"], None, [])),
        ("$(hdr(Via)[-1])", ("hdr", ["Via"], -1, [])),
        ("$(avp(x)[*])", ("avp", ["x"], "*", [])),
        ("$(hdr(V)[$var(i)])", ("hdr", ["V"], ("var", ["i"], None, []), [])),
        ("$(ru{s.len})", ("ru", None, None, [("s.len", [])])),
        ("$(ru{s.substr,1,2}{s.len})", ("ru", None, None, [("s.substr", [["1"], ["2"]]), ("s.len", [])])),
        (
            "$(var(r){json.parse,path.to[0].$var(m)})",
            ("var", ["r"], None, [("json.parse", [["path.to[0].", ("var", ["m"], None, [])]])]),
        ),
        ("$(ru{s.select,1,,})", ("ru", None, None, [("s.select", [["1"], [","]])])),
        ("$(ru{param.value,a,;})", ("ru", None, None, [("param.value", [["a"], [";"]])])),
        ("$(ru{s.select,0,$var(s)})", ("ru", None, None, [("s.select", [["0"], [("var", ["s"], None, [])]])])),
        ("$(ru{re.subst,/a,b{2}/$1/g})", ("ru", None, None, [("re.subst", [["/a,b{2}/$1/g"]])])),
        ("$(hdr(X)[0]{s.len})", ("hdr", ["X"], 0, [("s.len", [])])),
        ("$var()", ("var", [], None, [])),
    ],
)
def test_variables(text: str, result: object) -> None:
    pv = read_pv(text + " rest", 0)
    assert shown(pv) == result
    assert (pv.start, pv.end, pv.text) == (0, len(text), text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("plain", ["plain"]),
        ("$$", ["$"]),
        ("a $ru.b", ["a ", ("ru", None, None, []), ".b"]),
        ("$ru$rm", [("ru", None, None, []), ("rm", None, None, [])]),
        ("$ru-x{y}", [("ru", None, None, []), "-x{y}"]),
    ],
)
def test_strings_are_split(text: str, parts: list[object]) -> None:
    assert [shown(part) for part in split_text(text)] == parts


def test_a_lone_dollar_may_be_allowed() -> None:
    assert split_text("^a$|b$", lone_dollar=True) == ["^a$|b$"]


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("a $ b", 2),
        ("5$", 1),
        ("$1", 0),
        ("$(", 2),
        ("$(ru", 4),
        ("$(ru{s.len}", 11),
        ("$(ru{s.len)", 0),
        ("$var(x", 0),
        ("$(ru{len})", 5),
        ("$(ru{s.len;3})", 10),
        ("$(hdr(x)[a])", 9),
        ("$(hdr(x)[$var(i))", 16),
    ],
)
def test_faults_have_an_offset(text: str, offset: int) -> None:
    with pytest.raises(ArgumentError) as caught:
        split_text(text)
    assert caught.value.offset == offset
