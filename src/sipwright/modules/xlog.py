"""Module xlog: log lines from scripts, `xlog([[facility,] level,] format)` and one function for each level.

A level that is off costs a look at the logger: the text is not put together. A facility is for syslog. Lines begin with
the `prefix` parameter, `<script>: ` as in Kamailio.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from typing import Annotated, Any

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import ParamKind, Value
from sipwright.script.context import Context
from sipwright.script.kinds import LazyStr, to_text
from sipwright.script.loglevels import ALERT, BUG, LEVELS, NOTICE, facility_of, level_of
from sipwright.script.module import Module, Param, function
from sipwright.script.services import Services


def _to_level(value: Value) -> int:
    text = str(value)
    if text in LEVELS:
        return LEVELS[text]
    try:
        return level_of(int(text))
    except ValueError:
        close = difflib.get_close_matches(text if text.startswith("L_") else f"L_{text}", LEVELS, n=1)
        message = f"{value!r} is no log level, which is one of {', '.join(LEVELS)}, or -5 to 3"
        raise ArgumentError(message, suggestion=close[0] if close else None) from None


Level = Annotated[int, ParamKind("log level", "a log level, L_ERR for one, or its number", convert=_to_level)]
Facility = Annotated[
    int, ParamKind("log facility", "a log facility, LOG_LOCAL0 for one", convert=lambda v: facility_of(to_text(v)))
]


def _take_facility(module: Xlog, name: str) -> None:
    module.facility = facility_of(name)


# Whether a line of a fixed level, or of the level that is among the arguments, is written at all.
def _writes(level: int) -> Callable[..., bool]:
    return lambda xlog, _ctx, _text: bool(xlog.is_on(level))


def _writes_level(xlog: Xlog, _ctx: Context, *arguments: Any) -> bool:
    return bool(xlog.is_on(arguments[-2]))


class Xlog(Module):
    """Log lines. They all go to the log of scripts and modules."""

    name = "xlog"
    prefix = Param(str, "<script>: ", doc="what each line begins with")
    log_facility = Param(str, "", parse=_take_facility, doc="of all lines in syslog, LOG_LOCAL0 for one")
    ignored_params = ("buf_size", "force_color", "log_colors", "long_format", "methods_filter")
    facility: int | None = None

    def child_init(self, services: Services) -> None:
        """Bind the logger."""
        super().child_init(services)
        self.is_on = services.log.isEnabledFor
        self._log = services.log.log

    @function("xlog", reads=_writes(logging.ERROR))
    def xlog(self, ctx: Context, text: LazyStr) -> int:
        """Log at level ERR, as Kamailio does when no level is given."""
        return self._write(ctx, logging.ERROR, text)

    @function("xlog", reads=_writes_level)
    def xlog_level(self, ctx: Context, level: Level, text: LazyStr) -> int:
        """Log at a level: `L_INFO`, or its number."""
        return self._write(ctx, level, text)

    @function("xlog", reads=_writes_level)
    def xlog_facility(self, ctx: Context, facility: Facility, level: Level, text: LazyStr) -> int:
        """Log at a level; `LOG_LOCAL0` and the like tell syslog where the line belongs."""
        return self._write(ctx, level, text, facility)

    @function(reads=_writes(logging.DEBUG))
    def xdbg(self, ctx: Context, text: LazyStr) -> int:
        """Log at level DBG."""
        return self._write(ctx, logging.DEBUG, text)

    @function(reads=_writes(logging.INFO))
    def xinfo(self, ctx: Context, text: LazyStr) -> int:
        """Log at level INFO."""
        return self._write(ctx, logging.INFO, text)

    @function(reads=_writes(NOTICE))
    def xnotice(self, ctx: Context, text: LazyStr) -> int:
        """Log at level NOTICE."""
        return self._write(ctx, NOTICE, text)

    @function(reads=_writes(logging.WARNING))
    def xwarn(self, ctx: Context, text: LazyStr) -> int:
        """Log at level WARN."""
        return self._write(ctx, logging.WARNING, text)

    @function(reads=_writes(logging.ERROR))
    def xerr(self, ctx: Context, text: LazyStr) -> int:
        """Log at level ERR."""
        return self._write(ctx, logging.ERROR, text)

    @function(reads=_writes(logging.CRITICAL))
    def xcrit(self, ctx: Context, text: LazyStr) -> int:
        """Log at level CRIT."""
        return self._write(ctx, logging.CRITICAL, text)

    @function(reads=_writes(BUG))
    def xbug(self, ctx: Context, text: LazyStr) -> int:
        """Log at level BUG."""
        return self._write(ctx, BUG, text)

    @function(reads=_writes(ALERT))
    def xalert(self, ctx: Context, text: LazyStr) -> int:
        """Log at level ALERT."""
        return self._write(ctx, ALERT, text)

    def _write(self, ctx: Context, level: int, text: LazyStr, facility: int | None = None) -> int:
        if self.is_on(level):
            facility = self.facility if facility is None else facility
            # Scripts end their lines with \n, and so does the log.
            line = text(ctx).rstrip("\r\n")
            if facility is None:
                self._log(level, "%s%s", self.prefix, line)
            else:
                self._log(level, "%s%s", self.prefix, line, extra={"facility": facility})
        return 1
