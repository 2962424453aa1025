"""The module's commands: its servers are listed and changed while the server runs, in all workers alike.

What is changed is put up as lasting notices, so that a worker which is started in place of one that died makes the same
changes. When the script is read anew, its lists hold again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from sipwright.errors import ArgumentError
from sipwright.jsonrpc.addresses import ServerAddress, ServerSpec, parse_address, parse_servers
from sipwright.script.services import Services

# Of a server that is added without one.
DEFAULT_PRIORITY = 1
NOTICE = "jsonrpc:server:"


class Change(msgspec.Struct):
    """What has become of a server, as a notice says it: how it was added, if it was, and whether it is there still."""

    address: str
    group: str
    spec: tuple[int, int] | None = None
    is_drained: bool = False
    is_removed: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Change).decode


class ServerCommands:
    """The commands of one worker. `client` is its client, `groups` what the script says of servers, by group."""

    def __init__(self, services: Services, client: Any, groups: Mapping[str, Sequence[ServerSpec]]) -> None:
        self._services = services
        self._client = client
        self._groups = groups
        self._listed = {(name, spec.address) for name, specs in groups.items() for spec in specs}
        # What has changed, by the name of its notice.
        self._changes: dict[str, Change] = {}
        services.follow(NOTICE, self._told)
        add = services.add_command
        add("jsonrpc.servers", self._servers, "List the JSON-RPC servers, as each worker has them.", params=[])
        add(
            "jsonrpc.add_server",
            self._add,
            "Add a server, or give one that is there another priority and weight; ends its draining.\n"
            'SERVER is as in modparam("jsonrpc", "servers", ...), the priority is 1 where there is none.',
            "first",
            ["server", "group?"],
        )
        add(
            "jsonrpc.drain_server",
            self._drain,
            "Let a server have no new calls, in a group or in all; tells how many calls are open.",
            "sum",
            ["server", "group?"],
        )
        add(
            "jsonrpc.remove_server",
            self._remove,
            "Take a server out of a group or of all; calls that are open end, then its connections are closed.",
            "sum",
            ["server", "group?"],
        )
        add("jsonrpc.stats", self._stats, "Tell the counters of module jsonrpc.", "sum", [])

    # ---- the commands

    def _servers(self, _params: dict[str, Any]) -> list[dict[str, Any]]:
        servers: list[dict[str, Any]] = self._client.servers()
        return servers

    def _stats(self, _params: dict[str, Any]) -> dict[str, int]:
        counters: dict[str, int] = self._client.counters()
        return counters

    def _add(self, params: dict[str, Any]) -> dict[str, Any]:
        spec = read_spec(params["server"])
        group = params.get("group") or ""
        if group not in self._groups:
            raise _no_group(group, self._groups)
        self._client.add_server(spec, group)
        self._post(Change(str(spec.address), group, (spec.priority, spec.weight)))
        self._note("added", spec.address, group, f", priority {spec.priority}, weight {spec.weight}")
        return {"group": group, "address": str(spec.address), "priority": spec.priority, "weight": spec.weight}

    def _drain(self, params: dict[str, Any]) -> dict[str, int]:
        address, group = self._server_of(params)
        pending = self._client.drain_server(address, group)
        for name in self._groups_of(address, group):
            self._post(Change(str(address), name, self._spec_of(name, address), is_drained=True))
            self._note("drained", address, name, f", {pending} calls are open")
        return {"pending": pending}

    def _remove(self, params: dict[str, Any]) -> dict[str, int]:
        address, group = self._server_of(params)
        known = self._groups_of(address, group)
        # That is how it is known how many calls are open.
        pending = self._client.drain_server(address, group)
        self._client.remove_server(address, group)
        for name in known:
            self._post(Change(str(address), name, is_removed=True))
            self._note("removed", address, name, f", {pending} calls are open")
        return {"pending": pending}

    def _note(self, what: str, address: ServerAddress, group: str, more: str) -> None:
        of = f" of group '{group}'" if group else ""
        self._services.log.info("JSON-RPC server %s%s is %s by a command%s", address, of, what, more)

    def _server_of(self, params: dict[str, Any]) -> tuple[ServerAddress, str | None]:
        group = params.get("group")
        if group is not None and group not in self._groups:
            raise _no_group(group, self._groups)
        return read_address(params["server"]), group

    # ---- what has changed

    def _groups_of(self, address: ServerAddress, group: str | None) -> list[str]:
        """Return the groups that a server is in, of those that are meant."""
        here = {name for name, listed in self._listed if listed == address}
        for change in self._changes.values():
            if change.address == str(address):
                here = here - {change.group} if change.is_removed else here | {change.group}
        return sorted(here if group is None else here & {group})

    def _spec_of(self, group: str, address: ServerAddress) -> tuple[int, int] | None:
        change = self._changes.get(_notice_name(group, str(address)))
        return None if change is None else change.spec

    def _post(self, change: Change) -> None:
        name = _notice_name(change.group, change.address)
        is_listed = any(group == change.group and str(listed) == change.address for group, listed in self._listed)
        if change.is_removed and not is_listed:
            # As if it had never been there.
            self._changes.pop(name, None)
            self._services.post(name, None, lasting=True)
        else:
            self._changes[name] = change
            self._services.post(name, _encode(change), lasting=True)

    def _told(self, name: str, value: bytes | None) -> None:
        """Make a change that another worker has made."""
        if value is None:
            change = self._changes.pop(name, None)
            if change is not None and not change.is_removed:
                self._take_away(change)
            return
        change = _decode(value)
        if self._changes.get(name) == change:
            # This worker's own.
            return
        self._changes[name] = change
        address = parse_address(change.address)
        if change.is_removed:
            self._take_away(change)
            return
        if change.spec is not None:
            self._client.add_server(ServerSpec(address, *change.spec), change.group)
        if change.is_drained:
            self._client.drain_server(address, change.group)

    def _take_away(self, change: Change) -> None:
        with suppress(ArgumentError):
            # It was not there either.
            self._client.remove_server(parse_address(change.address), change.group)


def read_spec(text: Any) -> ServerSpec:
    """Read a server as in a list of servers; without a priority it has the default. ArgumentError: it is none."""
    if not isinstance(text, str):
        raise ArgumentError(f"server is a text like '127.0.0.1:9999,1', not {text!r}")
    specs = parse_servers(text if "," in text else f"{text},{DEFAULT_PRIORITY}")
    if len(specs) != 1:
        raise ArgumentError(f"server is one server, not {len(specs)}")
    return specs[0]


def read_address(text: Any) -> ServerAddress:
    """Read the address of a server; a priority behind it is not looked at. ArgumentError: it is none."""
    if not isinstance(text, str):
        raise ArgumentError(f"server is a text like '127.0.0.1:9999', not {text!r}")
    return parse_address(text.partition(",")[0])


def _notice_name(group: str, address: str) -> str:
    return f"{NOTICE}{group}=>{address}"


def _no_group(name: Any, groups: Mapping[str, Any]) -> ArgumentError:
    named = ", ".join(group for group in groups if group) or "none"
    return ArgumentError(f"there is no group {name!r} of servers; the script has: {named}")
