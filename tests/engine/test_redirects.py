"""A redirection names the Request-URI that the script set, as Kamailio's do."""

from __future__ import annotations

import pytest

from sipwright.testing.script import run_script, sip_request

SCRIPT = """
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
request_route {{ {} }}
"""


@pytest.mark.parametrize("function", ["t_reply", "sl_send_reply", "send_reply"])
@pytest.mark.parametrize(
    ("before", "status", "contact"),
    [
        ('$ru = "sip:new@example.test";', 302, "<sip:new@example.test>"),
        ('$ru = "sip:new@example.test>\\r\\nX-A: b";', 302, None),
        ('$rU = "new";', 301, "<sip:new@127.0.0.1>"),
        ("", 302, None),
        ('$ru = "sip:new@example.test"; revert_uri();', 302, None),
        ('$ru = "sip:new@example.test";', 404, None),
        ('$ru = "sip:new@example.test";', 200, None),
        (
            '$ru = "sip:new@example.test"; append_to_reply("X-A: b\\r\\nContact: <sip:own@b>\\r\\n");',
            302,
            "<sip:own@b>",
        ),
    ],
)
def test_a_redirection_has_a_contact(function: str, before: str, status: int, contact: str | None) -> None:
    run = run_script(
        SCRIPT.format(f'{before} {function}("{status}", "x");'), sip_request("MESSAGE", uri="sip:old@127.0.0.1")
    )
    assert run.status == status
    assert run.replies[-1].headers("Contact") == ([] if contact is None else [contact])
