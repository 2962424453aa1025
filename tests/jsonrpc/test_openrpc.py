"""The description of a server: valid by the rules of OpenRPC, and as true as the annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from sipwright.jsonrpc.rpc_connection import RpcConnection
from sipwright.jsonrpc.server import Server
from tests.jsonrpc.wire import Wire, serve


class Address(msgspec.Struct):
    """Where somebody lives."""

    city: str
    number: int = 0


@dataclass
class User:
    id: int
    addresses: list[Address]


class Strange:
    """Nothing that JSON knows."""


def make_server() -> Server:
    server = Server(title="Users", version="2.1")

    @server.method("user.get")
    async def get_user(
        id: Annotated[int, msgspec.Meta(ge=1, description="the number of the user")],  # noqa: A002
        fields: list[Literal["id", "addresses"]] | None = None,
        *,
        client: RpcConnection,
    ) -> User:
        """Return a user.

        With all of the addresses, unless
        `fields` says otherwise.
        """
        raise NotImplementedError

    @server.method
    def plain(a, b=1.5, *rest):  # type: ignore[no-untyped-def]
        return a

    @server.method
    def named(*, user: User, odd: Strange | None = None) -> None:
        pass

    return server


def check_document(found: Any) -> None:
    """Hold a document to what the meta schema of OpenRPC requires."""
    assert found["openrpc"].split(".")[:2] == ["1", "3"]
    assert {type(found["info"][name]) for name in ("title", "version")} == {str}
    names = [method["name"] for method in found["methods"]]
    assert len(set(names)) == len(names)
    for method in found["methods"]:
        assert method["paramStructure"] in ("by-name", "by-position", "either")
        described = [param["name"] for param in method["params"]]
        assert len(set(described)) == len(described)
        for content in [*method["params"], method["result"]]:
            assert isinstance(content["name"], str)
            assert isinstance(content["schema"], dict)
            check_references(content["schema"], found)
        required = [param["required"] for param in method["params"]]
        assert method["paramStructure"] == "by-name" or required == sorted(required, reverse=True)
    for schema in found.get("components", {}).get("schemas", {}).values():
        check_references(schema, found)


def check_references(schema: Any, found: Any) -> None:
    if isinstance(schema, dict):
        if "$ref" in schema:
            prefix, _, name = schema["$ref"].rpartition("/")
            assert prefix == "#/components/schemas"
            assert name in found["components"]["schemas"]
        for inner in schema.values():
            check_references(inner, found)
    elif isinstance(schema, list):
        for inner in schema:
            check_references(inner, found)


def test_the_document_says_what_the_annotations_say() -> None:
    found = make_server().discover()
    check_document(found)
    assert found["info"] == {"title": "Users", "version": "2.1"}
    get, plain, named = found["methods"]
    assert get["name"] == "user.get"
    assert get["summary"] == "Return a user."
    assert get["description"] == "With all of the addresses, unless\n`fields` says otherwise."
    assert get["params"] == [
        {
            "name": "id",
            "required": True,
            "schema": {"type": "integer", "minimum": 1, "description": "the number of the user"},
        },
        {
            "name": "fields",
            "required": False,
            "schema": {
                "anyOf": [{"type": "array", "items": {"enum": ["addresses", "id"]}}, {"type": "null"}],
                "default": None,
            },
        },
    ]
    assert get["result"] == {"name": "result", "schema": {"$ref": "#/components/schemas/User"}}
    assert found["components"]["schemas"]["Address"]["properties"]["number"] == {"type": "integer", "default": 0}
    assert [(param["name"], param["required"], param["schema"]) for param in plain["params"]] == [
        ("a", True, {}),
        ("b", False, {"default": 1.5}),
        ("rest", False, {"description": "any number of them"}),
    ]
    assert (get["paramStructure"], plain["paramStructure"], named["paramStructure"]) == (
        "either",
        "by-position",
        "by-name",
    )
    assert "summary" not in plain
    assert named["params"][1] == {"name": "odd", "required": False, "schema": {"default": None}}
    assert named["result"]["schema"] == {"type": "null"}


def test_clients_get_it_from_rpc_discover_and_methods_that_were_added_later_are_in_it() -> None:
    server = make_server()

    async def test(wire: Wire) -> None:
        found = (await wire.ask("rpc.discover"))["result"]
        check_document(found)
        assert found == server.discover()
        server.add_method("late", lambda: None)
        assert [m["name"] for m in (await wire.ask("rpc.discover"))["result"]["methods"]][-1] == "late"

    serve(server, test)


def test_a_server_may_keep_it_to_itself_or_describe_itself_otherwise() -> None:
    hidden, own = Server(discover=False), Server()

    @own.method("rpc.discover")
    def discover() -> str:
        return "ask the manual"

    async def refused(wire: Wire) -> None:
        assert (await wire.ask("rpc.discover"))["error"]["code"] == -32601

    async def replaced(wire: Wire) -> None:
        assert (await wire.ask("rpc.discover"))["result"] == "ask the manual"

    serve(hidden, refused)
    serve(own, replaced)
    assert [method["name"] for method in own.discover()["methods"]] == ["rpc.discover"]


def test_of_two_types_of_one_name_the_second_is_described_as_anything() -> None:
    server = Server()

    def make(kind: type) -> type[msgspec.Struct]:
        return msgspec.defstruct("User", [("x", kind)])

    One, Two = make(int), make(str)  # noqa: N806

    @server.method
    def one(user: One) -> None:  # type: ignore[valid-type]
        assert One

    @server.method
    def two(user: Two) -> None:  # type: ignore[valid-type]
        assert Two

    found = server.discover()
    check_document(found)
    assert [method["params"][0]["schema"] for method in found["methods"]] == [{"$ref": "#/components/schemas/User"}, {}]
