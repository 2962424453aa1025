"""`sipwright run`: runs a SIP server on a routing script, in the foreground, until a signal comes.

The options are those of `kamailio` that mean something here. SIGTERM and SIGINT let suspended transactions go on for
the script's `drain_timeout` and then stop; a second signal stops at once.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

import sipwright
from sipwright.cli.check import add_defines, parse_defines, report
from sipwright.engine.worker import Worker
from sipwright.errors import ArgumentError, CommandError
from sipwright.script.loader import Script, load_script
from sipwright.script.settings import ListenAddress, Settings, parse_listen
from sipwright.workers.log import LogSettings, OpenLog, log_settings, open_log

logger = logging.getLogger("sipwright")


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
        "--log-engine",
        metavar="json[:FLAGS]",
        help="the form of the log, whatever the script says: one JSON object a line instead of text",
    )
    add_defines(parser)


def main(options: argparse.Namespace) -> int:
    """Run the server until it is told to stop; with -c check the script."""
    if options.file is None:
        raise CommandError("no script is named: sipwright run -f FILE")
    script = load_script(options.file, parse_defines(options.defines))
    listen = listen_addresses(options.listen, script.settings)
    how_to_log = _log_settings(script.settings, options)
    if options.check_only:
        return report(script)
    log = open_log(how_to_log, 0)
    try:
        for note in _notes(script):
            logger.info("note: %s", note)
        asyncio.run(serve(script, listen, log))
    finally:
        log.close()
    return 0


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


def _log_settings(settings: Settings, options: argparse.Namespace) -> LogSettings:
    try:
        return log_settings(settings, to_stderr=options.to_stderr, engine=options.log_engine)
    except ArgumentError as error:
        raise CommandError(f"--log-engine={options.log_engine}: {error.message}") from None


async def serve(script: Script, listen: Sequence[ListenAddress], log: OpenLog) -> None:
    """Run one worker until a signal comes. StartError: it cannot listen."""
    loop = asyncio.get_running_loop()
    signals = _Signals(loop)
    worker = Worker(script, listen)
    log.follow(worker.services)
    worker.start()
    addresses = " ".join(str(ListenAddress(socket.proto, *socket.address)) for socket in worker.sockets)
    # In one piece: print() would write the end of the line by itself, and a line of the log could come between.
    sys.stderr.write(f"sipwright {sipwright.__version__} is ready on {addresses}\n")
    sys.stderr.flush()
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


class _Signals:
    """SIGTERM and SIGINT as two events, the second for those who cannot wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._came)

    def _came(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


def _notes(script: Script) -> list[str]:
    notes = list(script.notes)
    if script.settings.children > 1:
        notes.append(f"children={script.settings.children}: this version runs one worker")
    return notes
