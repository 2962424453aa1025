"""Module siputils: questions about requests and URIs."""

from __future__ import annotations

import re

from sipwright.errors import SipParseError
from sipwright.lang.namespace import Value, Variable
from sipwright.script.context import Context
from sipwright.script.kinds import NullableStr, Str, UpdatedVariable, WritableVariable
from sipwright.script.module import Module, function
from sipwright.script.uris import change_request_uri, parsed_request_uri, parsed_uri
from sipwright.sip.grammar import Params, parse_params, split_values
from sipwright.sip.uri import Uri, equivalent

# ITU-T E.164: a plus and 2 to 15 digits.
_is_e164 = re.compile(r"\+[0-9]{2,15}", re.ASCII).fullmatch
_is_tel_number = re.compile(r"\+?[0-9]+", re.ASCII).fullmatch
_separators = str.maketrans("", "", "-.() ")


class Siputils(Module):
    """Questions about requests and URIs."""

    name = "siputils"
    ignored_params = (
        "options_accept",
        "options_accept_encoding",
        "options_accept_language",
        "options_support",
        "contact_flds_separator",
        "ring_timeout",
        "rpid_avp",
        "rpid_prefix",
        "rpid_suffix",
    )

    # ---- the request

    @function()
    def has_totag(self, ctx: Context) -> int:
        """Tell whether the To header has a tag: the request is within a dialog."""
        return 1 if ctx.message.to_tag else -1

    @function()
    def is_request(self, ctx: Context) -> int:
        """Tell whether the message is a request."""
        return 1 if ctx.response is None else -1

    @function()
    def is_reply(self, ctx: Context) -> int:
        """Tell whether the message is a reply."""
        return -1 if ctx.response is None else 1

    @function()
    def is_first_hop(self, ctx: Context) -> int:
        """Tell whether the sender made the request: one Via, and no Record-Route."""
        message = ctx.message
        return 1 if len(message.vias) == 1 and not message.has_header("Record-Route") else -1

    @function()
    def is_supported(self, ctx: Context, option: Str) -> int:
        """Tell whether an option tag is in the Supported header."""
        try:
            options = [tag for line in ctx.message.headers("Supported") if line for tag in split_values(line)]
        except SipParseError:
            return -1
        return 1 if option.lower() in [tag.lower() for tag in options] else -1

    @function()
    def is_gruu(self, ctx: Context, uri: Str = "") -> int:
        """Tell whether the URI, or the Request-URI, is a GRUU (RFC 5627): 1 temporary, 2 public."""
        parsed = parsed_uri(uri) if uri else parsed_request_uri(ctx)
        params = _params(parsed)
        if "gr" not in params:
            return -1
        return 2 if params["gr"] else 1

    # ---- URIs

    @function()
    def is_uri(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is a SIP, SIPS or TEL URI."""
        uri = parsed_uri(text)
        return 1 if uri is not None and uri.opaque is None else -1

    @function()
    def uri_param(self, ctx: Context, name: Str) -> int:
        """Tell whether the Request-URI has a parameter, one without a value."""
        params = _params(parsed_request_uri(ctx))
        return 1 if name.lower() in params and not params[name.lower()] else -1

    @function("uri_param")
    def uri_param_value(self, ctx: Context, name: Str, value: Str) -> int:
        """Tell whether the Request-URI has a parameter with a value."""
        return 1 if _params(parsed_request_uri(ctx)).get(name.lower()) == value else -1

    @function()
    def uri_param_any(self, ctx: Context, name: Str) -> int:
        """Tell whether the Request-URI has a parameter, with or without a value."""
        return 1 if name.lower() in _params(parsed_request_uri(ctx)) else -1

    @function()
    def add_uri_param(self, ctx: Context, param: Str) -> int:
        """Add a parameter, `name=value`, to the Request-URI."""
        uri = parsed_request_uri(ctx)
        if uri is None or not param:
            return 1 if not param else -1
        params = f"{uri.params_text};{param}" if uri.params_text else param
        return 1 if change_request_uri(ctx, params_text=params) else -1

    @function()
    def uri_param_rm(self, ctx: Context, name: Str) -> int:
        """Remove a parameter from the Request-URI; false when it has none of that name."""
        uri = parsed_request_uri(ctx)
        if uri is None:
            return -1
        params = uri.params_text.split(";") if uri.params_text else []
        kept = [param for param in params if param.partition("=")[0].strip().lower() != name.lower()]
        if len(kept) == len(params):
            return -1
        return 1 if change_request_uri(ctx, params_text=";".join(kept)) else -1

    @function()
    def get_uri_param(self, ctx: Context, name: Str, target: WritableVariable) -> int:
        """Store the value of a parameter of the Request-URI in a variable; false when there is none."""
        params = _params(parsed_request_uri(ctx))
        if name.lower() not in params:
            return -1
        return _store(ctx, target, params[name.lower()] or "")

    @function()
    def set_uri_user(self, ctx: Context, uri: UpdatedVariable, user: Str) -> int:
        """Replace the user part of the URI in a variable."""
        return _change(ctx, uri, user=user or None)

    @function()
    def set_uri_host(self, ctx: Context, uri: UpdatedVariable, host: Str) -> int:
        """Replace the host of the URI in a variable."""
        return _change(ctx, uri, host=host)

    @function()
    def cmp_uri(self, _ctx: Context, left: NullableStr, right: NullableStr) -> int:
        """Tell whether two URIs are equivalent (RFC 3261 section 19.1.4)."""
        a, b = parsed_uri(left), parsed_uri(right)
        if a is None or b is None:
            return -1
        try:
            return 1 if equivalent(a, b) else -1
        except SipParseError:
            return -1

    @function()
    def cmp_aor(self, _ctx: Context, left: NullableStr, right: NullableStr) -> int:
        """Tell whether two URIs have the same user, host and port."""
        a, b = parsed_uri(left), parsed_uri(right)
        if a is None or b is None:
            return -1
        same = a.user == b.user and a.host.lower() == b.host.lower() and (a.port or 5060) == (b.port or 5060)
        return 1 if same else -1

    # ---- telephone numbers

    @function()
    def is_e164(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is a number as E.164 has it: a plus and up to 15 digits."""
        return 1 if _is_e164(text) else -1

    @function()
    def is_uri_user_e164(self, _ctx: Context, uri: NullableStr) -> int:
        """Tell whether the user part of a URI is a number as E.164 has it."""
        parsed = parsed_uri(uri)
        return 1 if parsed is not None and _is_e164(parsed.user or "") else -1

    @function()
    def is_tel_number(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is digits, with a plus before them or without."""
        return 1 if _is_tel_number(text) else -1

    @function()
    def is_numeric(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is digits only."""
        return 1 if text.isascii() and text.isdigit() else -1

    @function()
    def is_alphanum(self, _ctx: Context, text: NullableStr) -> int:
        """Tell whether a text is ASCII letters and digits only."""
        return 1 if text.isascii() and text.isalnum() else -1

    @function()
    def is_alphanumex(self, _ctx: Context, text: NullableStr, others: NullableStr) -> int:
        """Tell whether a text is ASCII letters, digits and the given characters only."""
        if not text:
            return -1
        return 1 if all((c.isascii() and c.isalnum()) or c in others for c in text) else -1

    @function()
    def tel2sip(self, ctx: Context, uri: Str, host: Str, target: WritableVariable) -> int:
        """Store a `tel:` URI as a `sip:` URI with that host in a variable; other URIs as they are.

        RFC 3261 section 19.1.6.
        """
        parsed = parsed_uri(uri)
        if parsed is None or parsed.scheme != "tel":
            return _store(ctx, target, uri)
        number = (parsed.user or "").translate(_separators)
        params = ";" + parsed.params_text.lower() if parsed.params_text else ""
        return _store(ctx, target, f"sip:{number}{params}@{host};user=phone")


def _params(uri: Uri | None) -> Params:
    if uri is None:
        return {}
    try:
        return parse_params(uri.params_text)
    except SipParseError:
        return {}


def _store(ctx: Context, target: Variable, value: Value) -> int:
    if target.set is None:
        return -1
    target.set(ctx, value)
    return 1


def _change(ctx: Context, variable: Variable, **changes: str | None) -> int:
    value = variable.get(ctx)
    uri = parsed_uri(value) if isinstance(value, str) else None
    if uri is None:
        return -1
    return _store(ctx, variable, str(uri.replace(**changes)))
