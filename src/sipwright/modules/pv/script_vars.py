"""Variables that hold one value: `$var`, of the message being handled, and `$shv`, shared; with their parameters.

`$null` assigned to either of them makes it 0, as in Kamailio. Stacks of values are in avp.py and xavp.py.
`$shv` is in a store that all workers share, which is opened only where the script has one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from random import Random
from typing import Any

from sipwright.errors import ArgumentError, StoreError
from sipwright.lang.namespace import Value, Variable
from sipwright.script.context import Context
from sipwright.script.kinds import to_int
from sipwright.script.module import Module, Param, VariableUse, pvar, pvar_factory
from sipwright.script.services import Services
from sipwright.script.store import Item, Store

_match_definition = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*=\s*([isIS])\s*:(.*)", re.DOTALL).fullmatch


def parse_definition(text: str) -> tuple[str, Item]:
    """Parse `name=i:5` or `name=s:text`, the form of `varset` and `shvset`. ArgumentError: anything else."""
    match = _match_definition(text)
    if match is None:
        raise ArgumentError(f"expected 'name=i:number' or 'name=s:text', found {text!r}", 0)
    name, kind, value = match.groups()
    if kind in "sS":
        return name, value
    try:
        return name, to_int(value.strip())
    except ArgumentError as error:
        raise ArgumentError(error.message, match.start(3)) from None


def _varset(module: ScriptVariables, text: str) -> None:
    name, value = parse_definition(text)
    module.initial[name] = value


def _shvset(module: ScriptVariables, text: str) -> None:
    name, value = parse_definition(text)
    module.shared[name] = value
    module.shares = True


class ScriptVariables(Module):
    """The variables that hold what a script puts there."""

    varset = Param(str, "", parse=_varset, doc="initial value of a $var, 'name=i:5' or 'name=s:text'; repeatable")
    shvset = Param(str, "", parse=_shvset, doc="initial value of a $shv, 'name=i:5' or 'name=s:text'; repeatable")

    def __init__(self, require: Callable[[str], Any]) -> None:
        super().__init__(require)
        self.initial: dict[str, Item] = {}
        self.shared: dict[str, Item] = {}
        # Whether the script has a $shv.
        self.shares = False
        self._shv: Store
        self._random = Random()  # noqa: S311 - Kamailio: $RANDOM is for spreading load, not for secrets

    def child_init(self, services: Services) -> None:
        """Open the store of `$shv`; its initial values are there once, and stay as scripts have changed them."""
        super().child_init(services)
        if self.shares:
            self._shv = services.shared_store("pv:shv")
            for name, value in self.shared.items():
                with contextlib.suppress(StoreError):
                    self._shv.insert(name, value, None)

    @pvar_factory("var")
    def pv_var(self, use: VariableUse) -> Variable:
        """A variable of the message being handled; 0 until it is set, and once it is set to `$null`."""
        name = _plain_name(use)
        default = self.initial.get(name, 0)

        def get(ctx: Context) -> Value:
            return ctx.vars.get(name, default)

        def assign(ctx: Context, value: Value) -> None:
            ctx.vars[name] = 0 if value is None else value

        return Variable(use.text, get, assign)

    @pvar_factory("shv")
    def pv_shv(self, use: VariableUse) -> Variable:
        """A variable that all messages share, in all workers; 0 until it is set."""
        name = _plain_name(use)
        self.shares = True

        def get(_ctx: Context) -> Value:
            value = self._shv.get(name)
            return 0 if value is None else value

        def assign(_ctx: Context, value: Value) -> None:
            # What a full store refuses has been logged by it; the script goes on.
            with contextlib.suppress(StoreError):
                self._shv.set(name, 0 if value is None else value, None, renew=True)

        return Variable(use.text, get, assign)

    @pvar("null")
    def pv_null(self, _ctx: Context) -> Value:
        """No value."""
        return None

    @pvar("RANDOM")
    def pv_random(self, _ctx: Context) -> Value:
        """A random integer from 0 to 2**31 - 1."""
        return self._random.getrandbits(31)


def _plain_name(use: VariableUse) -> str:
    if use.index is not None:
        raise ArgumentError(f"${use.name} takes no index")
    return use.fixed_inner()
