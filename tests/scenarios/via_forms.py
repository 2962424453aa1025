"""The ways in which a request can say its branch, or not say it: all that steering has to see through.

A form gets the client's address, something that is unique for the transaction, and the other header lines; it returns
all header lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

Form: TypeAlias = Callable[[str, str, list[str]], list[str]]

_numbers = itertools.count(1)
_OTHER = "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKother"


def _via(sent_by: str, mark: str) -> str:
    return f"SIP/2.0/UDP {sent_by};branch=z9hG4bK{mark};rport"


FORMS: dict[str, Form] = {
    "common": lambda sent_by, mark, rest: [f"Via: {_via(sent_by, mark)}", *rest],
    "rfc2543_branch": lambda sent_by, mark, rest: [f"Via: SIP/2.0/UDP {sent_by};branch={mark};rport", *rest],
    "no_branch": lambda sent_by, _mark, rest: [f"Via: SIP/2.0/UDP {sent_by};rport", *rest],
    "bare_cookie": lambda sent_by, _mark, rest: [f"Via: SIP/2.0/UDP {sent_by};branch=z9hG4bK;rport", *rest],
    "two_in_a_line": lambda sent_by, mark, rest: [f"Via: {_via(sent_by, mark)},{_OTHER}", *rest],
    "two_lines": lambda sent_by, mark, rest: [f"Via: {_via(sent_by, mark)}", f"Via: {_OTHER}", *rest],
    "compact": lambda sent_by, mark, rest: [f"v: {_via(sent_by, mark)}", *rest],
    "folded": lambda sent_by, mark, rest: [
        f"Via: SIP/2.0/UDP {sent_by}\r\n ;rport\r\n\t;branch=z9hG4bK{mark}",
        *rest,
    ],
    "spaced": lambda sent_by, mark, rest: [
        f"VIA : SIP / 2.0 / UDP {sent_by} ; rport ; BRANCH = z9hG4bK{mark}",
        *rest,
    ],
    "not_first": lambda sent_by, mark, rest: [*rest[:-1], f"Via: {_via(sent_by, mark)}", rest[-1]],
    # Another one in each message: to whoever takes it for the branch, what belongs together seems not to.
    "cookie_before": lambda sent_by, mark, rest: [
        f"Subject: z9hG4bK{next(_numbers) * 7919:x}",
        f"Via: {_via(sent_by, mark)}",
        *rest,
    ],
    "far_behind": lambda sent_by, mark, rest: [f"Subject: {'x' * 900}", f"Via: {_via(sent_by, mark)}", *rest],
    "long_branch": lambda sent_by, mark, rest: [f"Via: {_via(sent_by, f'{mark:x<80}')}", *rest],
}
