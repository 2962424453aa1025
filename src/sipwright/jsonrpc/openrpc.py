"""The OpenRPC document of a server's methods (L0): signatures, docstrings and defaults to what `rpc.discover` returns.

The form is that of OpenRPC 1.3 (https://spec.open-rpc.org); types become JSON Schemas, those with a name once, below
`components`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sipwright.jsonrpc.dispatch import Method
from sipwright.jsonrpc.messages import decode_json, encode_json

VERSION: Final = "1.3.2"
REFERENCE: Final = "#/components/schemas/{name}"
DISCOVER: Final = "rpc.discover"

Json = dict[str, Any]


def document(methods: Iterable[Method], title: str, version: str) -> Json:
    """Return the document. Types that have no JSON Schema are described as anything."""
    methods = list(methods)
    types = [kind for method in methods for kind in (*method.types.values(), method.result)]
    schemas, components = _schemas(types)
    left = iter(schemas)
    described = [_method(method, [next(left) for _ in method.types], next(left)) for method in methods]
    found: Json = {"openrpc": VERSION, "info": {"title": title, "version": version}, "methods": described}
    if components:
        found["components"] = {"schemas": components}
    return found


def _method(method: Method, schemas: list[Json], result: Json) -> Json:
    text = inspect.getdoc(method.function) or ""
    summary, _, rest = text.partition("\n")
    found: Json = {"name": method.name}
    if summary:
        found["summary"] = summary
    if rest.strip():
        found["description"] = rest.strip()
    kinds = {parameter.kind for parameter in method.listed}
    found["paramStructure"] = _structure(kinds)
    found["params"] = [_param(parameter, schema) for parameter, schema in zip(method.listed, schemas, strict=True)]
    found["result"] = {"name": "result", "schema": result}
    return found


def _param(parameter: inspect.Parameter, schema: Json) -> Json:
    is_rest = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    is_required = parameter.default is parameter.empty and not is_rest
    if is_rest:
        schema = {**schema, "description": "any number of them"}
    elif not is_required:
        # None for one that JSON does not know.
        with contextlib.suppress(Exception):
            schema = {**schema, "default": decode_json(encode_json(parameter.default))}
    return {"name": parameter.name, "required": is_required, "schema": schema}


def _structure(kinds: set[Any]) -> str:
    if inspect.Parameter.KEYWORD_ONLY in kinds:
        return "by-name"
    if inspect.Parameter.POSITIONAL_ONLY in kinds or inspect.Parameter.VAR_POSITIONAL in kinds:
        return "by-position"
    return "either"


def _schemas(types: list[Any]) -> tuple[list[Json], dict[str, Any]]:
    """Return the schema of each type, and those that these refer to by name."""
    known = [kind if _has_schema(kind) else Any for kind in types]
    try:
        schemas, components = msgspec.json.schema_components(known, ref_template=REFERENCE)
    except KeyError:
        # msgspec cannot tell apart two classes that have module and name in common: the first of them has it.
        return _schemas_one_by_one(known)
    return list(schemas), components


def _schemas_one_by_one(types: list[Any]) -> tuple[list[Json], dict[str, Any]]:
    schemas: list[Json] = []
    components: dict[str, Any] = {}
    for kind in types:
        (schema,), found = msgspec.json.schema_components([kind], ref_template=REFERENCE)
        if all(components.get(name, one) == one for name, one in found.items()):
            components.update(found)
            schemas.append(schema)
        else:
            schemas.append({})
    return schemas, components


def _has_schema(kind: Any) -> bool:
    try:
        msgspec.json.schema(kind)
    except Exception:  # TypeError, and what the type's own code raises
        return False
    return True
