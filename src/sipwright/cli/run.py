"""`sipwright run`: runs a SIP server on a routing script, in the foreground, until a signal comes.

The options are those of `kamailio` that mean something here. SIGTERM and SIGINT let suspended transactions go on for
the script's `drain_timeout` and then stop; a second signal stops at once. SIGHUP reads the script again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import sipwright
from sipwright.cli.check import add_defines, parse_defines, report
from sipwright.engine.listen import open_sockets
from sipwright.engine.worker import Worker
from sipwright.errors import ArgumentError, CommandError
from sipwright.script.loader import load_script
from sipwright.script.settings import MAX_BUFFER, ListenAddress, Settings, parse_listen
from sipwright.workers.alone import LoneServer
from sipwright.workers.configuration import Configuration, Options
from sipwright.workers.log import OpenLog, log_settings, open_log
from sipwright.workers.steering import MAX_WORKERS
from sipwright.workers.supervisor import Supervisor

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
        "-n",
        dest="workers",
        type=_positive,
        metavar="N",
        help="how many worker processes (default: the script's `children`, else one for each core)",
    )
    parser.add_argument(
        "-D",
        dest="foreground",
        action="count",
        default=0,
        help="-D: one worker in this process, without a supervisor; -DD: as without it, the server always stays in the "
        "foreground",
    )
    parser.add_argument("-E", dest="to_stderr", action="store_true", help="log to stderr, whatever the script says")
    parser.add_argument(
        "-m",
        dest="shared_memory",
        type=_megabytes,
        metavar="MB",
        help="how much $shv and tables may take, whatever the script's `shm_mem_size` says",
    )
    parser.add_argument(
        "-b",
        dest="receive_buffer",
        type=_buffer_size,
        metavar="BYTES",
        help="how many bytes of datagrams may wait in the system for each socket, instead of the script's maxbuffer",
    )
    parser.add_argument("-P", dest="pid_file", type=Path, metavar="FILE", help="write the process id here")
    parser.add_argument(
        "-Y", dest="runtime_directory", type=Path, metavar="DIR", help="make this directory; a relative -P is in it"
    )
    parser.add_argument("-u", dest="user", metavar="USER", help="become this user once the sockets are open")
    parser.add_argument("-g", dest="group", metavar="GROUP", help="become this group once the sockets are open")
    parser.add_argument(
        "--control",
        metavar="PATH",
        help="the Unix socket of the control interface (`sipwright ctl`), or 'none', whatever the script says "
        "(default: control-PID.sock in the directory for such files)",
    )
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
    load = partial(_load, options, parse_defines(options.defines))
    configuration = load()
    if options.check_only:
        return report(configuration.script)
    if options.foreground == 1:
        _refuse_with_one_process(options)
    log = open_log(configuration.log, 0 if options.foreground == 1 else None)
    try:
        for note in configuration.script.notes:
            logger.info("note: %s", note)
        if options.foreground == 1:
            if (options.workers or configuration.script.settings.children or 1) > 1:
                logger.info("note: with -D there is one worker")
            asyncio.run(serve(configuration, _server_options(options), log))
        else:
            Supervisor(configuration, load, _server_options(options), _announce).run()
    finally:
        log.close()
    return 0


def _refuse_with_one_process(options: argparse.Namespace) -> None:
    for letter, value in (("P", options.pid_file), ("u", options.user), ("g", options.group)):
        if value is not None:
            raise CommandError(f"-D is one process without a supervisor: it does not know -{letter}")


def _server_options(options: argparse.Namespace) -> Options:
    return Options(
        workers=options.workers,
        runtime_directory=options.runtime_directory,
        pid_file=options.pid_file,
        user=options.user,
        group=options.group,
        steering=_steering(os.environ.get("SIPWRIGHT_STEERING", "kernel")),
        control=options.control,
        version=sipwright.__version__,
    )


def _announce(listen: Sequence[ListenAddress], workers: int) -> None:
    addresses = " ".join(map(str, listen))
    processes = f"{workers} worker{'' if workers == 1 else 's'}"
    # In one piece: print() would write the end of the line by itself, and a line of the log could come between.
    sys.stderr.write(f"sipwright {sipwright.__version__} is ready on {addresses} ({processes})\n")
    sys.stderr.flush()


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers, 1 to {MAX_WORKERS}")
    return int(text)


def _megabytes(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of megabytes")
    return int(text)


def _steering(name: str) -> str:
    if name not in ("kernel", "peering", "none"):
        raise CommandError(f"SIPWRIGHT_STEERING is kernel, peering or none, not {name!r}")
    return name


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


def _load(options: argparse.Namespace, defines: Mapping[str, str]) -> Configuration:
    script = load_script(options.file, defines)
    try:
        log = log_settings(script.settings, to_stderr=options.to_stderr, engine=options.log_engine)
    except ArgumentError as error:
        raise CommandError(f"--log-engine={options.log_engine}: {error.message}") from None
    if options.receive_buffer is not None:
        script.settings.receive_buffer = options.receive_buffer
    if options.shared_memory is not None:
        script.settings.shm_mem_size = options.shared_memory
    return Configuration(script, listen_addresses(options.listen, script.settings), log)


async def serve(configuration: Configuration, options: Options, log: OpenLog) -> None:
    """Run one worker in this process until a signal comes. StartError: it cannot listen."""
    loop = asyncio.get_running_loop()
    signals = _Signals(loop)
    script, listen = configuration.script, configuration.listen
    (sockets,) = open_sockets(listen, receive_buffer=script.settings.receive_buffer)
    worker = Worker(script, listen, sockets)
    log.follow(worker.services)
    server = LoneServer(script.path, worker.services, loop, options.version)
    control = await server.open_control(options.control or script.settings.control, options.runtime_directory)
    try:
        server.open_streams(script.registry.listens())
        worker.start()
        worker.read()
        _announce(listen, 1)
        await _stop_when_told(worker, signals, script.settings.drain_timeout / 1000)
        script.registry.mod_destroy(worker.services.shared_store)
    finally:
        control.close()
        server.close()


async def _stop_when_told(worker: Worker, signals: _Signals, drain_timeout: float) -> None:
    await signals.first.wait()
    logger.info("stopping")
    loop = asyncio.get_running_loop()
    stopping = loop.create_task(worker.stop(drain_timeout))
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
        # It would end the process without a drain.
        loop.add_signal_handler(
            signal.SIGHUP, logger.error, "with -D the script is not read again; without it, SIGHUP does that"
        )

    def _came(self) -> None:
        (self.second if self.first.is_set() else self.first).set()
