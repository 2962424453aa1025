"""Kamailio's names of log levels and syslog facilities.

Levels, -5 (alert) to 3 (debug), are levels of `logging`; those that Python lacks get names here. Facilities are the
numbers of RFC 5424 section 6.2.1.
"""

from __future__ import annotations

import difflib
import logging

from sipwright.errors import ArgumentError

NOTICE = 25
BUG = 55
ALERT = 60
logging.addLevelName(NOTICE, "NOTICE")
logging.addLevelName(BUG, "BUG")
logging.addLevelName(ALERT, "ALERT")

LEVELS = {
    "L_ALERT": ALERT,
    "L_BUG": BUG,
    "L_CRIT2": logging.CRITICAL,
    "L_CRIT": logging.CRITICAL,
    "L_ERR": logging.ERROR,
    "L_WARN": logging.WARNING,
    "L_NOTICE": NOTICE,
    "L_INFO": logging.INFO,
    "L_DBG": logging.DEBUG,
}
_BY_NUMBER = dict(enumerate(LEVELS.values(), -5))


def level_of(number: int) -> int:
    """Return the level of `logging` for one of Kamailio's numbers; numbers beyond the ends mean the ends."""
    return _BY_NUMBER[max(-5, min(3, number))]


def number_of(level: int) -> int:
    """Return Kamailio's number for a level of `logging`: the last of those that log as much."""
    return max((number for number, known in _BY_NUMBER.items() if known >= level), default=-5)


FACILITIES = {
    f"LOG_{name}": number
    for number, name in enumerate(
        "KERN USER MAIL DAEMON AUTH SYSLOG LPR NEWS UUCP CRON AUTHPRIV FTP".split(),
    )
} | {f"LOG_LOCAL{number}": 16 + number for number in range(8)}
DAEMON = FACILITIES["LOG_DAEMON"]


def facility_of(name: str) -> int:
    """Return the number of a facility, `LOG_LOCAL0` for one. ArgumentError: there is none of that name."""
    try:
        return FACILITIES[name]
    except KeyError:
        close = difflib.get_close_matches(name if name.startswith("LOG_") else f"LOG_{name}", FACILITIES, n=1)
        message = f"'{name}' is no log facility, which is one of {', '.join(FACILITIES)}"
        raise ArgumentError(message, suggestion=close[0] if close else None) from None
