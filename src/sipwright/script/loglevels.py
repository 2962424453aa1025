"""Kamailio's log levels, -5 (alert) to 3 (debug), as levels of `logging`; those that Python lacks get names here."""

from __future__ import annotations

import logging

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
