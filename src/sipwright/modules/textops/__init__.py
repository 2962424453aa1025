"""Module textops: text of the message: methods, headers, bodies, substitution, and string comparison.

The module is put together from parts, one file each, that stand on their own; they only declare.
"""

from __future__ import annotations

from sipwright.modules.textops.headers import HeaderFunctions
from sipwright.modules.textops.text import TextFunctions


class Textops(TextFunctions, HeaderFunctions):
    """The module as scripts load it."""

    name = "textops"
    ignored_params = ("set_body_multipart_mode",)
