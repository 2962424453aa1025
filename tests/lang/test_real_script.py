"""A whole script as operators write them: it compiles, and takes the ways it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sipwright.lang.compiler import Program, compile_file, compile_script
from sipwright.lang.namespace import FunctionSpec, ParamKind, ParamSpec, Part, RouteKind, Value, Variable

ANYTHING = ParamKind("anything", "anything", convert=lambda value: value, textual=False)

SCRIPT = r"""
#!KAMAILIO
# An edge proxy that registers users, relays calls and asks a service about numbers.
#!define WITH_NAT
#!define FLT_NATS 5
#!define FLB_NATB 6
#!define DOMAIN "example.org"
#!substdef "!MY_PORT!5060!g"
#!trydef CHILDREN 4
#!ifndef LEVEL
#!define LEVEL 2
#!endif

/* global parameters */
debug=LEVEL
log_stderror=no
log_facility=LOG_LOCAL0
fork=yes
children=CHILDREN
auto_aliases=no
alias="sip.example.org"
listen=udp:127.0.0.1:MY_PORT
#!ifdef WITH_TLS
listen=tls:127.0.0.1:5061
enable_tls=yes
#!endif
tcp_connection_lifetime=3605
server_header="Server: edge"
user_agent_header="User-Agent: edge"
edge.max = 10 desc "calls at once"

loadpath "/usr/lib/modules"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "jsonrpc.so"
loadmodule "htable.so"

modparam("tm", "failure_reply_mode", 3)
modparam("tm|sl", "fr_timer", 30000)
modparam("jsonrpc", "servers", "localhost:9999,2 backup.example.org:9999,1")
modparam("htable", "htable", "ban=>size=8;autoexpire=300;")

request_route {
    route(CHECK);
    route(NAT);

    if (is_method("CANCEL")) {
        if (t_check_trans()) {
            route(RELAY);
        }
        exit;
    }
    if (!is_method("ACK")) {
        if (t_precheck_trans()) {
            t_check_trans();
            exit;
        }
        t_check_trans();
    }
    route(WITHINDLG);

    remove_hf("Route");
    if (is_method("INVITE|SUBSCRIBE"))
        record_route();

    if (is_method("REGISTER")) route(REGISTRAR);

    if ($rU == $null) {
        sl_send_reply("484", "Address Incomplete");
        exit;
    }
    switch ($(rU{s.len})) {
        case 3:
        case 4:
            $du = "sip:pbx." + DOMAIN + ":" + 5070;
            route(RELAY);
            break;
        default:
            if ($rU =~ "^\+?[0-9]{7,15}$") {
                jsonrpc_request("route.number", "{'number': '$rU', 'from': '$fU'}",
                                "ANSWER", "NOANSWER", "$var(answer)");
                exit;
            }
    }
    route(LOCATION);
}

route[CHECK] {
    if ($ua =~ "scanner|friendly") { exit; }
    if (src_ip != myself) {
        if ($sht(ban=>$si) != $null) {
            xlog("L_ALERT", "blocked $rm from $si:$sp ($(ua{s.len}) $$)\n");
            exit;
        }
        if (!pike_check_req()) {
            $sht(ban=>$si) = 1;
            exit;
        }
    }
    if (!mf_process_maxfwd_header("10")) {
        sl_send_reply(483, "Too Many Hops");
        exit;
    }
    if (is_method("OPTIONS") && uri == myself && $rU == $null) {
        sl_send_reply("200", "Keepalive");
        exit;
    }
    if (not sanity_check("17895", "7")) { drop; }
}

route[WITHINDLG] {
    if (!has_totag()) return;
    if (loose_route()) {
        if ($du == "" || !strempty($du) and is_method("BYE")) { setflag(FLT_NATS); }
        route(RELAY);
        exit;
    }
    if (is_method("ACK") && !t_check_trans()) exit;
    sl_send_reply("404", "Not here");
    exit;
}

route[REGISTRAR] {
    if (isflagset(FLT_NATS)) setbflag(FLB_NATB);
    if (!save("location")) sl_reply_error();
    exit;
}

route[LOCATION] {
    if (!lookup("location")) {
        $var(rc) = $rc;
        t_newtran();
        switch ($var(rc)) {
            case -1: case -3:
                send_reply("404", "Not Found"); exit;
            case -2:
                send_reply("405", "Method Not Allowed"); exit;
        }
    }
    route(RELAY);
}

route[RELAY] {
    if (is_method("INVITE|BYE|SUBSCRIBE|UPDATE")) {
        if (!t_is_set("branch_route")) t_on_branch("MANAGE_BRANCH");
    }
    if (is_method("INVITE")) {
        if (!t_is_set("failure_route")) t_on_failure("MANAGE_FAILURE");
    }
    if (!t_relay()) { sl_reply_error(); }
    exit;
}

route[NAT] {
#!ifdef WITH_NAT
    force_rport;
    if (nat_uac_test("19")) {
        if (is_method("REGISTER")) { fix_nated_register(); } else { set_contact_alias(); }
        setflag(FLT_NATS);
    }
#!endif
    return;
}

route[ANSWER] {
    $var(i) = 0;
    while ($var(i) < 3 && $(var(answer){json.parse,targets[$var(i)]}) != "") {
        append_branch("$(var(answer){json.parse,targets[$var(i)]})");
        $var(i) = $var(i) + 1;
    }
    if ($var(i) mod 2 == 1 || ($var(i) & 4) > 0) xinfo("odd $var(i)\n");
    $avp(s:tries) = $var(i) + 1;
    $(avp(x)[0]) = (int)$(var(answer){json.parse,count}) - 1;
    route(RELAY);
}

route[NOANSWER] {
    xlog("L_ERR", "no answer: $var(answer)\n");
    send_reply(503, "Service " "Unavailable");
}

branch_route[MANAGE_BRANCH] { xdbg("new branch to $ru\n"); }
onreply_route[MANAGE_REPLY] { if (status =~ "[12][0-9][0-9]") { fix_nated_contact(); } }
failure_route[MANAGE_FAILURE] {
    if (t_is_canceled()) exit;
    if (t_check_status("3[0-9][0-9]")) { t_reply("404", "Not found"); exit; }
}
onreply_route { return 1; }
event_route[htable:mod-init] { $sht(ban=>start) = $TS; }
event_route[tm:local-request] { $avp(a) = $hdr(X-Id); }
"""


class OpenNamespace:
    """Knows every name, and writes down what is called."""

    def __init__(self) -> None:
        self.false: set[str] = set()

    def load_module(self, name: str) -> None: ...

    def set_param(self, module: str, name: str, value: int | str) -> None: ...

    def set_global(self, name: str, value: Sequence[int | str]) -> str | None:
        return None

    def takes_variable(self, _module: str, _name: str) -> bool:
        return False

    def set_param_variable(self, module: str, name: str, variable: Variable) -> None: ...

    def takes_variables(self, name: str) -> bool:
        return name == "log_prefix"

    def set_global_text(self, name: str, parts: Sequence[Part]) -> None: ...

    def functions(self, name: str) -> Sequence[FunctionSpec]:
        def call(context: Any, *arguments: Value) -> int:
            context.did.append((name, *arguments) if arguments else name)
            if name == "is_method":
                return 1 if context.values["$rm"] in str(arguments[0]).split("|") else -1
            return -1 if name in self.false else 1

        return [FunctionSpec(name, "core", call, tuple(ParamSpec(f"p{i}", ANYTHING, optional=True) for i in range(6)))]

    def variable(self, text: str, name: str, inner: Sequence[str | Variable] | None, _index: Any) -> Variable:
        written = "" if inner is None else f"({''.join(p if isinstance(p, str) else p.text for p in inner)})"
        key = f"${name}{written}"
        return Variable(text, lambda c: c.values.get(key), lambda c, v: c.values.__setitem__(key, v))

    def transformation(self, cls: str, name: str, _params: Any) -> Callable[[Any, Value], Value]:
        return (lambda _c, v: len(str(v))) if name == "len" else (lambda _c, _v: "")

    def is_myself(self, _context: Any, uri: Value) -> bool:
        return uri == "sip:edge"

    def event_routes(self) -> list[str]:
        return ["htable:mod-init", "tm:local-request"]

    def event_route_note(self, name: str) -> str | None:
        return None

    def elsewhere(self, _what: str, _name: str) -> str | None:
        return None

    def names(self, _what: str) -> list[str]:
        return []


class Call:
    """A context of the open namespace."""

    def __init__(self, **values: Value) -> None:
        self.values = {f"${name}": value for name, value in values.items()}
        self.did: list[Any] = []
        self.dropped = False
        self.rc = 1


@pytest.fixture
def namespace() -> OpenNamespace:
    return OpenNamespace()


@pytest.fixture
def program(namespace: OpenNamespace) -> Program:
    return compile_script(SCRIPT, namespace, "edge.cfg", {"CHILDREN": "8"})


def test_all_of_it_is_read(program: Program) -> None:
    assert sorted(name for kind, name in program.routes if kind is RouteKind.REQUEST) == [
        "", "ANSWER", "CHECK", "LOCATION", "NAT", "NOANSWER", "REGISTRAR", "RELAY", "WITHINDLG",
    ]  # fmt: skip
    assert program.settings["listen"] == [("udp:127.0.0.1:5060",)]
    assert program.settings["children"] == [(8,)]
    assert program.notes == []


def test_a_call_to_a_number_asks_the_service(program: Program, namespace: OpenNamespace) -> None:
    namespace.false |= {"has_totag", "t_precheck_trans", "nat_uac_test"}
    call = Call(rm="INVITE", rU="+4930123456", fU="alice", si="10.0.0.1", ru="sip:x", ua="phone")
    assert program.request_route.run(call) == 0
    params = "{'number': '+4930123456', 'from': 'alice'}"
    assert call.did[-1] == ("jsonrpc_request", "route.number", params, "ANSWER", "NOANSWER", None)


def test_a_short_number_goes_to_the_exchange(program: Program, namespace: OpenNamespace) -> None:
    namespace.false |= {"has_totag", "t_precheck_trans", "nat_uac_test", "t_is_set"}
    call = Call(rm="INVITE", rU="123", si="10.0.0.1", ru="sip:x", ua="phone")
    assert program.request_route.run(call) == 0
    assert call.did[-1] == "t_relay"
    assert call.values["$du"] == "sip:pbx.example.org:5070"


def test_a_banned_address_is_dropped_at_once(program: Program) -> None:
    call = Call(rm="INVITE", si="10.0.0.1", sp=5060, ua="phone", **{"sht(ban=>$si)": 1})
    assert program.request_route.run(call) == 0
    assert call.did == [("xlog", "L_ALERT", "blocked INVITE from 10.0.0.1:5060 (5 $)\n")]


def test_an_unknown_user_is_answered_by_the_code_of_the_lookup(program: Program, namespace: OpenNamespace) -> None:
    namespace.false |= {"lookup"}
    call = Call(rm="INVITE", rc=-1)
    assert program.routes[RouteKind.REQUEST, "LOCATION"].run(call) == 0
    assert call.did[-1] == ("send_reply", "404", "Not Found")


def test_the_script_that_kamailio_comes_with_compiles(namespace: OpenNamespace) -> None:
    path = Path("/etc/kamailio/kamailio.cfg")
    if not path.exists():
        pytest.skip("kamailio is not installed")
    parts = (
        "MYSQL",
        "AUTH",
        "NAT",
        "USRLOCDB",
        "PRESENCE",
        "ACCDB",
        "PSTN",
        "ANTIFLOOD",
        "TLS",
        "VOICEMAIL",
        "ALIASDB",
    )
    plain = compile_file(str(path), namespace)
    full = compile_file(str(path), namespace, {f"WITH_{part}": "" for part in parts})
    assert len(full.routes) >= len(plain.routes) > 10
