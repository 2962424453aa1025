"""What a server is started with: owns what the command line and the script say of processes, addresses and the log."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sipwright.script.loader import Script
from sipwright.script.settings import ListenAddress
from sipwright.workers.log import LogSettings
from sipwright.workers.steering import MAX_WORKERS


@dataclass(slots=True)
class Options:
    """What the command line says of the processes. `workers`: None for what the script says, or one per core."""

    workers: int | None = None
    # Where a relative `pid_file` is.
    runtime_directory: Path | None = None
    pid_file: Path | None = None
    user: str | None = None
    group: str | None = None
    # `kernel`, `peering` (workers hand everything over that comes to the wrong one), `none` (only to be measured).
    steering: str = "kernel"
    # Where the control interface listens: a path, `none`, or None for what the script says, or the default.
    control: str | None = None
    # Of the program, to be told.
    version: str = ""


@dataclass(slots=True)
class Configuration:
    """A script that is good, and what it and the command line say of addresses and of the log.

    `generation` grows with each reload.
    """

    script: Script
    listen: list[ListenAddress]
    log: LogSettings
    generation: int = 0


def worker_count(options: Options, script: Script) -> int:
    """Return how many workers there are: as the command line says, else the script, else one for each core."""
    return options.workers or script.settings.children or min(_cores(), MAX_WORKERS)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
