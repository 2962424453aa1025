"""Variables of the time: `$TS`, `$TV(s)`, `$Tf`, `$time(hour)`, `$timef(%H:%M)` and their like.

Those that Kamailio calls cached show the moment when the message first asked for one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Value, Variable
from sipwright.script.context import Context
from sipwright.script.kinds import prepare_text
from sipwright.script.module import Module, VariableUse, pvar, pvar_factory
from sipwright.script.services import Services

# Kamailio counts months, days of the week and days of the year from 1.
_FIELDS: dict[str, Callable[[time.struct_time], int]] = {
    "sec": lambda moment: moment.tm_sec,
    "min": lambda moment: moment.tm_min,
    "hour": lambda moment: moment.tm_hour,
    "mday": lambda moment: moment.tm_mday,
    "mon": lambda moment: moment.tm_mon,
    "year": lambda moment: moment.tm_year,
    "wday": lambda moment: (moment.tm_wday + 1) % 7 + 1,
    "yday": lambda moment: moment.tm_yday,
    "isdst": lambda moment: moment.tm_isdst,
}


class TimeVariables(Module):
    """The variables of the time, and the moment of the start."""

    def child_init(self, services: Services) -> None:
        """Remember when the worker started."""
        super().child_init(services)
        self._started = int(services.wall_clock())

    @pvar("TS")
    def pv_now(self, _ctx: Context) -> Value:
        """The time of day in seconds since 1970."""
        return int(self.services.wall_clock())

    @pvar("Ts")
    def pv_then(self, ctx: Context) -> Value:
        """The time in seconds since 1970, the same for all of a message."""
        return int(self._moment(ctx))

    @pvar("TF")
    def pv_now_text(self, _ctx: Context) -> Value:
        """The time as text, `Mon Nov 23 20:23:09 2026`."""
        return time.ctime(self.services.wall_clock())

    @pvar("Tf")
    def pv_then_text(self, ctx: Context) -> Value:
        """The time as text, the same for all of a message."""
        return time.ctime(self._moment(ctx))

    @pvar("Tb")
    def pv_started(self, _ctx: Context) -> Value:
        """When the worker started, in seconds since 1970."""
        return self._started

    @pvar_factory("TV")
    def pv_timeval(self, use: VariableUse) -> Variable:
        """Seconds and microseconds: `s`, `u`, cached; `sn`, `un`, now; `Sn` now as `seconds.microseconds`."""
        name = use.fixed_inner()
        if name in ("s", "u"):
            return Variable(use.text, lambda ctx: _timeval(self._moment(ctx))[name == "u"])
        if name in ("sn", "un"):
            return Variable(use.text, lambda _ctx: _timeval(self.services.wall_clock())[name == "un"])
        if name != "Sn":
            raise ArgumentError(f"expected $TV(s|u|sn|un|Sn), found {name!r}")
        return Variable(use.text, lambda _ctx: "{}.{:06}".format(*_timeval(self.services.wall_clock())))

    @pvar_factory("time", "utime")
    def pv_time(self, use: VariableUse) -> Variable:
        """A part of the time, local or (`$utime`) UTC: `$time(hour)`."""
        name = use.fixed_inner()
        part = _FIELDS.get(name)
        if part is None:
            raise ArgumentError(f"expected ${use.name}({'|'.join(_FIELDS)}), found {name!r}")
        convert = _converter(use)
        return Variable(use.text, lambda _ctx: part(convert(self.services.wall_clock())))

    @pvar_factory("timef", "utimef")
    def pv_time_format(self, use: VariableUse) -> Variable:
        """The time in a format of strftime, local or (`$utimef`) UTC: `$timef(%Y-%m-%d)`."""
        form = prepare_text(use.inner or ())
        convert = _converter(use)
        return Variable(use.text, lambda ctx: time.strftime(form(ctx), convert(self.services.wall_clock())))

    def _moment(self, ctx: Context) -> float:
        extra = ctx.extra
        if extra is None:
            extra = ctx.extra = {}
        if "pv" not in extra:
            extra["pv"] = self.services.wall_clock()
        moment: float = extra["pv"]
        return moment


def _converter(use: VariableUse) -> Callable[[float], time.struct_time]:
    return time.gmtime if use.name.startswith("u") else time.localtime


def _timeval(moment: float) -> tuple[int, int]:
    microseconds = int(moment * 1_000_000)
    return divmod(microseconds, 1_000_000)
