"""Commands as scripts write them, `"SET key:$rU %s"`: split into words at load, so that no value becomes a word.

As with hiredis, words are separated by spaces and by nothing else, `%s` stands for the next argument and `%%` for a per
cent sign. A variable stays inside of its word, whatever it contains; one that is empty leaves its word empty.
Kamailio: it is pasted into the text, which is split afterwards, so a caller's header can add words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Part, Variable
from sipwright.script.kinds import prepare_text

# A piece of a word: text, a function of the context that gives text, or the number of the argument that stands there.
Piece = str | Callable[[Any], str] | int

# All messages of a worker share the connection: what changes it, or makes it wait, is not for one of them.
_STATE = frozenset(
    "AUTH CLIENT HELLO MONITOR PSUBSCRIBE PSYNC PUNSUBSCRIBE QUIT RESET SELECT SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE SYNC "
    "UNSUBSCRIBE UNWATCH WATCH".split()
)
_BLOCKING = frozenset("BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN WAIT WAITAOF".split())
_PLACEHOLDER = re.compile(r"%(.?)")


def why_not(words: Sequence[str]) -> str | None:
    """Return why a command cannot be sent, None when it can."""
    if not words:
        return "the command is empty"
    name = words[0].upper()
    if name in _STATE:
        return f"{name} would change the connection for all messages"
    if name in _BLOCKING or (name in ("XREAD", "XREADGROUP") and any(word.upper() == "BLOCK" for word in words)):
        return f"{name} would hold up all other messages"
    return None


class Command:
    """A command as one place of the script has it: `words(context, arguments)` gives its words.

    `arguments` is how many arguments follow it. ArgumentError: it cannot be a command, or cannot be sent.
    """

    __slots__ = ("_fixed", "_text", "_words")

    def __init__(self, parts: Sequence[Part], arguments: int) -> None:
        # One variable and nothing else is a command that the script has put together itself: it is split as a whole.
        is_whole = len(parts) == 1 and isinstance(parts[0], Variable)
        self._text = prepare_text(parts) if is_whole else None
        self._words = [] if is_whole else _split(parts, arguments, strict=True)
        self._fixed: list[str] | None = None
        if not is_whole:
            fixed = ["".join(piece for piece in word if isinstance(piece, str)) for word in self._words]
            reason = why_not(fixed)
            if reason is not None:
                raise ArgumentError(reason)
            if all(isinstance(piece, str) for word in self._words for piece in word):
                self._fixed = fixed

    def words(self, context: Any, arguments: Sequence[str]) -> list[str]:
        """Return the words, with these arguments. They are not to be changed."""
        if self._fixed is not None:
            return self._fixed
        words = self._words
        if self._text is not None:
            words = _split([self._text(context)], len(arguments), strict=False)
        return [_join(word, context, arguments) for word in words]


def _join(word: list[Piece], context: Any, arguments: Sequence[str]) -> str:
    if len(word) == 1 and isinstance(word[0], str):
        return word[0]
    return "".join(
        [
            piece if isinstance(piece, str) else arguments[piece] if isinstance(piece, int) else piece(context)
            for piece in word
        ]
    )


def _split(parts: Sequence[Part], arguments: int, *, strict: bool) -> list[list[Piece]]:
    words: list[list[Piece]] = []
    word: list[Piece] | None = None
    used = 0
    for part in parts:
        if isinstance(part, Variable):
            word = [] if word is None else word
            word.append(prepare_text([part]))
            continue
        for number, text in enumerate(part.split(" ")):
            if number and word is not None:
                words.append(word)
                word = None
            if text:
                pieces = _pieces(text, used, arguments, strict=strict)
                used += sum(isinstance(piece, int) for piece in pieces)
                word = pieces if word is None else word + pieces
    if word is not None:
        words.append(word)
    return words


# The pieces of a text without spaces, of which `used` arguments stand before it. What is no placeholder is a fault
# where it is strict, and otherwise stands for itself.
def _pieces(text: str, used: int, arguments: int, *, strict: bool) -> list[Piece]:
    pieces: list[Piece] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        is_argument = match[1] == "s" and used < arguments
        if strict and match[1] not in ("s", "%"):
            raise ArgumentError(f"'{match[0]}': only %s, for an argument, and %% can stand in a command")
        if strict and match[1] == "s" and not is_argument:
            raise ArgumentError(f"there are more %s in the command than arguments behind it ({arguments})")
        literal = text[at : match.start()]
        if not is_argument:
            literal += "%" if match[1] == "%" else match[0]
        if literal:
            pieces.append(literal)
        if is_argument:
            pieces.append(used)
            used += 1
        at = match.end()
    if text[at:]:
        pieces.append(text[at:])
    return pieces
