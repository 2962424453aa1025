"""An OpenRPC document as a person reads it: signatures, then what they say of themselves.

A document comes from the network: what is not as OpenRPC wants it is shown as `any`, and never an error.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import Any

WIDTH = 110
_LIMITS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} elements",
    "maxItems": "at most {} elements",
    "pattern": "matching {}",
    "format": "{}",
}


def describe(document: dict[str, Any]) -> str:
    """Return a text with the service's name, its methods, and the types that they use."""
    parts = [_title(document)]
    methods = [_resolved(document, method) for method in _list(document, "methods")]
    parts += [_method(document, method) for method in methods]
    if not methods:
        parts.append("no methods")
    schemas = _dict(_dict(document, "components"), "schemas")
    parts += [_schema(name, schema) for name, schema in schemas.items() if isinstance(schema, dict)]
    return "\n\n".join(parts)


def _title(document: dict[str, Any]) -> str:
    info = _dict(document, "info")
    line = " ".join(str(word) for word in (info.get("title", "a service"), info.get("version")) if word)
    return line + _paragraph(info.get("description"), "")


def _method(document: dict[str, Any], method: dict[str, Any]) -> str:
    params = [_resolved(document, param) for param in _list(method, "params")]
    signature = ", ".join(_parameter(param) for param in params)
    result = _resolved(document, method.get("result"))
    arrow = f" -> {type_text(result.get('schema'))}" if result else ""
    marks = " (by name only)" if method.get("paramStructure") == "by-name" and params else ""
    marks += " (by position only)" if method.get("paramStructure") == "by-position" and params else ""
    marks += " (deprecated)" if method.get("deprecated") is True else ""
    text = f"{method.get('name', '?')}({signature}){arrow}{marks}"
    text += _paragraph(method.get("summary"), "    ")
    if method.get("description") != method.get("summary"):
        text += _paragraph(method.get("description"), "    ")
    for param in params:
        if isinstance(param.get("description"), str):
            text += _paragraph(f"{param.get('name', '?')}: {param['description']}", "    ")
    for error in (_resolved(document, error) for error in _list(method, "errors")):
        text += _paragraph(f"error {error.get('code', '?')}: {error.get('message', '')}", "    ")
    return text


def _parameter(param: dict[str, Any]) -> str:
    text = f"{param.get('name', '?')}: {type_text(param.get('schema'))}"
    schema = param.get("schema")
    if isinstance(schema, dict) and "default" in schema:
        return f"{text} = {_json(schema['default'])}"
    return text if param.get("required") is True else f"[{text}]"


def _schema(name: str, schema: dict[str, Any]) -> str:
    properties = _dict(schema, "properties")
    if not properties:
        return f"{name}: {type_text(schema)}" + _paragraph(schema.get("description"), "    ")
    required = _list(schema, "required", dict | str)
    lines = [f"{name}:" + _paragraph(schema.get("description"), "    ")]
    for key, content in properties.items():
        default = f" = {_json(content['default'])}" if isinstance(content, dict) and "default" in content else ""
        optional = "" if key in required or default else ", may be absent"
        lines.append(f"    {key}: {type_text(content)}{default}{optional}")
    return "\n".join(lines)


def type_text(schema: object) -> str:
    """Return a JSON Schema as a short text: `integer`, `array of User`, `string | null`."""
    if not isinstance(schema, dict) or not schema:
        return "any"
    if isinstance(schema.get("$ref"), str):
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return _json(schema["const"])
    if isinstance(schema.get("enum"), list):
        return " | ".join(map(_json, schema["enum"]))
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return " | ".join(map(type_text, schema[key]))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " | ".join(type_text({**schema, "type": one}) for one in kind)
    return _kind(str(kind), schema)


def _kind(kind: str, schema: dict[str, Any]) -> str:
    if kind == "array" and isinstance(schema.get("prefixItems"), list):
        return f"[{', '.join(map(type_text, schema['prefixItems']))}]"
    if kind == "array" and isinstance(schema.get("items"), dict):
        items = type_text(schema["items"])
        kind = f"array of ({items})" if " | " in items else f"array of {items}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind = f"object of {type_text(schema['additionalProperties'])}"
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    return f"{kind} ({', '.join(limits)})" if limits else kind


def _resolved(document: dict[str, Any], item: object) -> dict[str, Any]:
    """Return an object, or what it refers to inside the document."""
    if not isinstance(item, dict):
        return {}
    reference = item.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return item
    found: object = document
    for part in reference[2:].split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _dict(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _list(parent: dict[str, Any], name: str, kind: Any = dict) -> list[Any]:
    value: Iterable[Any] = parent.get(name) or ()
    return [item for item in value if isinstance(item, kind)] if isinstance(value, list) else []


def _paragraph(text: object, indent: str) -> str:
    if not isinstance(text, str) or not text.strip():
        return ""
    lines = text.strip().splitlines()
    return "".join("\n" + textwrap.indent(textwrap.fill(line, WIDTH - len(indent)), indent) for line in lines)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
