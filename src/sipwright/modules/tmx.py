"""Module tmx: loaded by scripts for functions and variables that tm and pv have here."""

from __future__ import annotations

from sipwright.script.module import Module


class Tmx(Module):
    """What Kamailio's module tmx has in scripts is part of tm, and `$T(...)` of pv."""

    name = "tmx"
    requires = ("tm",)
