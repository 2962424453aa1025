"""`sipwright run`: runs a SIP server on a routing script, in the foreground, until a signal comes.

The options are those of `kamailio` that mean something here. SIGTERM and SIGINT let suspended transactions go on for
the script's `drain_timeout` and then stop; a second signal stops at once.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import logging.handlers
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import sipwright
from sipwright.cli.check import add_defines, parse_defines, report
from sipwright.engine.worker import Worker
from sipwright.errors import ArgumentError, CommandError
from sipwright.script.loader import Script, load_script
from sipwright.script.loglevels import level_of
from sipwright.script.settings import MAX_BUFFER, ListenAddress, Settings, parse_listen

logger = logging.getLogger("sipwright")

SYSLOG = Path("/dev/log")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("-f", dest="file", metavar="FILE", help="the routing script")
    parser.add_argument(
        "-l",
        dest="listen",
        action="append",
        default=[],
        metavar="udp:HOST:PORT",
        help="listen here, beside the addresses that the script lists; may be given several times "
        "(default, when neither names one: every IPv4 address, port 5060)",
    )
    parser.add_argument("-c", dest="check_only", action="store_true", help="only check the script")
    parser.add_argument(
        "-D",
        dest="foreground",
        action="count",
        help="stay in the foreground; accepted as in Kamailio, and always so in this version",
    )
    parser.add_argument("-E", dest="to_stderr", action="store_true", help="log to stderr, whatever the script says")
    parser.add_argument(
        "-b",
        dest="receive_buffer",
        type=_buffer_size,
        metavar="BYTES",
        help="how many bytes of datagrams may wait in the system for each socket, instead of the script's maxbuffer",
    )
    add_defines(parser)


def main(options: argparse.Namespace) -> int:
    """Run the server until it is told to stop; with -c check the script."""
    if options.file is None:
        raise CommandError("no script is named: sipwright run -f FILE")
    script = load_script(options.file, parse_defines(options.defines))
    if options.receive_buffer is not None:
        script.settings.receive_buffer = options.receive_buffer
    listen = listen_addresses(options.listen, script.settings)
    if options.check_only:
        return report(script)
    start_log(script.settings, to_stderr=options.to_stderr)
    for note in _notes(script):
        logger.info("note: %s", note)
    asyncio.run(serve(script, listen))
    return 0


def _buffer_size(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_BUFFER:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes, 1 to {MAX_BUFFER}")
    return int(text)


def listen_addresses(options: Sequence[str], settings: Settings) -> list[ListenAddress]:
    """Return the script's addresses and those of the command line, as Kamailio does; one of our own if there are none.

    Raises CommandError for an address that is malformed.
    """
    addresses = list(settings.listen)
    for text in options:
        try:
            address = parse_listen(text, settings.port)
        except ArgumentError as error:
            raise CommandError(f"-l {text}: {error.message}") from None
        if str(address) not in map(str, addresses):
            addresses.append(address)
    return addresses or [ListenAddress("udp", "0.0.0.0", settings.port)]  # noqa: S104  as in Kamailio


async def serve(script: Script, listen: Sequence[ListenAddress]) -> None:
    """Run one worker until a signal comes. StartError: it cannot listen."""
    loop = asyncio.get_running_loop()
    signals = _Signals(loop)
    worker = Worker(script, listen)
    worker.start()
    addresses = " ".join(str(ListenAddress(socket.proto, *socket.address)) for socket in worker.sockets)
    print(f"sipwright {sipwright.__version__} is ready on {addresses}", file=sys.stderr, flush=True)
    await signals.first.wait()
    logger.info("stopping")
    stopping = loop.create_task(worker.stop(script.settings.drain_timeout / 1000))
    second = loop.create_task(signals.second.wait())
    # Meanwhile suspended transactions go on; a second signal leaves them as they are.
    await asyncio.wait((stopping, second), return_when=asyncio.FIRST_COMPLETED)
    second.cancel()
    if stopping.done():
        stopping.result()
    else:
        stopping.cancel()


class _Syslog(logging.handlers.SysLogHandler):
    """The system's log, which knows Kamailio's levels."""

    priority_map: ClassVar = {
        **logging.handlers.SysLogHandler.priority_map,
        "NOTICE": "notice",
        "ALERT": "alert",
        "BUG": "crit",
    }

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what a message had that is not UTF-8 is shown as an escape, or the line would be lost."""
        return super().format(record).encode("utf-8", "backslashreplace").decode("utf-8")


class _Signals:
    """SIGTERM and SIGINT as two events, the second for those who cannot wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._came)

    def _came(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


def start_log(settings: Settings, *, to_stderr: bool) -> logging.Handler:
    """Send the log where the script or `-E` says, from the level of the script's `debug` on."""
    handler: logging.Handler
    if to_stderr or settings.log_stderror or not SYSLOG.exists():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%H:%M:%S"))
    else:
        handler = _Syslog(str(SYSLOG), _Syslog.LOG_DAEMON)
        handler.setFormatter(logging.Formatter("sipwright[%(process)d]: %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level_of(settings.debug))
    return handler


def _notes(script: Script) -> list[str]:
    notes = list(script.notes)
    if script.settings.children > 1:
        notes.append(f"children={script.settings.children}: this version runs one worker")
    return notes
