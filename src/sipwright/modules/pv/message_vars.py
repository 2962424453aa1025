"""Variables that show the message, its headers and where it came from. All of them are read only.

URIs of the message are in uri_vars.py, the time in time_vars.py.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from sipwright.errors import ArgumentError, SipParseError
from sipwright.lang.namespace import Value, Variable
from sipwright.script.context import Context
from sipwright.script.kinds import prepare_text
from sipwright.script.module import Module, VariableUse, pvar, pvar_factory
from sipwright.sip.grammar import split_values
from sipwright.sip.headers import header_key, parse_number
from sipwright.sip.message import Message

_LISTS = ("contact", "record-route", "route", "via")


class MessageVariables(Module):
    """The variables of the message."""

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self._ids = itertools.count(1)

    # ---- first line, body, buffer

    @pvar("rm")
    def pv_rm(self, ctx: Context) -> Value:
        """The method."""
        return ctx.message.method

    @pvar("rv")
    def pv_rv(self, ctx: Context) -> Value:
        """The version, `SIP/2.0`."""
        return ctx.message.version

    @pvar("rs")
    def pv_rs(self, ctx: Context) -> Value:
        """The status code of the reply; `$null` where there is none."""
        return None if ctx.response is None else ctx.response.status

    @pvar("rr")
    def pv_rr(self, ctx: Context) -> Value:
        """The reason phrase of the reply."""
        return None if ctx.response is None else ctx.response.reason

    @pvar("mt")
    def pv_mt(self, ctx: Context) -> Value:
        """1 for a request, 2 for a reply."""
        return 1 if ctx.response is None else 2

    @pvar("mi")
    def pv_mi(self, ctx: Context) -> Value:
        """A number of the message, in the order in which messages asked for it; of this worker only."""
        if ctx.extra is None:
            ctx.extra = {}
        if "mi" not in ctx.extra:
            ctx.extra["mi"] = next(self._ids)
        number: int = ctx.extra["mi"]
        return number

    @pvar("rb")
    def pv_rb(self, ctx: Context) -> Value:
        """The body."""
        return ctx.message.body.decode("utf-8", "surrogateescape")

    @pvar("bs")
    def pv_bs(self, ctx: Context) -> Value:
        """The size of the body in bytes."""
        return len(ctx.message.body)

    @pvar("mb")
    def pv_mb(self, ctx: Context) -> Value:
        """The whole message as it came."""
        return ctx.message.data.decode("utf-8", "surrogateescape")

    @pvar("ml")
    def pv_ml(self, ctx: Context) -> Value:
        """The length of the message in bytes."""
        return len(ctx.message.data)

    # ---- headers of their own

    @pvar("ci")
    def pv_ci(self, ctx: Context) -> Value:
        """The Call-ID."""
        return ctx.message.call_id

    @pvar("cs")
    def pv_cs(self, ctx: Context) -> Value:
        """The number of the CSeq header."""
        return ctx.message.cseq_number

    @pvar("csb")
    def pv_csb(self, ctx: Context) -> Value:
        """The CSeq header."""
        return f"{ctx.message.cseq_number} {ctx.message.cseq_method}"

    @pvar("ct")
    def pv_ct(self, ctx: Context) -> Value:
        """The Contact header."""
        return ctx.message.header("contact")

    @pvar("cT")
    def pv_content_type(self, ctx: Context) -> Value:
        """The Content-Type header."""
        return ctx.message.header("content-type")

    @pvar("cl")
    def pv_cl(self, ctx: Context) -> Value:
        """The Content-Length header, an integer."""
        value = ctx.message.header("content-length")
        return None if value is None else int(value)

    @pvar("ua")
    def pv_ua(self, ctx: Context) -> Value:
        """The User-Agent header."""
        return ctx.message.header("user-agent")

    # ---- headers by name

    @pvar_factory("hdr")
    def pv_hdr(self, use: VariableUse) -> Variable:
        """The value of a header line: the first, or the one of the index; -1 the last, `*` all, with commas between."""
        name = _header_name(use)
        if use.index is None and isinstance(name, str) and name != "*":
            return Variable(use.text, _first_header(name))
        return Variable(use.text, _indexed(use, _lines_of(name)))

    @pvar_factory("hdrc")
    def pv_hdrc(self, use: VariableUse) -> Variable:
        """How many header lines of a name there are."""
        lines = _lines_of(_header_name(use))
        return Variable(use.text, lambda ctx: len(lines(ctx)))

    @pvar_factory("hfl")
    def pv_hfl(self, use: VariableUse) -> Variable:
        """Like `$hdr`, but counts each value of Contact, Record-Route, Route and Via."""
        return Variable(use.text, _indexed(use, _values_of(_header_name(use))))

    @pvar_factory("hflc")
    def pv_hflc(self, use: VariableUse) -> Variable:
        """How many values the headers of a name have."""
        values = _values_of(_header_name(use))
        return Variable(use.text, lambda ctx: len(values(ctx)))

    @pvar_factory("expires")
    def pv_expires(self, use: VariableUse) -> Variable:
        """`$expires(min)` or `$expires(max)` of the contacts, of the Expires header where they have none."""
        key = _choice(use, ("min", "max"))
        choose: Callable[[list[int]], int] = min if key == "min" else max
        return Variable(use.text, lambda ctx: choose(found) if (found := _expires(ctx.message)) else None)

    # ---- where it came from, where it came in

    @pvar("si")
    def pv_si(self, ctx: Context) -> Value:
        """The IP address that the message came from."""
        return ctx.source[0]

    @pvar("siz")
    def pv_siz(self, ctx: Context) -> Value:
        """`$si`, an IPv6 address in brackets."""
        return _bracketed(ctx.source[0])

    @pvar("sp")
    def pv_sp(self, ctx: Context) -> Value:
        """The port that the message came from."""
        return ctx.source[1]

    @pvar("su")
    def pv_su(self, ctx: Context) -> Value:
        """The source as a URI, with its transport unless that is UDP."""
        return _as_uri(ctx.source[0], ctx.source[1], ctx.socket.proto, udp="")

    @pvar("sut")
    def pv_sut(self, ctx: Context) -> Value:
        """The source as a URI, with its transport."""
        return _as_uri(ctx.source[0], ctx.source[1], ctx.socket.proto, udp=";transport=udp")

    @pvar("sas")
    def pv_sas(self, ctx: Context) -> Value:
        """The source as `proto:address:port`."""
        return f"{ctx.socket.proto}:{_bracketed(ctx.source[0])}:{ctx.source[1]}"

    @pvar("proto", "pr")
    def pv_proto(self, ctx: Context) -> Value:
        """The transport that the message came over, in lower case."""
        return ctx.socket.proto

    @pvar("Ri", "RAi")
    def pv_received_ip(self, ctx: Context) -> Value:
        """The IP address that the message came to."""
        return ctx.socket.address[0]

    @pvar("Rp", "RAp")
    def pv_received_port(self, ctx: Context) -> Value:
        """The port that the message came to."""
        return ctx.socket.address[1]

    @pvar("Ru", "RAu")
    def pv_received_uri(self, ctx: Context) -> Value:
        """The socket that the message came to as a URI, with its transport unless that is UDP."""
        host, port = ctx.socket.address[:2]
        return _as_uri(host, port, ctx.socket.proto, udp="")

    @pvar("Rut", "RAut")
    def pv_received_uri_transport(self, ctx: Context) -> Value:
        """The socket that the message came to as a URI, with its transport."""
        host, port = ctx.socket.address[:2]
        return _as_uri(host, port, ctx.socket.proto, udp=";transport=udp")

    # ---- transaction and server

    @pvar_factory("T")
    def pv_transaction(self, use: VariableUse) -> Variable:
        """The numbers that find the transaction: `$T(id_index)` and `$T(id_label)`; `$null` without one."""
        position = 0 if _choice(use, ("id_index", "id_label")) == "id_index" else 1

        def get(ctx: Context) -> Value:
            label = self.services.transaction_label(ctx)
            return None if label is None else label[position]

        return Variable(use.text, get)

    @pvar("pp")
    def pv_pp(self, _ctx: Context) -> Value:
        """The process id."""
        return self.services.pid

    @pvar_factory("version")
    def pv_version(self, use: VariableUse) -> Variable:
        """The version of this program: `$version(num)`, `$version(full)`."""
        number = version("sipwright")
        text = number if _choice(use, ("num", "full")) == "num" else f"sipwright {number}"
        return Variable(use.text, lambda _ctx: text)

    @pvar_factory("env")
    def pv_env(self, use: VariableUse) -> Variable:
        """An environment variable."""
        name = use.fixed_inner()
        return Variable(use.text, lambda _ctx: os.environ.get(name))

    @pvar_factory("_s")
    def pv_format(self, use: VariableUse) -> Variable:
        """The text in the parentheses with its variables filled in."""
        return Variable(use.text, prepare_text(use.inner or ()))


def _choice(use: VariableUse, choices: tuple[str, ...]) -> str:
    """Return the inner name, one of the choices. ArgumentError: it is another, or there is an index."""
    name = use.fixed_inner()
    if name not in choices:
        raise ArgumentError(f"expected ${use.name}({'|'.join(choices)}), found {name!r}")
    if use.index is not None:
        raise ArgumentError(f"${use.name} takes no index")
    return name


def _header_name(use: VariableUse) -> str | Callable[[Context], str]:
    inner = use.inner
    if inner and any(isinstance(part, Variable) for part in inner):
        return prepare_text(inner)
    return use.fixed_inner()


def _first_header(name: str) -> Callable[[Context], Value]:
    key = header_key(name)

    def get(ctx: Context) -> Value:
        for field in ctx.message.fields():
            if field[0] == key:
                return field[2]
        return None

    return get


def _lines_of(name: str | Callable[[Context], str]) -> Callable[[Context], list[str]]:
    if name == "*":
        return lambda ctx: [field[2] for field in ctx.message.fields()]
    if isinstance(name, str):
        return lambda ctx: ctx.message.headers(name)
    return lambda ctx: ctx.message.headers(name(ctx))


def _values_of(name: str | Callable[[Context], str]) -> Callable[[Context], list[str]]:
    def values(ctx: Context) -> list[str]:
        found = name if isinstance(name, str) else name(ctx)
        lines = ctx.message.headers(found)
        if header_key(found) not in _LISTS:
            return lines
        try:
            return [value for line in lines for value in split_values(line)]
        except SipParseError:
            return lines

    return values


def _indexed(use: VariableUse, lines: Callable[[Context], list[str]]) -> Callable[[Context], Value]:
    """Return a function that picks the line of the index of a variable."""
    index = use.index
    if index == "*":
        return lambda ctx: ",".join(found) if (found := lines(ctx)) else None

    def get(ctx: Context) -> Value:
        found = lines(ctx)
        number = index.get(ctx) if isinstance(index, Variable) else index or 0
        if not isinstance(number, int) or not -len(found) <= number < len(found):
            return None
        return found[number]

    return get


def _expires(message: Message) -> list[int]:
    values = [contact.params["expires"] for contact in message.contacts if contact.params.get("expires")]
    header = message.header("expires")
    if not values and header is not None:
        values = [header]
    numbers = []
    for value in values:
        try:
            numbers.append(parse_number(value or ""))
        except SipParseError:
            continue
    return numbers


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and host[0] != "[" else host


def _as_uri(host: str, port: int, proto: str, udp: str) -> str:
    # RFC 7118 section 4.1: one transport parameter, ws, for both.
    transport = udp if proto == "udp" else f";transport={'ws' if proto == 'wss' else proto}"
    return f"sip:{_bracketed(host)}:{port}{transport}"
