"""The parser's place in the list of tokens: owns looking ahead, expecting, and recovering after a fault."""

from __future__ import annotations

from sipwright.lang.lexer import Token
from sipwright.lang.source import Faults, Spot

ROUTE_KEYWORDS = frozenset(
    (
        "route",
        "request_route",
        "reply_route",
        "onreply_route",
        "failure_route",
        "branch_route",
        "onsend_route",
        "event_route",
    )
)
_OPENING = {"{": 1, "}": -1}


class SyntaxFaultError(Exception):
    """The parser cannot go on here. Caught at the next statement or declaration."""

    def __init__(self, spot: Spot, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.spot = spot
        self.message = message
        self.suggestion = suggestion


class Cursor:
    """`token` is the next token, `before` the one that was taken last."""

    __slots__ = ("_at", "_tokens", "askew", "before", "faults", "token", "unclosed")

    def __init__(self, tokens: list[Token], faults: Faults) -> None:
        self._tokens = tokens
        self._at = 0
        self.faults = faults
        self.token = tokens[0]
        self.before = tokens[0]
        # A block was found open where a new one begins; its outer ones are not to be reported again.
        self.unclosed = False
        # The last block whose `}` does not stand under the line of its `{`: the first guess when one is missing.
        self.askew: tuple[Token, Token] | None = None

    def take(self) -> Token:
        """Take the next token; the `end` token stays."""
        token = self.before = self.token
        if token.kind != "end":
            self._at += 1
            self.token = self._tokens[self._at]
        return token

    def ahead(self, count: int = 1) -> Token:
        """Look at a token after the next one."""
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def sees(self, op: str) -> bool:
        """Tell whether the next token is this operator or bracket."""
        return self.token.kind == "op" and self.token.text == op

    def sees_word(self, *words: str) -> bool:
        """Tell whether the next token is one of these words."""
        return self.token.kind == "word" and self.token.text in words

    def accept(self, op: str) -> bool:
        """Take the next token if it is this operator."""
        if self.sees(op):
            self.take()
            return True
        return False

    def expect(self, op: str, where: str) -> Token:
        """Take this operator, or fail: "'(' expected after if, found ..."."""
        if not self.sees(op):
            raise self.fault(f"'{op}' expected {where}, found {self.found()}")
        return self.take()

    def close(self, op: str, opened: Token) -> None:
        """Take a closing bracket. One that is missing before `{` or `;` is noted, and the parser goes on."""
        if self.accept(op):
            return
        if self.sees("=") and op == ")":
            raise self.fault("'=' assigns; to compare, write '=='")
        if self.sees("{") or self.sees(";") or self.sees("}") or self.token.newline:
            self.faults.add(
                self.before.end, f"'{op}' is missing for the '{opened.text}' in column {opened.spot.column}"
            )
            return
        raise self.surprise(f"'{op}' expected")

    def surprise(self, expected: str) -> SyntaxFaultError:
        """Return the exception for a token that cannot follow, `expected` telling what could."""
        token = self.token
        if self.sees("."):
            return self.fault("texts are joined with '+', not with '.'")
        if self.before.kind == "string" and token.kind in ("word", "number", "string") and not token.space:
            return self.fault(f'the string ends before {self.found()}: a quote inside of "..." is written \\"')
        return self.fault(f"{expected}, found {self.found()}")

    def closes_block(self, opened: Token, what: str) -> bool:
        """Take the `}` of a block if it is next. One that is missing at the end of a route is noted: True, too."""
        if self.accept("}"):
            closing = self.before
            if self.askew is None and closing.newline and closing.spot.indent != opened.spot.indent:
                self.askew = opened, closing
            return True
        if self.token.kind != "end" and not self.at_route_block():
            return False
        if not self.unclosed:
            self.unclosed = True
            message = f"the {what} that begins here is not closed: a '}}' is missing"
            if self.askew is not None:
                first, last = self.askew
                message += (
                    f" (the '}}' of line {last.spot.line} closes the '{{' of line {first.spot.line}: is it meant?)"
                )
            self.faults.add(opened.spot, message)
        return True

    def found(self) -> str:
        """Name the next token, for messages."""
        if self.token.kind == "end":
            return self.token.text
        text = self.token.text
        return f"'{text if len(text) <= 30 else text[:27] + '...'}'"

    def fault(self, message: str, suggestion: str | None = None) -> SyntaxFaultError:
        """Return the exception that says why the parser gives up at the next token."""
        return SyntaxFaultError(self.token.spot, message, suggestion)

    def note(self, fault: SyntaxFaultError) -> None:
        """Note why a part was given up."""
        self.faults.add(fault.spot, fault.message, fault.suggestion)

    def at_route_block(self) -> bool:
        """Tell whether a route block begins here."""
        token = self.token
        if token.kind != "word" or token.text not in ROUTE_KEYWORDS:
            return False
        following = self.ahead()
        return following.kind == "op" and following.text in ("[", "{")

    def skip_statement(self) -> None:
        """Go behind the next `;`, or to the `}` or the route block before it."""
        depth = 0
        while self.token.kind != "end":
            if self.token.kind == "op":
                text = self.token.text
                if text == ";" and depth == 0:
                    self.take()
                    return
                if text == "}" and depth == 0:
                    return
                depth += _OPENING.get(text, 0)
                if text == "}" and depth == 0:
                    self.take()
                    if not self.sees_word("else"):
                        return
                    continue
            elif self.token.newline and self.at_route_block():
                return
            self.take()

    def skip_brackets(self) -> None:
        """Go behind `( ... )`, if it is next."""
        depth = 0
        while self.token.kind != "end":
            depth += {"(": 1, ")": -1}.get(self.token.text, 0) if self.token.kind == "op" else 0
            if depth == 0 and not self.sees(")"):
                return
            if self.take().text == ")" and depth == 0:
                return

    def skip_declaration(self) -> None:
        """Go to the next line that can begin a declaration or a route block."""
        depth = 0
        while self.token.kind != "end":
            token = self.take()
            if token.kind == "op":
                depth = max(0, depth + _OPENING.get(token.text, 0))
            if self.token.newline and self.token.kind in ("word", "pv") and (depth == 0 or self.at_route_block()):
                return
