"""Variables of the headers that say who someone is: Authorization, P-Asserted-Identity, Diversion and their like."""

from __future__ import annotations

import re

from sipwright.lang.namespace import Value
from sipwright.modules.pv.name_addr import display_name, name_addr
from sipwright.script.context import Context
from sipwright.script.module import Module, pvar
from sipwright.script.uris import parsed_uri
from sipwright.sip.grammar import QUOTED, unquote

_credential = re.compile(rf"\s*([A-Za-z0-9_-]+)\s*=\s*({QUOTED}|[^\s,]*)\s*,?", re.DOTALL)


class IdentityVariables(Module):
    """The variables of identities; each is `$null` when its header is missing or malformed."""

    @pvar("au")
    def pv_auth_user(self, ctx: Context) -> Value:
        """The user part of the username in Authorization or Proxy-Authorization."""
        name = _credentials(ctx).get("username")
        return None if name is None else name.partition("@")[0]

    @pvar("ad")
    def pv_auth_domain(self, ctx: Context) -> Value:
        """The domain part of that username, `$null` without one."""
        name = _credentials(ctx).get("username")
        return None if name is None else name.partition("@")[2] or None

    @pvar("aU")
    def pv_auth_username(self, ctx: Context) -> Value:
        """The whole of that username."""
        return _credentials(ctx).get("username")

    @pvar("ar")
    def pv_auth_realm(self, ctx: Context) -> Value:
        """The realm of the credentials."""
        return _credentials(ctx).get("realm")

    @pvar("aa")
    def pv_auth_algorithm(self, ctx: Context) -> Value:
        """The algorithm of the credentials."""
        return _credentials(ctx).get("algorithm")

    @pvar("adu")
    def pv_auth_uri(self, ctx: Context) -> Value:
        """The URI of the credentials."""
        return _credentials(ctx).get("uri")

    @pvar("ai")
    def pv_asserted(self, ctx: Context) -> Value:
        """The URI of P-Asserted-Identity."""
        return _uri(ctx, "p-asserted-identity")

    @pvar("pu")
    def pv_preferred(self, ctx: Context) -> Value:
        """The URI of P-Preferred-Identity."""
        return _uri(ctx, "p-preferred-identity")

    @pvar("pU")
    def pv_preferred_user(self, ctx: Context) -> Value:
        """The user part of that URI."""
        uri = parsed_uri(_uri(ctx, "p-preferred-identity") or "")
        return None if uri is None else uri.user

    @pvar("pd")
    def pv_preferred_domain(self, ctx: Context) -> Value:
        """The host of that URI."""
        uri = parsed_uri(_uri(ctx, "p-preferred-identity") or "")
        return None if uri is None else uri.host or None

    @pvar("pn")
    def pv_preferred_name(self, ctx: Context) -> Value:
        """The display name in P-Preferred-Identity."""
        return display_name(ctx.message.header("p-preferred-identity")) or None

    @pvar("re")
    def pv_remote_party(self, ctx: Context) -> Value:
        """The URI of Remote-Party-ID."""
        return _uri(ctx, "remote-party-id")

    @pvar("rt")
    def pv_refer_to(self, ctx: Context) -> Value:
        """The URI of Refer-To."""
        return _uri(ctx, "refer-to")

    @pvar("di")
    def pv_diversion(self, ctx: Context) -> Value:
        """The URI of Diversion."""
        return _uri(ctx, "diversion")

    @pvar("dir")
    def pv_diversion_reason(self, ctx: Context) -> Value:
        """The reason parameter of Diversion."""
        return _param(ctx, "diversion", "reason")

    @pvar("dip")
    def pv_diversion_privacy(self, ctx: Context) -> Value:
        """The privacy parameter of Diversion."""
        return _param(ctx, "diversion", "privacy")

    @pvar("dic")
    def pv_diversion_counter(self, ctx: Context) -> Value:
        """The counter parameter of Diversion."""
        return _param(ctx, "diversion", "counter")


def _credentials(ctx: Context) -> dict[str, str]:
    """Return the parameters of the first Digest credentials (RFC 3261 section 22.4), names in lower case."""
    message = ctx.message
    for value in message.headers("authorization") + message.headers("proxy-authorization"):
        scheme, _, rest = value.partition(" ")
        if scheme.lower() == "digest":
            return {name.lower(): unquote(text) for name, text in _credential.findall(rest)}
    return {}


def _uri(ctx: Context, header: str) -> str | None:
    found = name_addr(ctx.message.header(header))
    return None if found is None else found.uri


def _param(ctx: Context, header: str, name: str) -> str | None:
    found = name_addr(ctx.message.header(header))
    return None if found is None else found.params.get(name)
