"""Results as types: what is decoded, and what is said of a result of another shape."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from sipwright.errors import RpcError, RpcResultError
from sipwright.jsonrpc.typed import ResultDecoder, decoder_for


class User(msgspec.Struct):
    id: int
    name: str = ""
    friends: list[User] = []


@dataclass
class Place:
    city: str
    tags: dict[str, int] = field(default_factory=dict)


class Row(TypedDict):
    key: str
    value: int


class Pair(NamedTuple):
    a: int
    b: str


class Colour(enum.Enum):
    RED = "red"


class Handmade:
    pass


class HasHandmade(msgspec.Struct):
    inner: list[Handmade | None] = []


class NamesNothing(msgspec.Struct):
    inner: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (User, b'{"id":7,"name":"P","more":1}', User(7, "P")),
        (User, b'{"id":1,"friends":[{"id":2}]}', User(1, "", [User(2)])),
        (list[User], b'[{"id":7}]', [User(7)]),
        (User | None, b"null", None),
        (Place, b'{"city":"Prague","tags":{"old":1}}', Place("Prague", {"old": 1})),
        (Row, b'{"key":"k","value":1}', {"key": "k", "value": 1}),
        (Pair, b'[1,"x"]', Pair(1, "x")),
        (Colour, b'"red"', Colour.RED),
        (datetime, b'"2024-02-29T12:00:00Z"', datetime(2024, 2, 29, 12, tzinfo=UTC)),
        (tuple[int, ...], b"[1,2]", (1, 2)),
        (object, b'{"a":[1]}', {"a": [1]}),
        (Any, b'"x"', "x"),
    ],
    ids=str,
)
def test_a_result_is_decoded_to_the_type(type_: Any, text: bytes, value: object) -> None:
    decoded = decoder_for(type_)(text)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("type_", "text", "path", "message"),
    [
        (User, b'{"id":"7"}', "$.id", "Expected `int`, got `str`"),
        (User, b"{}", "$", "Object missing required field `id`"),
        (User, b"[7]", "$", "Expected `object`, got `array`"),
        (User, b"null", "$", "Expected `object`, got `null`"),
        (list[User], b'[{"id":1,"friends":[{"id":null}]}]', "$[0].friends[0].id", "Expected `int`, got `null`"),
        (dict[int, int], b'{"a":1}', "$", "Expected `int`, got `str` as a key"),
        (Annotated[int, msgspec.Meta(ge=0)], b"-1", "$", "Expected `int` >= 0"),
        (Literal["a"], b'"x - at y"', "$", "Invalid enum value 'x - at y'"),
        (str, b'"\xff"', "$", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
    ids=str,
)
def test_a_result_of_another_shape_is_told_with_method_place_and_what_was_expected(
    type_: Any, text: bytes, path: str, message: str
) -> None:
    with pytest.raises(RpcResultError) as caught:
        decoder_for(type_)(text, "get_user")
    error = caught.value
    assert (error.method, error.path, error.message, error.result) == ("get_user", path, message, text)
    assert isinstance(error, RpcError)


def test_a_decoder_is_made_once_for_each_type() -> None:
    assert decoder_for(list[User]) is decoder_for(list[User])


def test_a_type_that_cannot_be_hashed_is_decoded_all_the_same() -> None:
    assert decoder_for(Annotated[int, []])(b"1") == 1


@pytest.mark.parametrize(
    ("type_", "what"),
    [
        (Handmade, "Handmade"),
        (dict[str, Handmade], "Handmade"),
        (HasHandmade, "Handmade"),
        (NamesNothing, "name 'Nowhere' is not defined"),
        ("User", "'User'"),
        (User | Place, "more than one dict-like type"),
    ],
    ids=str,
)
def test_a_type_that_json_cannot_be_decoded_to_is_refused_before_any_result(type_: Any, what: str) -> None:
    with pytest.raises(TypeError, match="no type that JSON can be decoded to: .*" + what):
        decoder_for(type_)


def test_a_decoder_knows_its_type() -> None:
    decoder: ResultDecoder[list[User]] = decoder_for(list[User])
    assert [user.id for user in decoder(b'[{"id":7}]')] == [7]
