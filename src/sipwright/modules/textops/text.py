"""Functions of textops about the whole message, its body, the Request-URI, and plain strings."""

from __future__ import annotations

from typing import Annotated

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ParamKind, Value
from sipwright.modules.textops.edits import LineRegex, edits_of
from sipwright.modules.textops.subst import SubstExpression
from sipwright.script.context import Context
from sipwright.script.kinds import NullableStr, Str, to_text
from sipwright.script.module import Module, function, transform
from sipwright.script.uris import change_request_uri, parsed_request_uri, parsed_uri, request_uri
from sipwright.sip.grammar import is_token
from sipwright.sip.message import Message


def _to_methods(value: Value) -> frozenset[str]:
    names = [name.strip().upper() for name in to_text(value).split("|")]
    for name in names:
        if not is_token(name):
            raise ArgumentError(f"{name!r} is no method; methods are written 'INVITE|ACK'")
    return frozenset(names)


Methods = Annotated[frozenset[str], ParamKind("methods", "methods, 'INVITE|ACK' for example", convert=_to_methods)]


class TextFunctions(Module):
    """Methods, searching, substitution, bodies, strings."""

    @function()
    def is_method(self, ctx: Context, methods: Methods) -> int:
        """Tell whether the method is one of those given."""
        return 1 if ctx.message.method in methods else -1

    # ---- search

    @function()
    def search(self, ctx: Context, pattern: LineRegex) -> int:
        """Tell whether the expression matches somewhere in the message."""
        return 1 if pattern.search(_text(ctx.message.data)) else -1

    @function()
    def search_body(self, ctx: Context, pattern: LineRegex) -> int:
        """Tell whether the expression matches somewhere in the body."""
        return 1 if pattern.search(_text(ctx.message.body)) else -1

    @function()
    def search_hf(self, ctx: Context, name: Str, pattern: LineRegex, flags: Str = "a") -> int:
        """Tell whether the expression matches in a header: `a` any of the name, `f` the first, `l` the last."""
        values = ctx.message.headers(name)
        if flags == "f":
            values = values[:1]
        elif flags == "l":
            values = values[-1:]
        return 1 if any(pattern.search(value) for value in values) else -1

    # ---- substitution

    @function()
    def subst_uri(self, ctx: Context, expression: SubstExpression) -> int:
        """Change the Request-URI; false when it does not match."""
        changed = expression.run(request_uri(ctx))
        if changed is None or parsed_uri(changed) is None:
            return -1
        ctx.uri = changed
        return 1

    @function()
    def subst_user(self, ctx: Context, expression: SubstExpression) -> int:
        """Change the user part of the Request-URI; false when it does not match."""
        uri = parsed_request_uri(ctx)
        changed = expression.run(uri.user or "") if uri is not None else None
        return 1 if changed is not None and change_request_uri(ctx, user=changed or None) else -1

    @function()
    def subst(self, ctx: Context, expression: SubstExpression) -> int:
        """Change header lines and lines of the body; false when none matches. Each header line is matched alone."""
        message = ctx.message
        lines = [field[3] for field in message.fields()]
        results = [expression.run(line) for line in lines]
        edits = edits_of(ctx)
        for key in dict.fromkeys(field[0] for field, result in zip(message.fields(), results, strict=True) if result):
            same = [i for i, field in enumerate(message.fields()) if field[0] == key]
            edits.insert("\r\n".join(results[i] or lines[i] for i in same), key)
            edits.remove(key)
        body_changed = self.subst_body(ctx, expression) == 1 if message.body else False
        return 1 if body_changed or any(result is not None for result in results) else -1

    @function()
    def subst_body(self, ctx: Context, expression: SubstExpression) -> int:
        """Change the body; false when it does not match."""
        return _change_body(ctx, expression.run(_body(ctx)))

    @function()
    def replace_body(self, ctx: Context, pattern: LineRegex, text: Str) -> int:
        """Replace the first match in the body; false when there is none."""
        changed, count = pattern.subn(lambda _match: text, _body(ctx), 1)
        return _change_body(ctx, changed if count else None)

    @function()
    def replace_body_all(self, ctx: Context, pattern: LineRegex, text: Str) -> int:
        """Replace all matches in the body; false when there is none."""
        changed, count = pattern.subn(lambda _match: text, _body(ctx))
        return _change_body(ctx, changed if count else None)

    @transform("re.subst")
    def re_subst(self, value: Value, expression: SubstExpression) -> Value:
        """The text with its matches replaced, itself when there are none."""
        text = "" if value is None else str(value)
        changed = expression.run(text)
        return text if changed is None else changed

    # ---- bodies

    @function()
    def has_body(self, ctx: Context, content_type: Str = "") -> int:
        """Tell whether there is a body, of a type when one is given."""
        message = ctx.message
        if not message.body:
            return -1
        return 1 if not content_type or _media_type(message) == content_type.strip().lower() else -1

    @function()
    def set_body(self, ctx: Context, body: Str, content_type: Str) -> int:
        """Replace the body and its Content-Type."""
        if not content_type:
            return -1
        edits_of(ctx).set_body(body.encode("utf-8", "surrogateescape"), content_type)
        return 1

    @function()
    def set_reply_body(self, ctx: Context, body: Str, content_type: Str) -> int:
        """Set body and Content-Type of the next reply."""
        if not content_type:
            return -1
        if ctx.reply_headers is None:
            ctx.reply_headers = []
        ctx.reply_headers.append(f"Content-Type: {content_type}")
        ctx.reply_body = body.encode("utf-8", "surrogateescape")
        return 1

    # ---- strings

    @function()
    def cmp_str(self, _ctx: Context, left: NullableStr, right: NullableStr) -> int:
        """Tell whether two strings are the same."""
        return 1 if left == right else -1

    @function()
    def cmp_istr(self, _ctx: Context, left: NullableStr, right: NullableStr) -> int:
        """Tell whether two strings are the same but for case."""
        return 1 if left.lower() == right.lower() else -1

    @function()
    def starts_with(self, _ctx: Context, text: NullableStr, beginning: NullableStr) -> int:
        """Tell whether a string begins with another one."""
        return 1 if text.startswith(beginning) else -1

    @function()
    def ends_with(self, _ctx: Context, text: NullableStr, end: NullableStr) -> int:
        """Tell whether a string ends with another one."""
        return 1 if text.endswith(end) else -1

    @function()
    def in_list(self, _ctx: Context, subject: NullableStr, items: NullableStr, separator: Str) -> int:
        """Tell whether a string is one of a list."""
        return 1 if subject in _items(items, separator) else -1

    @function()
    def in_list_prefix(self, _ctx: Context, subject: NullableStr, items: NullableStr, separator: Str) -> int:
        """Tell whether a string begins with one of a list."""
        return 1 if any(item and subject.startswith(item) for item in _items(items, separator)) else -1


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _body(ctx: Context) -> str:
    edits = ctx.edits
    return _text(ctx.message.body if edits is None or edits.body is None else edits.body)


def _change_body(ctx: Context, body: str | None) -> int:
    if body is None:
        return -1
    edits_of(ctx).set_body(body.encode("utf-8", "surrogateescape"))
    return 1


def _media_type(message: Message) -> str:
    return (message.header("Content-Type") or "").partition(";")[0].replace(" ", "").lower()


def _items(items: str, separator: str) -> list[str]:
    return [item.strip() for item in items.split(separator)] if separator else [items.strip()]
