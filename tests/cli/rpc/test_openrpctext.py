from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipwright.cli.rpc.openrpctext import describe, type_text

DOCUMENT: dict[str, Any] = {
    "openrpc": "1.3.2",
    "info": {"title": "users", "version": "2.1", "description": "Who is who."},
    "methods": [
        {
            "name": "get_user",
            "summary": "Return a user.",
            "params": [
                {
                    "name": "id",
                    "required": True,
                    "schema": {"type": "integer", "minimum": 1},
                    "description": "its number",
                },
                {"name": "deep", "schema": {"type": "boolean", "default": False}},
                {"name": "note", "schema": {"type": "string"}},
            ],
            "result": {"name": "user", "schema": {"$ref": "#/components/schemas/User"}},
            "errors": [{"code": 404, "message": "no such user"}],
        },
        {"name": "old", "params": [], "paramStructure": "by-name", "deprecated": True},
        {
            "name": "tag",
            "paramStructure": "by-position",
            "params": [{"$ref": "#/components/contentDescriptors/Tag"}],
            "result": {"name": "r", "schema": {"type": "null"}},
        },
    ],
    "components": {
        "contentDescriptors": {"Tag": {"name": "tag", "required": True, "schema": {"enum": ["a", "b"]}}},
        "schemas": {
            "User": {
                "title": "User",
                "type": "object",
                "description": "Somebody.",
                "properties": {
                    "id": {"type": "integer"},
                    "name": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["id"],
            },
        },
    },
}

TEXT = """\
users 2.1
Who is who.

get_user(id: integer (>= 1), deep: boolean = false, [note: string]) -> User
    Return a user.
    id: its number
    error 404: no such user

old() (deprecated)

tag(tag: "a" | "b") -> null (by position only)

User:
    Somebody.
    id: integer
    name: string | null = null
    tags: array of string, may be absent"""


def test_a_document_is_shown_as_signatures_and_types() -> None:
    assert describe(DOCUMENT) == TEXT


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string", "minLength": 1, "maxLength": 5}, "string (at least 1 characters, at most 5 characters)"),
        ({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "array of (string | null)"),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {}]}, "[integer, any]"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": 1}, "1"),
        ({"type": "string", "format": "date-time"}, "string (date-time)"),
        (True, "any"),
        (None, "any"),
        ({}, "any"),
    ],
)
def test_a_schema_is_a_short_text(schema: object, text: str) -> None:
    assert type_text(schema) == text


def test_a_document_without_methods_says_so() -> None:
    assert describe({"methods": []}) == "a service\n\nno methods"


WORDS = "name params schema result errors $ref required type items enum anyOf properties schemas description summary"
KEYS = st.text(max_size=5) | st.sampled_from([*WORDS.split(), "prefixItems", "additionalProperties"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["info", "methods", "components"]), JSON))
def test_no_document_makes_it_fail(document: dict[str, Any]) -> None:
    assert isinstance(describe(document), str)
