"""What the kernel knows of processes, from /proc: CPU, memory, file descriptors; and what machine this is.

A process that is gone has used nothing and has nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """In kB. `pss`: what is shared counts by its share; `rss`: what is shared counts in full."""

    pss: int = 0
    rss: int = 0


def members(pgid: int) -> list[int]:
    """Return the ids of all processes of a group."""
    return [pid for pid, fields in _all_stats() if int(fields[2]) == pgid]


def children(parent: int) -> list[int]:
    """Return the ids of all processes that a process has started."""
    return [pid for pid, fields in _all_stats() if int(fields[1]) == parent]


def cpu_seconds(pid: int) -> float:
    """Return the time that all threads of a process spent on a core (first field of schedstat, nanoseconds)."""
    total = 0
    for file in PROC.glob(f"{pid}/task/*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(file.read_text().split()[0])
    return total / 1e9


def memory(pid: int) -> Memory:
    """Return what a process has of the machine's memory."""
    values = {}
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("Pss", "Rss"):
                values[name] = int(rest.split()[0])
    return Memory(values.get("Pss", 0), values.get("Rss", 0))


def descriptors(pid: int) -> list[str]:
    """Return what each open file descriptor of a process leads to, without the numbers that tell one from another."""
    found = []
    with contextlib.suppress(OSError):
        for link in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(link).partition("[")[0].rstrip(":"))
    return sorted(found)


def machine() -> dict[str, object]:
    """Name what the numbers depend on."""
    return {"system": " ".join(os.uname()), "cores": cores(), "python": sys.version.split()[0]}


def cores() -> int:
    """Return how many cores there are for this process."""
    return len(os.sched_getaffinity(0))


def _all_stats() -> list[tuple[int, list[str]]]:
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # Behind the name, which may hold anything: state, parent, group.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in ("Z", "X"):
                    found.append((int(entry.name), fields))
    return found
