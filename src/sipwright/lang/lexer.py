"""Text to tokens: owns comments, strings, numbers and the preprocessor's directives, which it carries out on the way.

One list of tokens comes out, included files and defines put in place; each token knows the spot that it came from,
which is for an expanded define the place of its use.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from typing import NoReturn

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Value
from sipwright.lang.nodes import Text, Var
from sipwright.lang.preprocess import DIALECTS, DIRECTIVES, Conditions, Defines, directive_line, quoted
from sipwright.lang.pvsyntax import Pv, read_pv
from sipwright.lang.runtime import as_text, to_int
from sipwright.lang.source import Faults, SourceFile, Spot

# As deep as Kamailio goes.
MAX_INCLUDE_DEPTH = 10


class Token:
    """A token. `kind` is `word`, `number`, `string`, `pv`, `net`, `op` or `end`; `value` is an int, Text or Var.

    `space` and `newline` tell what stood before it; `end` is the spot after its last character.
    """

    __slots__ = ("end", "kind", "newline", "space", "spot", "text", "value")

    def __init__(
        self, kind: str, text: str, value: int | Text | Var | None, spot: Spot, end: Spot, space: bool, newline: bool
    ) -> None:
        self.kind = kind
        self.text = text
        self.value = value
        self.spot = spot
        self.end = end
        self.space = space
        self.newline = newline

    def __repr__(self) -> str:
        return f"<{self.kind} {self.text!r}>"


class UnclosedError(Exception):
    """A string or comment has no end: what follows cannot be read. The fault was noted already, at `spot`."""

    def __init__(self, spot: Spot) -> None:
        super().__init__(str(spot))
        self.spot = spot


_HEX4 = "[0-9A-Fa-f]{1,4}"
_TOKEN = re.compile(
    rf"""
      (?P<space> [ \t\r\f\v\b]+ | \\\r?\n )
    | (?P<newline> \n )
    | (?P<directive> (?:\#!|!!) (?: {"|".join(sorted(DIRECTIVES, key=len, reverse=True))} ) \b )
    | (?P<line_comment> (?:\#|//) [^\n]* )
    | (?P<comment> /\* )
    | (?P<include> (?: include_file | import_file ) \b )
    | (?P<quote> ["'] )
    | (?P<pv> \$ )
    | (?P<net> \d{{1,3}}(?:\.\d{{1,3}}){{3}}(?!\w)
             | (?:{_HEX4}(?::{_HEX4})*)?::(?:{_HEX4}(?::{_HEX4})*)? | (?:{_HEX4}:){{7}}{_HEX4} )
    | (?P<number> (?: 0[xX][0-9a-fA-F]+ | [01]+b | \d+ ) (?!\w) )
    | (?P<word> (?: msg:len | uri:host | uri:port ) \b | \w+ )
    | (?P<op> == | != | =~ | !~ | <= | >= | << | >> | && | \|\| | \+= | -= | := | [-+*/%&|^~!<>=(){{}}\[\],;:.@?] )
    """,
    re.VERBOSE,
)
_SKIPPED_DIRECTIVE = re.compile(r"^[ \t]*(?:#!|!!)(ifdef|ifndef|ifexp|else|endif)\b", re.MULTILINE)
_STRING_PIECE = re.compile(r'([^"\\]+)|\\(?:([nrat"\\])|x([0-9a-fA-F]{1,2})|([0-7]{2,3})|(\r?\n))|(\\)')
_SIMPLE_ESCAPES = {"n": "\n", "r": "\r", "a": "\a", "t": "\t", '"': '"', "\\": "\\"}
_NUMBER_WORDS = {
    **dict.fromkeys(("yes", "true", "on", "enable"), 1),
    **dict.fromkeys(("no", "false", "off", "disable"), 0),
}
_PV_END = re.compile(r"[;\n]")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_BETWEEN_STRINGS = re.compile(r'[ \t\r\n\b]*"')
# Strings in the quotation marks that word processors put in the place of `"` and `'`.
_TYPOGRAPHIC_STRING = re.compile(
    "[\u201c-\u201f][^\\n\u201c-\u201f]*?[\u201c-\u201f\"]|[\u2018-\u201b][^\\n\u2018-\u201b]*?[\u2018-\u201b']"
)
_LOADING = ("loadmodule", "loadmodulex")


class Lexer:
    """Reads files into `tokens`.

    `read(name)` returns the text of a file (OSError: it cannot be read); `evaluate(tokens)` gives the value of the
    expression of an `#!ifexp` or `#!defexp`.
    """

    def __init__(
        self,
        defines: Defines,
        faults: Faults,
        read: Callable[[str], str],
        evaluate: Callable[[list[Token]], Value],
    ) -> None:
        self.tokens: list[Token] = []
        self._defines = defines
        self._faults = faults
        self._read = read
        self._evaluate = evaluate
        # The files that are being read, each included by the one before it.
        self._reading: list[str] = []
        self._long_string: Spot | None = None

    def read_file(self, name: str, text: str) -> None:
        """Read one file, and what it includes. UnclosedError: it cannot be read to its end."""
        source = SourceFile(name, text)
        conditions = Conditions(self._faults)
        self._reading.append(os.path.normpath(name))
        self._scan(source, None, conditions, frozenset())
        self._reading.pop()
        conditions.finish()

    def finish(self, name: str) -> list[Token]:
        """Return all tokens, with an `end` token after the last one."""
        last = self.tokens[-1].end if self.tokens else Spot(SourceFile(name, ""), 0)
        self.tokens.append(Token("end", "the end of the file", None, last, last, True, True))
        return self.tokens

    # `fixed` is where a define was used, while its value is read: all its tokens have that spot.
    def _scan(self, source: SourceFile, fixed: Token | None, conditions: Conditions, using: frozenset[str]) -> None:
        text = source.text
        end = len(text)
        at = 0
        space = newline = True
        if fixed is not None:
            space, newline = fixed.space, fixed.newline
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                at = self._foreign(source, at, fixed, space, newline)
                space = newline = False
                continue
            kind = match.lastgroup or ""
            after = match.end()
            if kind == "space":
                space = True
                at = after
                continue
            if kind == "newline":
                space = newline = True
                at = after
                continue
            if kind == "line_comment":
                if fixed is None:
                    self._check_comment(source, at, match[0])
                at = after
                continue
            if kind == "comment":
                at = self._skip_comment(source, at)
                space = True
                continue
            if kind == "directive" and fixed is None:
                at = self._directive(source, at, after, match[0][2:], conditions)
                space = newline = True
                continue
            if kind == "include" and fixed is None:
                at = self._include(source, at, after, match[0])
                space = newline = True
                continue
            at = self._token(source, fixed, conditions, using, kind, at, after, space, newline)
            space = newline = False

    def _token(
        self,
        source: SourceFile,
        fixed: Token | None,
        conditions: Conditions,
        using: frozenset[str],
        kind: str,
        at: int,
        after: int,
        space: bool,
        newline: bool,
    ) -> int:
        spot = fixed.spot if fixed else Spot(source, at)
        value: int | Text | Var | None = None
        text = source.text[at:after]
        if kind == "quote":
            kind = "string"
            value, after = self._string(source, at, fixed)
            if self.tokens and self.tokens[-1].text in _LOADING:
                self._defines.define_module(value.value)
        elif kind == "pv":
            pv, after = self._pv(source, at, spot)
            # A variable that cannot be read is told once; a number stands in its place.
            kind, value = ("number", 0) if pv is None else ("pv", self._var(pv, source, spot, fixed))
        elif kind == "number":
            value = _number(text)
        elif kind == "word":
            define = self._defines.values.get(text)
            if define is not None and text not in using:
                use = Token("word", text, None, spot, fixed.end if fixed else Spot(source, after), space, newline)
                inner = SourceFile(source.name, define)
                self._scan(inner, use, conditions, using | {text})
                return after
            if text in _NUMBER_WORDS:
                kind, value = "number", _NUMBER_WORDS[text]
        elif kind in ("directive", "include"):
            self._faults.add(spot, f"{text} cannot be part of a define")
            return after
        end = fixed.end if fixed else Spot(source, after)
        self.tokens.append(Token(kind, source.text[at:after], value, spot, end, space, newline))
        return after

    # What belongs to no token: a string in typographic quotation marks is told once and read as if it were one.
    def _foreign(self, source: SourceFile, at: int, fixed: Token | None, space: bool, newline: bool) -> int:
        spot = fixed.spot if fixed else Spot(source, at)
        string = _TYPOGRAPHIC_STRING.match(source.text, at)
        if string is None:
            self._faults.add(spot, f"unexpected character {source.text[at]!r}")
            return at + 1
        self._faults.add(spot, f"a string is written in plain quotes, not in {string[0][0]}")
        end = fixed.end if fixed else Spot(source, string.end())
        self.tokens.append(Token("string", string[0], Text(spot, string[0][1:-1]), spot, end, space, newline))
        return string.end()

    def _pv(self, source: SourceFile, at: int, spot: Spot) -> tuple[Pv | None, int]:
        try:
            pv = read_pv(source.text, at)
        except ArgumentError as error:
            fault_at = spot if spot.file is not source else Spot(source, error.offset or at)
            self._faults.add(fault_at, error.message)
            end = _PV_END.search(source.text, at)
            return None, end.start() if end is not None else len(source.text)
        return pv, pv.end

    def _var(self, pv: Pv, source: SourceFile, spot: Spot, fixed: Token | None) -> Var:
        substituted = self._defines.apply(pv.text)
        if substituted != pv.text:
            try:
                return Var(spot, read_pv(substituted, 0), Text(spot, substituted))
            except ArgumentError as error:
                self._faults.add(spot, error.message)
        return Var(spot, pv, Text(spot, source.text) if fixed else None)

    def _string(self, source: SourceFile, at: int, fixed: Token | None) -> tuple[Text, int]:
        text = source.text
        spot = fixed.spot if fixed else Spot(source, at)
        if text[at] == "'":
            close = text.find("'", at + 1)
            if close < 0:
                self._unclosed_string(spot)
            value = text[at + 1 : close]
            spots = list(range(at + 1, close))
            after = close + 1
        else:
            value, spots, after = self._escaped_string(text, at, spot)
        if "\n" in text[at:after] and self._long_string is None:
            self._long_string = spot
        substituted = self._defines.apply(value)
        return Text(spot, substituted, spots if substituted == value and fixed is None else None), after

    # "..." with escapes; adjacent ones join.
    def _escaped_string(self, text: str, at: int, spot: Spot) -> tuple[str, list[int], int]:
        pieces: list[str] = []
        spots: list[int] = []
        at += 1
        while True:
            if text[at : at + 1] == '"':
                again = _BETWEEN_STRINGS.match(text, at + 1)
                if again is None:
                    return "".join(pieces), spots, at + 1
                at = again.end()
                continue
            match = _STRING_PIECE.match(text, at)
            if match is None:
                self._unclosed_string(spot)
            plain, simple, hexadecimal, octal, line_end, lone = match.groups()
            piece = plain or lone or ""
            if simple:
                piece = _SIMPLE_ESCAPES[simple]
            elif hexadecimal:
                piece = chr(int(hexadecimal, 16))
            elif octal:
                piece = chr(int(octal, 8) & 0xFF)
            pieces.append(piece)
            if plain:
                spots += range(at, match.end())
            elif line_end is None:
                spots.append(at)
            at = match.end()

    # An opening quote that was forgotten or doubled turns the strings after it inside out: the first one that spans
    # lines is then where it went wrong.
    def _unclosed_string(self, spot: Spot) -> NoReturn:
        if self._long_string is not None:
            spot = self._long_string
        self._faults.add(spot, "the string that begins here is not closed")
        raise UnclosedError(spot)

    def _skip_comment(self, source: SourceFile, start: int) -> int:
        depth = 0
        for match in _COMMENT_EDGE.finditer(source.text, start):
            depth += 1 if match[0] == "/*" else -1
            if depth == 0:
                return match.end()
        self._faults.add(Spot(source, start), "the comment that begins here is not closed (comments nest)")
        raise UnclosedError(Spot(source, start))

    # `#!` that is no directive is a comment; tell a mistyped directive from one.
    def _check_comment(self, source: SourceFile, at: int, comment: str) -> None:
        word = re.match(r"#!([A-Za-z_]+)", comment)
        if word is None or word[1] in DIALECTS:
            return
        close = difflib.get_close_matches(word[1], DIRECTIVES, 1, 0.75)
        if close:
            self._faults.add(Spot(source, at), f"unknown directive #!{word[1]}", f"#!{close[0]}")

    def _directive(self, source: SourceFile, at: int, after: int, name: str, conditions: Conditions) -> int:
        spot = Spot(source, at)
        if name in ("include_file", "import_file"):
            return self._include(source, at, after, name)
        line, end = directive_line(source.text, after)
        try:
            if name in ("else", "endif"):
                (conditions.otherwise if name == "else" else conditions.close)(spot)
            elif name.startswith("if"):
                conditions.open(spot, name, self._holds(source, spot, name, line))
            elif "env" in name:
                self._defines.define_environment(name, line)
            elif name.startswith("defexp"):
                self._defines.define("define", self._calculated(source, spot, name, line))
            elif name.startswith("subst"):
                quote = re.search("[\"']", source.text[after:end])
                if quote is None:
                    raise ArgumentError(f'#!{name} needs a string: "/regular expression/text/flags"')
                text, end = self._string(source, after + quote.start(), None)
                self._defines.substitute(name, text.value)
            else:
                self._defines.define(name, line)
        except ArgumentError as error:
            self._faults.add_argument(spot, error)
        return end if conditions.active else self._skip_inactive(source, end, conditions)

    def _holds(self, source: SourceFile, spot: Spot, name: str, line: str) -> bool:
        if name == "ifexp":
            return to_int(self._value(source, spot, line)) != 0
        match = re.match(r"[ \t]*([A-Za-z_]\w*)", line)
        if match is None:
            raise ArgumentError(f"#!{name} needs a name")
        return (match[1] in self._defines.values) == (name == "ifdef")

    # `NAME value` for `NAME expression`; the value in quotes for #!defexps.
    def _calculated(self, source: SourceFile, spot: Spot, directive: str, line: str) -> str:
        name, _, expression = line.strip().partition(" ")
        if not expression:
            raise ArgumentError(f"#!{directive} is written #!{directive} NAME expression")
        value = as_text(self._value(source, spot, expression))
        return f"{name} {quoted(value) if directive == 'defexps' else value}"

    def _value(self, source: SourceFile, spot: Spot, expression: str) -> Value:
        outer, self.tokens = self.tokens, []
        try:
            self._scan(
                SourceFile(source.name, expression),
                Token("op", "", None, spot, spot, True, True),
                Conditions(self._faults),
                frozenset(),
            )
            return self._evaluate(self.finish(source.name))
        finally:
            self.tokens = outer

    def _skip_inactive(self, source: SourceFile, at: int, conditions: Conditions) -> int:
        while not conditions.active:
            match = _SKIPPED_DIRECTIVE.search(source.text, at)
            if match is None:
                return len(source.text)
            spot = Spot(source, match.start(1) - 2)
            at = source.text.find("\n", match.end())
            if at < 0:
                at = len(source.text)
            if match[1] == "else":
                conditions.otherwise(spot)
            elif match[1] == "endif":
                conditions.close(spot)
            else:
                conditions.open(spot, match[1], False)
        return at

    def _include(self, source: SourceFile, at: int, after: int, keyword: str) -> int:
        spot = Spot(source, at)
        quote = re.compile("[ \t]*([\"'])").match(source.text, after)
        if quote is None:
            self._faults.add(spot, f'{keyword} needs the name of a file in quotes: {keyword} "name.cfg"')
            return directive_line(source.text, after)[1]
        name, end = self._string(source, quote.start(1), None)
        if len(self._reading) >= MAX_INCLUDE_DEPTH:
            self._faults.add(spot, f"files include one another more than {MAX_INCLUDE_DEPTH} deep")
            return end
        beside = os.path.join(os.path.dirname(source.name), name.value)
        for path in dict.fromkeys((beside, name.value)):
            if os.path.normpath(path) in self._reading:
                self._faults.add(name.at, f"'{name.value}' is being read already: a file cannot include itself")
                return end
            try:
                text = self._read(path)
            except OSError as error:
                problem = error.strerror or str(error)
                continue
            self.read_file(path, text)
            return end
        if keyword == "include_file":
            self._faults.add(name.at, f"cannot read '{name.value}': {problem}")
        return end


def _number(text: str) -> int:
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    if text.endswith("b"):
        return int(text[:-1], 2)
    if text[0] == "0" and len(text) > 1 and text.isdigit() and not set(text) & {"8", "9"}:
        return int(text, 8)
    return int(text)
