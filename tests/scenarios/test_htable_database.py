"""Tables on disk, of Kamailio and of sipwright: each loads what the other has saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipwright.testing import ScriptDriver, sip_request
from tests.scenarios.processes import KamailioProcess, require_kamailio_module
from tests.scenarios.sip_client import SipClient

pytestmark = pytest.mark.scenario

SCRIPT = """#!KAMAILIO
debug=0
log_stderror=yes
children=1
loadmodule "db_sqlite.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "htable.so"
modparam("htable", "db_url", "sqlite:///{path}")
modparam("htable", "db_expires", 1)
modparam("htable", "htable", "t=>size=4;autoexpire=600;dbtable=kept;dbmode=1;")
request_route {{
    if ($rU == "set") {{
        $sht(t=>text) = $ua;
        $sht(t=>number) = -42;
        $sht(t=>short) = "v";
        $shtex(t=>short) = 60;
        $sht(t=>gone) = "v";
    }} else if ($rU == "change") {{
        $sht(t=>number) = $sht(t=>number) + 1;
        $sht(t=>gone) = $null;
    }}
    $var(short) = $shtex(t=>short) > 50 && $shtex(t=>short) <= 60;
    $var(long) = $shtex(t=>text) > 590 && $shtex(t=>text) <= 600;
    append_to_reply("X-Text: $sht(t=>text)\\r\\n");
    append_to_reply("X-Others: $sht(t=>number) $sht(t=>short) $sht(t=>gone) $var(short) $var(long)\\r\\n");
    sl_send_reply("200", "OK");
}}
"""
TEXT = 'it\'s "böse" [x]; 100 %'


def ask_kamailio(path: Path, directory: Path, user: str) -> tuple[str | None, str | None]:
    """Start Kamailio on the tables, ask it, and stop it; return what it says of them."""
    with KamailioProcess(SCRIPT.format(path=path), directory) as kamailio, SipClient(kamailio.address) as client:
        reply = client.ask("OPTIONS", user=user, headers={"User-Agent": TEXT})
        return reply.header("X-Text"), reply.header("X-Others")


def ask_sipwright(path: Path, user: str) -> tuple[str | None, str | None]:
    driver = ScriptDriver(SCRIPT.format(path=path))
    reply = driver.receive(sip_request("OPTIONS", f"sip:{user}@example.org", headers={"User-Agent": TEXT}))[0]
    driver.stop()
    assert driver.log == []
    return reply.header("x-text"), reply.header("x-others")


def test_kamailio_and_sipwright_load_what_the_other_has_saved(tmp_path: Path) -> None:
    require_kamailio_module("db_sqlite")
    path = tmp_path / "tables.db"
    assert ask_sipwright(path, "set") == (TEXT, "-42 v v 1 1")
    assert ask_kamailio(path, tmp_path, "change") == (TEXT, "-41 v <null> 1 1")
    assert ask_sipwright(path, "change") == (TEXT, "-40 v <null> 1 1")
    assert ask_kamailio(path, tmp_path, "look") == (TEXT, "-40 v <null> 1 1")
