"""The states of RFC 3261 section 17 and RFC 6026, and the form in which a machine writes down its transitions."""

from __future__ import annotations

import enum
from typing import NamedTuple


class State(enum.Enum):
    """A state of a transaction; each machine has some of them."""

    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    ACCEPTED = "Accepted"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    TERMINATED = "Terminated"


class Transition(NamedTuple):
    """One arrow of a machine's diagram.

    `event` is the name of the method that takes the event, followed by the class of the response where there is one.
    `sends`: "" nothing, "new" what the event brings, "last" what was sent before, "ACK", "100".
    An event that has no arrow in a state changes nothing and sends nothing there.
    """

    state: State
    event: str
    next: State
    sends: str = ""
