"""The transformations of addresses: `{uri.*}`, `{nameaddr.*}`, `{tobody.*}`, `{sock.*}` and `{urialias.*}`.

A part that is missing, or of a text that is no address at all, is the empty string (Kamailio's transformations
cookbook).
"""

from __future__ import annotations

from sipwright.errors import SipParseError
from sipwright.lang.namespace import Value
from sipwright.modules.pv.kinds import text_of
from sipwright.modules.pv.name_addr import display_name, name_addr
from sipwright.script.kinds import NullableStr
from sipwright.script.module import Module, transform
from sipwright.script.uris import parsed_uri
from sipwright.sip.grammar import parse_host_port, parse_params
from sipwright.sip.uri import Uri

# Kamailio's numbers of protocols.
_PROTOCOLS = {"udp": "1", "tcp": "2", "tls": "3", "sctp": "4", "ws": "5", "wss": "6"}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}


class UriTransformations(Module):
    """Parts of a URI."""

    @transform("uri.user")
    def uri_user(self, value: Value) -> Value:
        """The user part."""
        uri = _uri(value)
        return (uri.user if uri is not None else None) or ""

    @transform("uri.passwd")
    def uri_passwd(self, value: Value) -> Value:
        """The password."""
        uri = _uri(value)
        return (uri.password if uri is not None else None) or ""

    @transform("uri.host")
    def uri_host(self, value: Value) -> Value:
        """The host."""
        uri = _uri(value)
        return uri.host if uri is not None else ""

    @transform("uri.domain")
    def uri_domain(self, value: Value) -> Value:
        """The host."""
        return self.uri_host(value)

    @transform("uri.port")
    def uri_port(self, value: Value) -> Value:
        """The port."""
        uri = _uri(value)
        return "" if uri is None or uri.port is None else uri.port

    @transform("uri.scheme")
    def uri_scheme(self, value: Value) -> Value:
        """The scheme."""
        uri = _uri(value)
        return "" if uri is None else uri.scheme

    @transform("uri.params")
    def uri_params(self, value: Value) -> Value:
        """All parameters as one text."""
        uri = _uri(value)
        return "" if uri is None else uri.params_text

    @transform("uri.param")
    def uri_param(self, value: Value, name: NullableStr) -> Value:
        """The value of one parameter."""
        return _param(_uri(value), name)

    @transform("uri.headers")
    def uri_headers(self, value: Value) -> Value:
        """All headers as one text."""
        uri = _uri(value)
        return "" if uri is None else uri.headers_text

    @transform("uri.transport")
    def uri_transport(self, value: Value) -> Value:
        """The transport parameter."""
        return _param(_uri(value), "transport")

    @transform("uri.ttl")
    def uri_ttl(self, value: Value) -> Value:
        """The ttl parameter."""
        return _param(_uri(value), "ttl")

    @transform("uri.uparam")
    def uri_uparam(self, value: Value) -> Value:
        """The user parameter."""
        return _param(_uri(value), "user")

    @transform("uri.maddr")
    def uri_maddr(self, value: Value) -> Value:
        """The maddr parameter."""
        return _param(_uri(value), "maddr")

    @transform("uri.method")
    def uri_method(self, value: Value) -> Value:
        """The method parameter."""
        return _param(_uri(value), "method")

    @transform("uri.lr")
    def uri_lr(self, value: Value) -> Value:
        """The value of the lr parameter."""
        return _param(_uri(value), "lr")

    @transform("uri.r2")
    def uri_r2(self, value: Value) -> Value:
        """The value of the r2 parameter."""
        return _param(_uri(value), "r2")

    @transform("uri.tosocket")
    def uri_tosocket(self, value: Value) -> Value:
        """The URI as `proto:host:port`; empty when it has no port."""
        uri = _uri(value)
        if uri is None or uri.port is None:
            return ""
        return f"{_param(uri, 'transport').lower() or 'udp'}:{uri.host}:{uri.port}"

    @transform("uri.duri")
    def uri_duri(self, value: Value) -> Value:
        """The URI's scheme, host, port and transport: where to send to."""
        uri = _uri(value)
        return "" if uri is None else _short(uri.replace(user=None, password=None))

    @transform("uri.saor")
    def uri_saor(self, value: Value) -> Value:
        """The URI's scheme, user and host: whom it names."""
        uri = _uri(value)
        return "" if uri is None else _short(uri.replace(password=None, port=None, params_text=""))

    @transform("uri.suri")
    def uri_suri(self, value: Value) -> Value:
        """The URI's scheme, user, host, port and transport."""
        uri = _uri(value)
        return "" if uri is None else _short(uri.replace(password=None))

    # ---- sockets and aliases

    @transform("sock.proto")
    def sock_proto(self, value: Value) -> Value:
        """The protocol of `proto:host:port`."""
        return _socket(value)[0]

    @transform("sock.host")
    def sock_host(self, value: Value) -> Value:
        """The host of `proto:host:port`, IPv6 in brackets."""
        return _socket(value)[1]

    @transform("sock.port")
    def sock_port(self, value: Value) -> Value:
        """The port of `proto:host:port`."""
        return _socket(value)[2]

    @transform("sock.touri")
    def sock_touri(self, value: Value) -> Value:
        """`proto:host:port` as a URI."""
        proto, host, port = _socket(value)
        return f"sip:{host}:{port};transport={proto}" if host else ""

    @transform("urialias.encode")
    def urialias_encode(self, value: Value) -> Value:
        """The host, port and transport of a URI as `host~port~number`."""
        uri = _uri(value)
        if uri is None:
            return ""
        return f"{uri.host}~{uri.port or 5060}~{_PROTOCOLS.get(_param(uri, 'transport').lower(), '1')}"

    @transform("urialias.decode")
    def urialias_decode(self, value: Value) -> Value:
        """The URI of an alias `host~port~number`."""
        host, _, rest = text_of(value).partition("~")
        port, _, number = rest.partition("~")
        proto = _PROTOCOL_NAMES.get(number)
        return f"sip:{host}:{port};transport={proto}" if host and port and proto else ""


class NameAddrTransformations(Module):
    """Parts of a display name with a URI, and of a whole To or From header."""

    @transform("nameaddr.name")
    def nameaddr_name(self, value: Value) -> Value:
        """The display name, with its quotes."""
        return display_name(text_of(value))

    @transform("nameaddr.uri")
    def nameaddr_uri(self, value: Value) -> Value:
        """The URI."""
        return _address(value)

    @transform("nameaddr.len")
    def nameaddr_len(self, value: Value) -> Value:
        """The length of name and URI, without parameters."""
        text = text_of(value)
        end = text.find(">", len(display_name(text)))
        return end + 1 if end >= 0 else len(text)

    @transform("tobody.uri")
    def tobody_uri(self, value: Value) -> Value:
        """The URI."""
        found = name_addr(text_of(value))
        return "" if found is None else found.uri

    @transform("tobody.display")
    def tobody_display(self, value: Value) -> Value:
        """The display name, with its quotes."""
        return display_name(text_of(value))

    @transform("tobody.tag")
    def tobody_tag(self, value: Value) -> Value:
        """The tag parameter."""
        found = name_addr(text_of(value))
        return (found.tag if found is not None else None) or ""

    @transform("tobody.user")
    def tobody_user(self, value: Value) -> Value:
        """The user part of the URI."""
        found = name_addr(text_of(value))
        uri = parsed_uri(found.uri) if found is not None else None
        return (uri.user if uri is not None else None) or ""

    @transform("tobody.host")
    def tobody_host(self, value: Value) -> Value:
        """The host of the URI."""
        found = name_addr(text_of(value))
        uri = parsed_uri(found.uri) if found is not None else None
        return uri.host if uri is not None else ""

    @transform("tobody.params")
    def tobody_params(self, value: Value) -> Value:
        """The parameters behind the URI, as one text."""
        text = text_of(value)
        return text.rpartition(">")[2].strip().removeprefix(";").strip() if ">" in text else text.partition(";")[2]


def _uri(value: Value) -> Uri | None:
    return parsed_uri(text_of(value))


def _param(uri: Uri | None, name: str) -> str:
    if uri is None or not uri.params_text:
        return ""
    try:
        return parse_params(uri.params_text).get(name.lower()) or ""
    except SipParseError:
        return ""


def _short(uri: Uri) -> str:
    """Return a URI with no other parameter than transport, and no headers."""
    transports = [p for p in uri.params_text.split(";") if p.partition("=")[0].strip().lower() == "transport"]
    return str(uri.replace(params_text=";".join(transports), headers_text=""))


def _address(value: Value) -> str:
    """Return the URI of a name with a URI, or the text itself, parameters included, when it has no brackets."""
    text = text_of(value).strip()
    if "<" not in text:
        return text
    return text[len(display_name(text)) :].partition("<")[2].partition(">")[0].strip()


def _socket(value: Value) -> tuple[str, str, str]:
    proto, _, rest = text_of(value).partition(":")
    try:
        host, port = parse_host_port(rest)
    except SipParseError:
        return "", "", ""
    return proto.lower(), host, "" if port is None else str(port)
