"""A script's edits of a message: which header lines go, which come, a new body; and the edited message's bytes.

Edits do not show in the message they belong to: a script sees them once it has made a new message of them, as in
Kamailio (`msg_apply_changes`). Header lines that are not touched are written as they came.
"""

from __future__ import annotations

import re

from sipwright.sip.headers import header_key
from sipwright.sip.message import Message, Request


class Edits:
    """What a script wants changed in `message`; made when the first edit comes.

    `body` is the new body, None as long as it is not replaced; `content_type` goes with it, None keeps the old one.
    """

    __slots__ = ("_added", "_removed", "body", "content_type", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.body: bytes | None = None
        self.content_type: str | None = None
        self._removed: set[int] = set()
        # Index of a header line -> what stands before it; the number of lines -> what stands at the end.
        self._added: dict[int, list[str]] = {}

    def append(self, text: str, after: str | None = None) -> None:
        """Add header text after the last header, or after the first one named `after` (`append_hf`).

        `text` is one or more header lines with or without the last line end. Later additions at one place follow
        earlier ones. When there is no header `after`, the text goes to the end.
        """
        self._add(self._index(after, -1) + 1, text)

    def insert(self, text: str, before: str | None = None) -> None:
        """Add header text before the first header, or before the first one named `before` (`insert_hf`)."""
        self._add(0 if before is None else self._index(before, 0), text)

    def remove(self, name: str) -> int:
        """Remove all headers of that name, in any spelling, and return how many there were (`remove_hf`)."""
        key = header_key(name)
        return self._remove([i for i, field in enumerate(self.message.fields()) if field[0] == key])

    def remove_matching(self, names: re.Pattern[str], values: re.Pattern[str] | None = None) -> int:
        """Remove the headers in whose name (as written), and value when given, the patterns are found.

        Return how many there were (`remove_hf_re`, `remove_hf_exp`).
        """
        return self._remove(
            [
                i
                for i, (_, name, value, _) in enumerate(self.message.fields())
                if names.search(name) and (values is None or values.search(value))
            ]
        )

    def set_body(self, body: bytes, content_type: str | None = None) -> None:
        """Replace the body, and Content-Type when given; Content-Length follows when the message is written."""
        self.body = body
        if content_type is not None:
            self.content_type = content_type

    def _index(self, name: str | None, shift: int) -> int:
        fields = self.message.fields()
        if name is not None:
            key = header_key(name)
            for index, field in enumerate(fields):
                if field[0] == key:
                    return index
        return len(fields) + shift

    def _add(self, index: int, text: str) -> None:
        text = text.rstrip("\r\n")
        if text:
            self._added.setdefault(index, []).append(text)

    def _remove(self, indexes: list[int]) -> int:
        self._removed.update(indexes)
        return len(indexes)

    def lines(self) -> list[str]:
        """Return the header lines of the edited message, without their ends."""
        lines: list[str] = []
        fields = self.message.fields()
        replaced = set() if self.body is None else {"content-length"}
        if self.content_type is not None:
            replaced.add("content-type")
        for index, (key, _, _, line) in enumerate(fields):
            lines += self._added.get(index, ())
            if index not in self._removed and key not in replaced:
                lines.append(line)
        lines += self._added.get(len(fields), ())
        if self.content_type is not None:
            lines.append(f"Content-Type: {self.content_type}")
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return lines


def apply(message: Message, edits: Edits | None, uri: str | None = None) -> bytes:
    """Return the bytes of the message with its edits and, in a request, `uri` as Request-URI.

    What comes out is not checked: a script can write anything. Parse it to know.
    """
    if edits is None:
        lines = [field[3] for field in message.fields()]
        body = message.body
    else:
        lines = edits.lines()
        body = message.body if edits.body is None else edits.body
    if isinstance(message, Request) and uri is not None:
        start_line = f"{message.method} {uri} SIP/2.0"
    else:
        start_line = message.start_line()
    head = "\r\n".join([start_line, *lines, "\r\n"])
    return head.encode("utf-8", "surrogateescape") + body
