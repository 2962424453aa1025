"""The scripts of scenarios: one preamble that Kamailio and sipwright read alike, and each scenario's own routes."""

from __future__ import annotations

PROBE = "are_you_there"  # the notification by which a scenario learns that a service is connected

PREAMBLE = """\
#!KAMAILIO
children=1
debug={debug}
log_stderror=yes
disable_tcp=yes
auto_aliases=no

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "kex.so"
loadmodule "htable.so"
loadmodule "jsonrpcc.so"

modparam("htable", "htable", "results=>size=4")
modparam("jsonrpcc", "servers", "{servers}")
{parameters}

request_route {{
    if ($rU == "ready") {{
        sl_send_reply("200", "Ready");
        exit;
    }}
    if ($rU == "connected") {{
        jsonrpc_notification("{probe}", "[]");
        sl_send_reply("200", "OK");
        exit;
    }}
    route(SCENARIO);
}}
"""

# Tells what came of a call: the route that was resumed and the text in `$var(result)`.
ANSWER_ROUTES = """
route[RESPONSE] {
    append_to_reply("X-Route: RESPONSE\\r\\n");
    append_to_reply("X-Result: $var(result)\\r\\n");
    t_reply("200", "OK");
}

route[ERROR] {
    append_to_reply("X-Route: ERROR\\r\\n");
    append_to_reply("X-Result: $var(result)\\r\\n");
    t_reply("500", "Failed");
}
"""


def script(routes: str, *ports: int, parameters: str = "", servers: str | None = None, debug: int = 2) -> str:
    """Return a whole script around `routes`, which must define `route[SCENARIO]`.

    The service's addresses are the `ports` of loopback, all of priority 1, or what `servers` says.
    """
    if servers is None:
        servers = " ".join(f"127.0.0.1:{port},1" for port in ports)
    return PREAMBLE.format(probe=PROBE, debug=debug, servers=servers, parameters=parameters) + routes
