"""The global parameters of a script (`listen`, `children` ...): owns their values, and which of them have an effect."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Part
from sipwright.script.kinds import prepare_text
from sipwright.script.loglevels import DAEMON, facility_of

PROTOCOLS = ("udp", "tcp", "tls", "sctp", "ws", "wss")
DEFAULT_PORT = 5060
DEFAULT_TLS_PORT = 5061
# What a socket option can say.
MAX_BUFFER = 2**31 - 1

# Kamailio's global parameters that change nothing here, because there is nothing of the kind to set, or because it is
# always so. They are accepted with a note.
WITHOUT_EFFECT = frozenset(
    """
    advertised_address advertised_port async_nonblock async_tkv_evcb async_tkv_gname_timeout async_usleep async_workers
    auto_aliases auto_bind_ipv6 bind_ipv6_link_local cfgengine check_via chroot core_dump debug_level descriptor_log
    disable_core_dump disable_sctp disable_tcp disable_tls dns dns_cache_init dns_cache_mem dns_naptr_ignore_rfc
    dns_retr_no dns_retr_time dns_search_list dns_servers_no dns_sctp_pref dns_srv_lb dns_srv_loadbalancing dns_tcp_pref
    dns_tls_pref dns_try_ipv6 dns_try_naptr dns_udp_pref dns_use_search_list dst_blacklist_init dst_blocklist_init
    enable_sctp enable_tls event_callback exit_timeout fork force_rport http_reply_parse ip_free_bind
    kemi.onsend_route_callback latency_cfg_log latency_limit_action latency_limit_db latency_log listen_ipv6
    local_rport log_callid log_color loadpath max_branches max_recursive_level mcast mcast_loopback mcast_ttl
    memdbg memlog
    mem_add_size mem_join mem_safety mem_status_mode mem_summary mhomed mlock_pages mpath msg_time onsend_route_reply
    open_files_limit phone2tel pmtu_discovery pv_buffer_size pv_buffer_slots pv_cache_action pv_cache_limit
    real_time received_route_mode reply_to_via return_mode rev_dns route_locks_size rt_ktable_cnt rt_policy rt_prio
    rt_timer1_policy rt_timer1_prio rt_timer2_policy rt_timer2_prio rundir server_header
    server_id server_signature sctp_children sendbuffer shm_force_alloc sip_parser_log
    sip_parser_mode sip_warning socket_workers sql_buffer_size statistics stats_name_separator stealth stop_stats
    syn_branch tcp_accept_aliases tcp_accept_haproxy tcp_accept_iplimit tcp_accept_no_cl tcp_async tcp_children
    tcp_clone_rcvbuf tcp_connect_timeout tcp_connection_lifetime tcp_connection_match tcp_conn_wq_max tcp_crlf_ping
    tcp_defer_accept tcp_delayed_ack tcp_fd_cache tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_linger2
    tcp_max_connections tcp_no_connect tcp_poll_method tcp_rd_buf_size tcp_reuse_port tcp_script_mode tcp_send_timeout
    tcp_source_ipv4 tcp_source_ipv6 tcp_wq_blk_size tcp_wq_max tls_max_connections tls_port_no tos udp4_raw udp4_raw_mtu
    udp4_raw_ttl udp_mtu udp_mtu_try_proto udp_receiver_mode uri_host_extra_chars use_dns_cache use_dns_failover
    use_dst_blacklist use_dst_blocklist use_node_mapping use_sctp user_agent_header userblocklist utf8_uri
    version_table virtual_srv workdir wdir xavp_via_fields xavp_via_params xavp_via_reply_params
    """.split()
)


@dataclass(slots=True)
class ListenAddress:
    """Where to listen: protocol, host (`*` became `0.0.0.0`) and port; `advertise` is what to say of it elsewhere."""

    proto: str
    host: str
    port: int
    advertise: tuple[str, int] | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.proto}:{host}:{self.port}"


@dataclass
class Settings:
    """The global parameters with an effect.

    `debug` is Kamailio's level: -1 errors only, 2 info, 3 debug. `children` is the number of workers, None for one per
    core; `user` and `group` are names or numbers. `log_engine` is `json`, or empty for lines of text, `log_engine_data`
    its flags; `log_facility` is a number, `log_prefix` a function of the context. `receive_buffer` is Kamailio's
    `maxbuffer`, in bytes; `control` is the socket of the control interface.
    """

    # Those that are texts with variables.
    TEXTS: ClassVar[frozenset[str]] = frozenset(("log_prefix",))

    listen: list[ListenAddress] = field(default_factory=list)
    aliases: list[tuple[str, int]] = field(default_factory=list)
    children: int | None = None
    user: str | None = None
    group: str | None = None
    debug: int = 2
    log_stderror: bool = True
    log_engine: str = ""
    log_engine_data: str = ""
    log_facility: int = DAEMON
    log_name: str = "sipwright"
    log_prefix: Callable[[Any], str] | None = None
    log_prefix_mode: int = 0
    port: int = DEFAULT_PORT
    drain_timeout: int = 5_000
    max_while_loops: int = 100
    # What the shared tables may take, in MB.
    shm_mem_size: int = 1024
    receive_buffer: int = 4 * 1024 * 1024
    # Where the control interface listens: a path, `none`, or empty for the default.
    control: str = ""

    def set_global(self, name: str, value: Sequence[int | str]) -> str | None:
        """Set a global parameter of the script. Return a note when it has no effect; ArgumentError: unknown, wrong."""
        take = _TAKE.get(name)
        if take is not None:
            return take(self, value)
        if name in WITHOUT_EFFECT:
            return f"global parameter '{name}' has no effect here"
        matches = difflib.get_close_matches(name, list(self.names()), n=1)
        raise ArgumentError(f"unknown global parameter '{name}'", suggestion=matches[0] if matches else None)

    def set_text(self, name: str, parts: Sequence[Part]) -> None:
        """Set a global parameter that is a text with variables, one of TEXTS."""
        setattr(self, name, prepare_text(parts))

    def names(self) -> Iterable[str]:
        """Return the names of all global parameters."""
        return [*_TAKE, *self.TEXTS, *WITHOUT_EFFECT]


# Takes the values of a parameter, and returns a note when some of it has no effect.
Take: TypeAlias = Callable[[Settings, Sequence[int | str]], str | None]


def parse_listen(text: str, default_port: int = DEFAULT_PORT) -> ListenAddress:
    """Parse `udp:127.0.0.1:5060`, `127.0.0.1`, `udp:[::1]:5060`, `udp:*:5060`. ArgumentError: what is wrong where."""
    proto, rest, offset = "udp", text, 0
    head, colon, tail = text.partition(":")
    if colon and head.lower() in PROTOCOLS:
        proto, rest, offset = head.lower(), tail, len(head) + 1
    elif colon and not head.startswith("[") and not _is_host(head):
        raise ArgumentError(f"unknown protocol '{head}', expected one of {', '.join(PROTOCOLS)}", 0)
    host, port = split_host_port(rest, offset)
    if proto != "udp":
        raise ArgumentError(f"protocol '{proto}' is not supported yet, only udp", 0)
    if port is None:
        port = default_port
    return ListenAddress(proto, "0.0.0.0" if host == "*" else host, port)  # noqa: S104 - what `*` means


def split_host_port(text: str, offset: int = 0) -> tuple[str, int | None]:
    """Split `host`, `host:port`, `[v6]`, `[v6]:port`. ArgumentError with an offset counted from `offset`."""
    if text.startswith("["):
        end = text.find("]")
        if end < 0:
            raise ArgumentError("missing ']' after an IPv6 address", offset)
        host, rest = text[1:end], text[end + 1 :]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ArgumentError(f"'{host}' is no IPv6 address", offset + 1) from None
        at = end + 1
        if rest and not rest.startswith(":"):
            raise ArgumentError(f"expected ':' and a port, found '{rest}'", offset + at)
    else:
        host, _, _ = text.partition(":")
        rest, at = text[len(host) :], len(host)
    if not host:
        raise ArgumentError("missing host", offset)
    if not rest:
        return host, None
    port = rest[1:]
    if not port.isdecimal():
        raise ArgumentError(f"'{port}' is no port number", offset + at + 1)
    if not 0 < int(port) <= 65535:
        raise ArgumentError(f"port {port} is out of range, 1 to 65535", offset + at + 1)
    return host, int(port)


def _is_host(text: str) -> bool:
    return text in ("*", "localhost") or "." in text


def _one(name: str, value: Sequence[int | str]) -> int | str:
    if len(value) != 1:
        raise ArgumentError(f"global parameter '{name}' takes one value")
    return value[0]


def _integer(name: str, minimum: int, maximum: int | None = None, attribute: str | None = None) -> Take:
    def take(settings: Settings, value: Sequence[int | str]) -> None:
        only = _one(name, value)
        try:
            number = int(only)
        except ValueError:
            raise ArgumentError(f"global parameter '{name}' is an integer, not {only!r}") from None
        if number < minimum or (maximum is not None and number > maximum):
            limits = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
            raise ArgumentError(f"global parameter '{name}' must be {limits}, not {number}")
        setattr(settings, attribute or name, number)

    return take


def _take_log_stderror(settings: Settings, value: Sequence[int | str]) -> None:
    only = str(_one("log_stderror", value)).lower()
    if only not in ("yes", "no", "true", "false", "on", "off", "1", "0"):
        raise ArgumentError(f"global parameter 'log_stderror' is yes or no, not {only!r}")
    settings.log_stderror = only in ("yes", "true", "on", "1")


def _text(attribute: str) -> Callable[[Settings, Sequence[int | str]], None]:
    def take(settings: Settings, value: Sequence[int | str]) -> None:
        setattr(settings, attribute, str(_one(attribute, value)))

    return take


def parse_log_engine(text: str) -> tuple[str, str]:
    """Parse `json` or `json:FLAGS`, as `--log-engine` has it, to name and flags. ArgumentError: another engine or flag.

    The flags are Kamailio's: of them `j` (a message that is JSON becomes an object) and `p` (log_prefix is further
    members, `, "name": value ...`) change something here.
    """
    name, _, flags = text.partition(":")
    if name == "udp":
        raise ArgumentError("log engine 'udp' is not supported: let syslog send the log on, or choose 'json'")
    if name != "json":
        raise ArgumentError(f"unknown log engine '{name}': there is 'json', and text without one", suggestion="json")
    _check_flags(flags)
    return name, flags


# What `c` and `M` ask for is always so.
_ENGINE_FLAGS = {"j", "p", "c", "M"}
_ENGINE_FLAGS_WITHOUT_EFFECT = {"a", "A", "N", "U"}


def _check_flags(flags: str) -> None:
    unknown = sorted({*flags} - _ENGINE_FLAGS - _ENGINE_FLAGS_WITHOUT_EFFECT)
    if unknown:
        raise ArgumentError(f"log engine 'json' has no flag '{unknown[0]}', only a, A, c, j, M, N, p and U")


def _take_log_engine_type(settings: Settings, value: Sequence[int | str]) -> None:
    name = str(_one("log_engine_type", value))
    settings.log_engine = parse_log_engine(name)[0] if name else ""


def _take_log_engine_data(settings: Settings, value: Sequence[int | str]) -> str | None:
    flags = str(_one("log_engine_data", value))
    _check_flags(flags)
    settings.log_engine_data = flags
    idle = sorted({*flags} & _ENGINE_FLAGS_WITHOUT_EFFECT)
    return f"log_engine_data: {', '.join(idle)} has no effect here" if idle else None


def _take_log_facility(settings: Settings, value: Sequence[int | str]) -> None:
    settings.log_facility = facility_of(str(_one("log_facility", value)))


def _take_log_name(settings: Settings, value: Sequence[int | str]) -> None:
    name = str(_one("log_name", value))
    if not name or not name.isprintable() or any(character in name for character in " :[]"):
        raise ArgumentError(f"log_name is one word without ':', '[' and ']', not {name!r}")
    settings.log_name = name


def _take_control(settings: Settings, value: Sequence[int | str]) -> None:
    path = str(_one("control", value)).removeprefix("unix:")
    if not path:
        raise ArgumentError("control is the path of a socket, or 'none'")
    settings.control = path


_LISTEN_OPTIONS = ("advertise", "name")


def _take_listen(settings: Settings, value: Sequence[int | str]) -> None:
    words = [str(word) for word in value]
    while words:
        address = parse_listen(words.pop(0), settings.port)
        settings.listen.append(address)
        while words and words[0] in _LISTEN_OPTIONS:
            option = words.pop(0)
            if not words:
                raise ArgumentError(f"listen needs a value after '{option}'")
            if option == "advertise":
                host, port = split_host_port(words.pop(0))
                address.advertise = (host, port or address.port)
            else:
                words.pop(0)  # a name of the socket, for scripts that choose one to send from
        if words and difflib.get_close_matches(words[0], _LISTEN_OPTIONS, n=1):
            raise ArgumentError(f"listen has no option '{words[0]}', only {' and '.join(_LISTEN_OPTIONS)}")


def _take_alias(settings: Settings, value: Sequence[int | str]) -> None:
    for name in value:
        text = str(name)
        head, colon, tail = text.partition(":")
        if colon and head.lower() in PROTOCOLS:
            text = tail
        host, port = split_host_port(text)
        settings.aliases.append((host.lower(), port or 0))


_TAKE: dict[str, Take] = {
    "listen": _take_listen,
    "alias": _take_alias,
    "domain": _take_alias,
    "children": _integer("children", 1, 999),
    "debug": _integer("debug", -5, 9),
    "user": _text("user"),
    "uid": _text("user"),
    "group": _text("group"),
    "gid": _text("group"),
    "log_stderror": _take_log_stderror,
    "log_engine_type": _take_log_engine_type,
    "log_engine_data": _take_log_engine_data,
    "log_facility": _take_log_facility,
    "log_name": _take_log_name,
    "log_prefix_mode": _integer("log_prefix_mode", 0),
    "port": _integer("port", 1, 65535),
    # Read by the compiler itself: after so many rounds a `while` is stopped.
    "max_while_loops": _integer("max_while_loops", 1),
    "shm_mem_size": _integer("shm_mem_size", 1),
    "drain_timeout": _integer("drain_timeout", 0),
    "control": _take_control,
    "maxbuffer": _integer("maxbuffer", 1, MAX_BUFFER, "receive_buffer"),
}
