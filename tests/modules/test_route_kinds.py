"""Where Kamailio lets a script call a function, the script is good here, too (observed on Kamailio 5.6.3)."""

from __future__ import annotations

from typing import Any

import pytest

from sipwright.errors import ConfigErrors

CALLS = [
    ("onreply_route[A]", 'sanity_check("17604", "6");'),
    ("event_route[core:worker-one-init]", 'sanity_check("17604", "6");'),
    ("reply_route", "msg_apply_changes();"),
    ("event_route[core:worker-one-init]", "msg_apply_changes();"),
    ("onreply_route[A]", 't_reply("400", "x");'),
    ("onreply_route[A]", 'send_reply("400", "x");'),
    ("event_route[core:worker-one-init]", 'mf_process_maxfwd_header("1");'),
    ("branch_route[A]", 'is_maxfwd_lt("1");'),
]


@pytest.mark.parametrize(("block", "call"), CALLS)
def test_functions_may_be_called_from_the_same_routes(compiled: Any, block: str, call: str) -> None:
    assert compiled.log('xlog("good");', more=f"{block} {{ {call} }}") == ["good"]


@pytest.mark.parametrize("call", ['sl_send_reply("400", "x");', "t_newtran();"])
def test_and_not_from_others(compiled: Any, call: str) -> None:
    with pytest.raises(ConfigErrors, match="cannot be called from onreply_route"):
        compiled.run("exit;", more=f"onreply_route[A] {{ {call} }}")
