"""The timer values of transactions: owns how they follow from T1, T2 and T4; starts no timer."""

from __future__ import annotations


class TimerSettings:
    """The delays of RFC 3261 table 4 (appendix A) and RFC 6026, in seconds.

    Set are T1, T2 and T4, and where they should not follow from T1, the three that Kamailio's tm has parameters for:

    | argument | default | here | Kamailio's tm parameter (there in milliseconds) |
    |---|---|---|---|
    | t1 | 0.5 | A, E, G first | retr_timer1 |
    | t2 | 4.0 | E, G at most | retr_timer2 |
    | t4 | 5.0 | I, K | |
    | trying | 0.2 | the 100 to an INVITE whose user is silent | |
    | fr | 64*T1 | B, F, H: no final response, or no ACK | fr_timer |
    | fr_inv | 180 | C: no final response after a provisional one (more than 3 minutes: 16.6) | fr_inv_timer |
    | wait | 64*T1 | D, J, L, M: how long late retransmissions are recognised | wt_timer |

    `timeout` is 64*T1, how long a user agent repeats its 2xx (13.3.1.4).
    """

    __slots__ = ("b", "c", "d", "f", "h", "i", "j", "k", "l", "m", "t1", "t2", "t4", "timeout", "trying")

    def __init__(
        self,
        *,
        t1: float = 0.5,
        t2: float = 4.0,
        t4: float = 5.0,
        trying: float = 0.2,
        fr: float | None = None,
        fr_inv: float = 180.0,
        wait: float | None = None,
    ) -> None:
        self.t1 = t1
        self.t2 = t2
        self.t4 = t4
        self.trying = trying
        self.timeout = 64 * t1
        self.b = self.f = self.h = self.timeout if fr is None else fr
        self.c = fr_inv
        self.d = self.j = self.l = self.m = self.timeout if wait is None else wait
        self.i = self.k = t4
