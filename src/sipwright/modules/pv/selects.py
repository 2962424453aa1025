"""The variable `$sel(from.uri.user)`, and the select `@from.uri.user` of old scripts, which is the same.

A select is a path into the message, or to a custom global parameter (`@cfg_get.group.name`). The common ones are here;
what is not in the message gives `$null`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from sipwright.errors import ArgumentError, SipParseError
from sipwright.lang.namespace import Value, Variable
from sipwright.script.context import Context
from sipwright.script.module import Module, VariableUse, pvar_factory
from sipwright.script.uris import parsed_request_uri, parsed_uri
from sipwright.sip.grammar import Params
from sipwright.sip.headers import NameAddr
from sipwright.sip.uri import Uri

_Get = Callable[[Context], Value]

# Selects that are variables, by the methods of module pv that give them.
_VARIABLES = {
    "method": "pv_rm",
    "version": "pv_rv",
    "ruri": "pv_ru",
    "from.name": "pv_fn",
    "from.tag": "pv_ft",
    "to.name": "pv_tn",
    "to.tag": "pv_tt",
    "call_id": "pv_ci",
    "cseq.num": "pv_cs",
    "cseq.method": "pv_rm",
    "msg": "pv_mb",
    "msg.len": "pv_ml",
    "src.ip": "pv_si",
    "src.port": "pv_sp",
    "dst.ip": "pv_received_ip",
    "dst.port": "pv_received_port",
    "received.proto": "pv_proto",
    "received.ip": "pv_received_ip",
    "received.port": "pv_received_port",
    "sys.pid": "pv_pp",
}
# Selects that are whole header lines, their first ones.
_HEADERS = {
    "from": "From",
    "to": "To",
    "contact": "Contact",
    "event": "Event",
    "expires": "Expires",
    "user_agent": "User-Agent",
    "content_type": "Content-Type",
}
_ADDRESSES: dict[str, Callable[[Context], NameAddr | None]] = {
    "from": lambda ctx: ctx.message.from_,
    "to": lambda ctx: ctx.message.to,
    "contact": lambda ctx: next(iter(ctx.message.contacts), None),
}
_URI_PARTS: dict[str, Callable[[Uri], Value]] = {
    "type": lambda uri: uri.scheme,
    "user": lambda uri: uri.user,
    "pwd": lambda uri: uri.password,
    "host": lambda uri: uri.host or None,
    "port": lambda uri: uri.port,
    "hostport": lambda uri: f"{uri.host}:{uri.port or 5060}",
    "params": lambda uri: uri.params_text or None,
}
_VIA_PARTS: dict[str, Callable[[Context], Value]] = {
    "host": lambda ctx: ctx.message.via.host,
    "port": lambda ctx: ctx.message.via.port,
    "transport": lambda ctx: ctx.message.via.transport,
    "branch": lambda ctx: ctx.message.via.branch or None,
}


class Selects(Module):
    """Paths into the message."""

    @pvar_factory("sel")
    def pv_sel(self, use: VariableUse) -> Variable:
        """A select: `$sel(cfg_get.group.name)`, `$sel(contact.uri.host)`, `$sel(msg.header.subject)`; also `@...`."""
        path = use.fixed_inner()
        get = self._select(path)
        if get is None:
            raise ArgumentError(f"unknown select '{path}'")
        return Variable(use.text, get)

    def _select(self, path: str) -> _Get | None:
        if path in _VARIABLES:
            return cast("_Get", getattr(self, _VARIABLES[path]))
        if path in _HEADERS:
            return _header(_HEADERS[path])
        first, *rest = path.split(".")
        if first == "cfg_get":
            return self._custom(".".join(rest))
        if first == "ruri":
            return _uri_part(parsed_request_uri, rest)
        if first in _ADDRESSES and rest:
            return _address_part(_ADDRESSES[first], rest)
        if first in ("via", "via[1]") and len(rest) == 1:
            return _VIA_PARTS.get(rest[0])
        if first == "msg" and len(rest) == 2 and rest[0] in ("header", "h"):
            return _header(rest[1].replace("_", "-"))
        return None

    # A custom global parameter, `group.name = value`: fixed when the script is loaded.
    def _custom(self, name: str) -> _Get:
        custom: dict[str, int | str] = self.require("core").custom_globals
        if name not in custom:
            raise ArgumentError(f"there is no global parameter '{name}'; write {name} = value before the routes")
        value = custom[name]
        return lambda _ctx: value


def _header(name: str) -> _Get:
    return lambda ctx: ctx.message.header(name)


def _address_part(source: Callable[[Context], NameAddr | None], path: list[str]) -> _Get | None:
    if path == ["uri"]:
        return lambda ctx: None if (address := source(ctx)) is None else address.uri
    if path[0] == "uri":
        return _uri_part(lambda ctx: None if (address := source(ctx)) is None else parsed_uri(address.uri), path[1:])
    if path[0] == "params" and len(path) == 2:
        return lambda ctx: None if (address := source(ctx)) is None else address.params.get(path[1].lower())
    return None


def _uri_part(source: Callable[[Context], Uri | None], path: list[str]) -> _Get | None:
    if len(path) == 2 and path[0] == "params":
        return lambda ctx: _value_of(source(ctx), path[1])
    part = _URI_PARTS.get(path[0]) if len(path) == 1 else None
    if part is None:
        return None
    return lambda ctx: None if (uri := source(ctx)) is None else part(uri)


def _value_of(uri: Uri | None, name: str) -> Value:
    try:
        params: Params = {} if uri is None else uri.params
    except SipParseError:
        return None
    return params.get(name.lower())
