"""Functions and variables that are always there, without any module loaded (Kamailio's core)."""

from __future__ import annotations

from sipwright.script.module import Module


class Core(Module):
    """What every script has."""

    name = "core"
