"""Variables that are URIs of the message, and their parts: `$ru` and `$du` (writable), `$ou`, `$fu`, `$tu` and kin.

A part that a URI does not have is `$null`, but for ports and protocols, which have their defaults, as in Kamailio.
"""

from __future__ import annotations

from sipwright.lang.namespace import Value
from sipwright.modules.pv.name_addr import display_name
from sipwright.script.context import Context
from sipwright.script.kinds import to_int
from sipwright.script.module import Module, pvar
from sipwright.script.uris import change_request_uri, parsed_request_uri, parsed_uri
from sipwright.sip.uri import Uri


class UriVariables(Module):
    """The variables of Request-URI, destination URI, From and To."""

    # ---- Request-URI

    @pvar("ru", setter="set_ru")
    def pv_ru(self, ctx: Context) -> Value:
        """The Request-URI, with the script's changes."""
        uri = ctx.uri
        return ctx.message.uri if uri is None else uri

    def set_ru(self, ctx: Context, value: Value) -> None:
        """Replace the Request-URI."""
        if value is None:
            self._refuse("ru", value)
        else:
            ctx.uri = str(value)

    @pvar("rU", setter="set_ru_user")
    def pv_ru_user(self, ctx: Context) -> Value:
        """The user part of the Request-URI; the number of a `tel:` URI."""
        uri = parsed_request_uri(ctx)
        return None if uri is None else uri.user

    def set_ru_user(self, ctx: Context, value: Value) -> None:
        """Replace the user part; without one, the password goes too."""
        if not change_request_uri(ctx, user=None if value is None or value == "" else str(value)):
            self._refuse("rU", value)

    @pvar("rd", setter="set_ru_host")
    def pv_ru_host(self, ctx: Context) -> Value:
        """The host of the Request-URI, without port."""
        return _host(parsed_request_uri(ctx))

    def set_ru_host(self, ctx: Context, value: Value) -> None:
        """Replace the host."""
        if value is None or not change_request_uri(ctx, host=str(value)):
            self._refuse("rd", value)

    @pvar("rp", setter="set_ru_port")
    def pv_ru_port(self, ctx: Context) -> Value:
        """The port of the Request-URI, 5060 when it has none."""
        return _port(parsed_request_uri(ctx))

    def set_ru_port(self, ctx: Context, value: Value) -> None:
        """Replace the port; `$null` removes it."""
        try:
            port = None if value is None or value == "" else to_int(value)
        except ValueError:
            port = -1
        if port == -1 or not change_request_uri(ctx, port=port):
            self._refuse("rp", value)

    @pvar("rP")
    def pv_ru_transport(self, ctx: Context) -> Value:
        """The transport parameter of the Request-URI as written, `UDP` when it has none."""
        return _transport(parsed_request_uri(ctx))

    @pvar("rz")
    def pv_ru_scheme(self, ctx: Context) -> Value:
        """The scheme of the Request-URI."""
        uri = parsed_request_uri(ctx)
        return None if uri is None else uri.scheme

    @pvar("rUl")
    def pv_ru_user_length(self, ctx: Context) -> Value:
        """The length of `$rU`."""
        return _user_length(parsed_request_uri(ctx))

    # ---- Request-URI as it came

    @pvar("ou")
    def pv_ou(self, ctx: Context) -> Value:
        """The Request-URI as it came."""
        return ctx.message.uri

    @pvar("oU")
    def pv_ou_user(self, ctx: Context) -> Value:
        """The user part of the Request-URI as it came."""
        uri = parsed_uri(ctx.message.uri)
        return None if uri is None else uri.user

    @pvar("od")
    def pv_ou_host(self, ctx: Context) -> Value:
        """The host of the Request-URI as it came."""
        return _host(parsed_uri(ctx.message.uri))

    @pvar("op")
    def pv_ou_port(self, ctx: Context) -> Value:
        """The port of the Request-URI as it came."""
        return _port(parsed_uri(ctx.message.uri))

    @pvar("oP")
    def pv_ou_transport(self, ctx: Context) -> Value:
        """The transport of the Request-URI as it came."""
        return _transport(parsed_uri(ctx.message.uri))

    @pvar("oUl")
    def pv_ou_user_length(self, ctx: Context) -> Value:
        """The length of `$oU`."""
        return _user_length(parsed_uri(ctx.message.uri))

    # ---- destination URI

    @pvar("du", setter="set_du")
    def pv_du(self, ctx: Context) -> Value:
        """Where the request goes instead of to its Request-URI; `$null` when it goes there."""
        return ctx.dst_uri

    def set_du(self, ctx: Context, value: Value) -> None:
        """Set or, with `$null`, reset the destination."""
        ctx.dst_uri = None if value is None or value == "" else str(value)

    @pvar("dd")
    def pv_du_host(self, ctx: Context) -> Value:
        """The host of `$du`."""
        return _host(_destination(ctx))

    @pvar("dp")
    def pv_du_port(self, ctx: Context) -> Value:
        """The port of `$du`."""
        return _port(_destination(ctx))

    @pvar("dP")
    def pv_du_transport(self, ctx: Context) -> Value:
        """The transport of `$du`."""
        return _transport(_destination(ctx))

    # ---- From and To

    @pvar("fu")
    def pv_fu(self, ctx: Context) -> Value:
        """The URI of the From header."""
        return ctx.message.from_.uri

    @pvar("fU")
    def pv_fu_user(self, ctx: Context) -> Value:
        """The user part of the From URI."""
        uri = parsed_uri(ctx.message.from_.uri)
        return None if uri is None else uri.user

    @pvar("fd")
    def pv_fu_host(self, ctx: Context) -> Value:
        """The host of the From URI."""
        return _host(parsed_uri(ctx.message.from_.uri))

    @pvar("fUl")
    def pv_fu_user_length(self, ctx: Context) -> Value:
        """The length of `$fU`."""
        return _user_length(parsed_uri(ctx.message.from_.uri))

    @pvar("fn")
    def pv_fn(self, ctx: Context) -> Value:
        """The display name of the From header, with its quotes."""
        return display_name(ctx.message.header("from")) or None

    @pvar("ft")
    def pv_ft(self, ctx: Context) -> Value:
        """The tag of the From header."""
        return ctx.message.from_tag

    @pvar("tu")
    def pv_tu(self, ctx: Context) -> Value:
        """The URI of the To header."""
        return ctx.message.to.uri

    @pvar("tU")
    def pv_tu_user(self, ctx: Context) -> Value:
        """The user part of the To URI."""
        uri = parsed_uri(ctx.message.to.uri)
        return None if uri is None else uri.user

    @pvar("td")
    def pv_tu_host(self, ctx: Context) -> Value:
        """The host of the To URI."""
        return _host(parsed_uri(ctx.message.to.uri))

    @pvar("tUl")
    def pv_tu_user_length(self, ctx: Context) -> Value:
        """The length of `$tU`."""
        return _user_length(parsed_uri(ctx.message.to.uri))

    @pvar("tn")
    def pv_tn(self, ctx: Context) -> Value:
        """The display name of the To header, with its quotes."""
        return display_name(ctx.message.header("to")) or None

    @pvar("tt")
    def pv_tt(self, ctx: Context) -> Value:
        """The tag of the To header."""
        return ctx.message.to_tag

    def _refuse(self, name: str, value: Value) -> None:
        # Kamailio: the assignment fails with a log line and the script goes on.
        self.services.log.error("$%s was not set: %r makes no valid URI", name, value)


def _destination(ctx: Context) -> Uri | None:
    return None if ctx.dst_uri is None else parsed_uri(ctx.dst_uri)


def _host(uri: Uri | None) -> Value:
    return None if uri is None else uri.host or None


def _port(uri: Uri | None) -> Value:
    return None if uri is None else uri.port or 5060


def _transport(uri: Uri | None) -> Value:
    if uri is None:
        return None
    # Kamailio: UDP for a sips URI as well.
    return uri.params.get("transport") or "UDP" if "ransport" in uri.params_text else "UDP"


def _user_length(uri: Uri | None) -> Value:
    return len(uri.user or "") if uri is not None else 0
