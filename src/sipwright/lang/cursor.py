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

    __slots__ = ("_at", "_tokens", "before", "faults", "token", "unclosed")

    def __init__(self, tokens: list[Token], faults: Faults) -> None:
        self._tokens = tokens
        self._at = 0
        self.faults = faults
        self.token = tokens[0]
        self.before = tokens[0]
        # A block was found open where a new one begins; its outer ones are not to be reported again.
        self.unclosed = False

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
        raise self.fault(f"'{op}' expected, found {self.found()}")

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

    def skip_declaration(self) -> None:
        """Go to the next line that can begin a declaration or a route block."""
        depth = 0
        while self.token.kind != "end":
            token = self.take()
            if token.kind == "op":
                depth = max(0, depth + _OPENING.get(token.text, 0))
            if self.token.newline and self.token.kind in ("word", "pv") and (depth == 0 or self.at_route_block()):
                return
