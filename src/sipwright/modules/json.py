"""Module json: loaded by scripts for `{json.parse,path}`, which module pv has here."""

from __future__ import annotations

from sipwright.script.module import Module


class Json(Module):
    """What Kamailio's module json has in scripts is part of pv."""

    name = "json"
    requires = ("pv",)
    ignored_params = ("json_escape_str",)
