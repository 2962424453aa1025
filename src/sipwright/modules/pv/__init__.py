"""Module pv: variables, transformations, and the functions about them.

The module is put together from parts, one file each, that stand on their own; they only declare.
"""

from __future__ import annotations

from sipwright.modules.pv.addresses import NameAddrTransformations, UriTransformations
from sipwright.modules.pv.avp import Avps
from sipwright.modules.pv.encodings import Encodings
from sipwright.modules.pv.flag_vars import FlagVariables
from sipwright.modules.pv.functions import PvFunctions
from sipwright.modules.pv.identity_vars import IdentityVariables
from sipwright.modules.pv.json_parts import JsonTransformations
from sipwright.modules.pv.lists import ListTransformations
from sipwright.modules.pv.message_vars import MessageVariables
from sipwright.modules.pv.script_vars import ScriptVariables
from sipwright.modules.pv.selects import Selects
from sipwright.modules.pv.strings import StringTransformations
from sipwright.modules.pv.time_vars import TimeVariables
from sipwright.modules.pv.uri_vars import UriVariables
from sipwright.modules.pv.xavp import Xavps


class Pv(
    ScriptVariables,
    Avps,
    Xavps,
    MessageVariables,
    UriVariables,
    IdentityVariables,
    TimeVariables,
    FlagVariables,
    Selects,
    StringTransformations,
    Encodings,
    UriTransformations,
    NameAddrTransformations,
    ListTransformations,
    JsonTransformations,
    PvFunctions,
):
    """The module as scripts load it."""

    name = "pv"
    ignored_params = ("avp_aliases", "shv_hash_size")
