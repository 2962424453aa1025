"""A script with module janssonrpcc for Kamailio and for sipwright, and either of them running it beside some services.

A request says in its headers what is asked, so that one script is enough for most cases: `X-Conn`, `X-Params` and
`X-Options`; the method is the user part of its URI. What came of it is told in `X-Result` and `X-Code`.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.scenarios.processes import SipServerProcess
from tests.scenarios.scripted_service import Behaviour, Call, ScriptedService
from tests.scenarios.side_by_side import SERVERS
from tests.scenarios.sip_client import SipClient, SipReply

SCRIPT = """\
#!KAMAILIO
children=1
debug=2
log_stderror=yes
disable_tcp=yes
auto_aliases=no

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "jansson.so"
loadmodule "janssonrpcc.so"

{parameters}

request_route {{
    if ($rU == "ready") {{
        sl_send_reply("200", "Ready");
        exit;
    }}
    if (is_method("ACK")) {{
        t_check_trans();
        exit;
    }}
    $var(jsrpc_result) = "before";
    if (is_method("MESSAGE")) {{
        janssonrpc_notification("$hdr(X-Conn)", "$rU", "$hdr(X-Params)");
        route(WENT_ON);
    }}
    {routes}
    janssonrpc_request("$hdr(X-Conn)", "$rU", "$hdr(X-Params)", "$hdr(X-Options)");
    route(WENT_ON);
}}

route[RESPONSE] {{
    append_to_reply("X-Result: $var(jsrpc_result)\\r\\n");
    t_reply("200", "OK");
}}

# Only reached when the call before gave 1 or -1.
route[WENT_ON] {{
    $var(code) = $rc;
    append_to_reply("X-Code: $var(code)\\r\\nX-Result: $var(jsrpc_result)\\r\\n");
    sl_send_reply("480", "Went On");
    exit;
}}
{blocks}
"""


def server(number: int, conn: str = "svc", more: str = "") -> str:
    """Return the line for a service, by its place among those that are running."""
    return f'modparam("janssonrpcc", "server", "conn={conn};addr=127.0.0.1;port=PORT{number}{more}")\n'


@dataclass
class Seen:
    """The final reply to one request (None: there was none in time), how long it took, and the calls made meanwhile."""

    reply: SipReply | None
    seconds: float
    calls: list[Call]

    @property
    def code(self) -> int | None:
        """What the function returned, where the script went on; None where a route was resumed, or nothing came."""
        text = None if self.reply is None else self.reply.header("X-Code")
        return None if text is None else int(text)

    @property
    def result(self) -> Any:
        """What the result variable held, parsed; None: no route was resumed."""
        text = None if self.reply is None else self.reply.header("X-Result")
        return json.loads(text) if text and text[0] == "{" else text

    @property
    def internal_code(self) -> int | None:
        """The code of the internal error, if there was one."""
        code: int | None = self.result["internal_error"]["code"] if self.result else None
        return code


@dataclass
class Running:
    """A server with its services."""

    name: str
    process: SipServerProcess
    services: Sequence[ScriptedService]

    @property
    def is_kamailio(self) -> bool:
        return self.name == "kamailio"

    @property
    def service(self) -> ScriptedService:
        return self.services[0]

    def calls(self) -> list[Call]:
        """All calls that came to any service."""
        return [call for service in self.services for call in service.calls]

    def ask(
        self,
        method: str,
        options: str = "route=RESPONSE",
        *,
        conn: str = "svc",
        params: str = '{"x":1}',
        sip: str = "OPTIONS",
        seconds: float = 5.0,
        **headers: str,
    ) -> Seen:
        """Send a request that asks for a method, and wait for its final reply, `seconds` at the most."""
        before, began = len(self.calls()), time.monotonic()
        more = {f"X-{name.title()}": value for name, value in headers.items()}
        with SipClient(self.process.address) as client:
            client.send(
                client.build(
                    sip, user=method, headers={"X-Conn": conn, "X-Params": params, "X-Options": options, **more}
                )
            )
            replies = client.replies(seconds)
        final = replies[-1] if replies and replies[-1].status >= 200 else None
        return Seen(final, time.monotonic() - began, self.calls()[before:])

    def wait_until_connected(self, service: ScriptedService) -> None:
        """Wait until the server has a connection to a service."""
        service.wait_for_connections()
        connected = re.compile(rf"onnected to .*:{service.port}\b")
        self.process.wait_until(lambda: connected.search(self.process.log) is not None, f"not to {service.port}")


@contextlib.contextmanager
def running(
    name: str, directory: Path, behaviours: Sequence[Behaviour], parameters: str, routes: str = "", blocks: str = ""
) -> Iterator[Running]:
    """Run the server of that name beside services of these behaviours; `parameters` are made with `server`.

    `routes` are further statements of the request route, `blocks` further route blocks.
    """
    with contextlib.ExitStack() as stack:
        services = [stack.enter_context(ScriptedService(behaviour)) for behaviour in behaviours]
        text = SCRIPT.format(parameters=parameters, routes=routes, blocks=blocks)
        for number, service in enumerate(services):
            text = text.replace(f"PORT{number}", str(service.port))
        started = Running(name, stack.enter_context(SERVERS[name](text, directory)), services)
        for service in services:
            started.wait_until_connected(service)
        yield started
