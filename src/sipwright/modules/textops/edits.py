"""The edits of a context: made at the first edit, against the message that is there then."""

from __future__ import annotations

import re
from typing import Annotated

from sipwright.lang.namespace import ParamKind, Value
from sipwright.lang.regex import compile_regex
from sipwright.script.context import Context
from sipwright.script.kinds import to_text
from sipwright.sip.edits import Edits


def edits_of(ctx: Context) -> Edits:
    """Return the edits of a context's message."""
    edits = ctx.edits
    if edits is None:
        edits = ctx.edits = Edits(ctx.message)
    return edits


def _to_pattern(value: Value) -> re.Pattern[str]:
    return compile_regex(to_text(value), multiline=True)


# Kamailio: this module's expressions ignore case, and `.`, `^` and `$` are about lines.
LineRegex = Annotated[
    re.Pattern[str], ParamKind("regex", "a regular expression", convert=_to_pattern, lone_dollar=True)
]
