"""Module tm: stateful answers, suspension by hand, and questions about the transaction (Kamailio manual, module tm).

The transaction machines are in `sipwright.transaction`, what drives them in the engine; this file only gives them
their names in scripts.
"""

from __future__ import annotations

from sipwright.errors import ArgumentError
from sipwright.lang.namespace import Route, RouteKind, Value
from sipwright.script.context import Context
from sipwright.script.kinds import (
    BranchRouteName,
    FailureRouteName,
    Int,
    OnreplyRouteName,
    Regex,
    RouteName,
    Status,
    Str,
)
from sipwright.script.module import REPLYING, Module, Param, function, pvar
from sipwright.script.services import Services
from sipwright.script.suspend import Suspension, Wait
from sipwright.timerqueue import Timer
from sipwright.transaction.timers import TimerSettings

# Longer than any transaction lives: no 100 Trying by itself.
NEVER = 3600.0
# What a t_continue() is called among workers.
CONTINUE = "tm:continue"


class ByHand(Suspension):
    """A suspension by `t_suspend()`, with the timer that limits it."""

    __slots__ = ("timer",)

    timer: Timer

    def abandoned(self) -> None:
        """Stop the timer."""
        self.timer.cancel()


class Tm(Module):
    """Transactions."""

    name = "tm"
    ignored_params = (
        "auto_inv_100_reason",
        "aggregate_challenges",
        "ac_extra_hdrs",
        "blst_503",
        "blst_503_def_timeout",
        "blst_503_max_timeout",
        "blst_503_min_timeout",
        "blst_methods_add",
        "blst_methods_lookup",
        "callid_match_mode",
        "cancel_b_method",
        "contact_flows_avp",
        "contacts_avp",
        "default_code",
        "default_reason",
        "delayed_reply",
        "disable_6xx_block",
        "dns_reuse_rcv_socket",
        "enable_uac_fr",
        "e2e_cancel_reason",
        "event_callback",
        "evlreq_mode",
        "exec_time_check",
        "failure_exec_mode",
        "failure_reply_mode",
        "faked_reply_prio",
        "fr_inv_timer_avp",
        "fr_inv_timer_next",
        "fr_timer_avp",
        "headers_mode",
        "hf_filter",
        "local_ack_mode",
        "local_cancel_reason",
        "matchmode",
        "max_inv_lifetime",
        "max_noninv_lifetime",
        "on_sl_reply",
        "pass_provisional_replies",
        "relay_100",
        "reparse_invite",
        "reparse_on_dns_failover",
        "remap_503_500",
        "reply_to_via",
        "restart_fr_on_each_reply",
        "rich_redirect",
        "ruri_matching",
        "unix_tx_timeout",
        "via1_matching",
        "xavp_contact",
    )

    fr_timer = Param(int, 30_000, minimum=1, doc="milliseconds to a final reply to a non-INVITE request")
    fr_inv_timer = Param(int, 120_000, minimum=1, doc="milliseconds to a final reply to an INVITE")
    # Deviation: Kamailio keeps a completed transaction for 5 s. RFC 3261 17.2.2 wants 64*T1, so that a client that
    # lost our answer and retransmits for that long is never taken for a new one, with a new RPC call.
    wt_timer = Param(int, 32_000, minimum=1, doc="milliseconds that a completed transaction absorbs retransmissions")
    retr_timer1 = Param(int, 500, minimum=1, doc="T1, milliseconds (RFC 3261 17.1.1.1)")
    retr_timer2 = Param(int, 4_000, minimum=1, doc="T2, milliseconds")
    auto_inv_100 = Param(
        int, 1, minimum=0, maximum=1, doc="answer 100 to an INVITE when the script has not after 200 ms"
    )
    max_suspend = Param(int, 60, minimum=1, doc="seconds that a transaction may be suspended")
    max_suspended = Param(int, 100_000, minimum=1, doc="transactions that may be suspended at once, per worker")
    # A completed one takes 620 bytes with its reply and stays for wt_timer: 42,000 a second for 32 s are 1.4 million.
    max_transactions = Param(
        int,
        3_000_000,
        minimum=0,
        doc="transactions per worker, completed ones too; beyond it new requests are answered 503; 0: no bound",
    )
    retry_after_min = Param(int, 5, minimum=1, doc="least seconds in the Retry-After of a 503 that the server sends")
    retry_after_max = Param(int, 15, minimum=1, doc="most seconds there; each request gets one between, by chance")

    def mod_init(self) -> None:
        """Check that the timers fit together."""
        if self.retr_timer2 < self.retr_timer1:
            raise ArgumentError(f"tm: retr_timer2 ({self.retr_timer2} ms) is below retr_timer1 ({self.retr_timer1} ms)")
        if self.retry_after_max < self.retry_after_min:
            raise ArgumentError(
                f"tm: retry_after_max ({self.retry_after_max} s) is below retry_after_min ({self.retry_after_min} s)"
            )

    def child_init(self, services: Services) -> None:
        """Set the transaction timers of the worker."""
        super().child_init(services)
        services.set_transaction_timers(
            TimerSettings(
                t1=self.retr_timer1 / 1000,
                t2=self.retr_timer2 / 1000,
                trying=0.2 if self.auto_inv_100 else NEVER,
                wait=self.wt_timer / 1000,
            )
        )
        services.limit_suspensions(self.max_suspend, self.max_suspended)
        services.hear(CONTINUE, self._continue_for_other)
        services.limit_transactions(self.max_transactions, (self.retry_after_min, self.retry_after_max))

    # ---- making and answering

    @function(routes=REPLYING)
    def t_newtran(self, ctx: Context) -> int:
        """Make a transaction for the request; -1 when it has one already, or cannot have one (ACK)."""
        if ctx.transaction is not None:
            return -1
        return 1 if self.services.new_transaction(ctx) else -1

    @function(routes=REPLYING | RouteKind.ONREPLY)
    def t_reply(self, ctx: Context, code: Status, reason: Str) -> int:
        """Answer within the transaction, made if there is none; -1 after a final answer, or for an ACK."""
        return 1 if self.services.reply(ctx, code, reason) else -1

    @function(routes=REPLYING)
    def t_release(self, ctx: Context) -> int:
        """End the transaction without an answer."""
        return 1 if self.services.release(ctx) else -1

    @function(routes=REPLYING)
    def t_retransmit_reply(self, ctx: Context) -> int:
        """Send the last reply again; -1 when there is none."""
        transaction = ctx.transaction
        if transaction is None or not transaction.last_response:
            return -1
        transaction.receive_retransmission(ctx.message)
        return 1

    # ---- asking

    @function()
    def t_is_set(self, ctx: Context, target: Str) -> int:
        """Tell whether a failure_route, branch_route or onreply_route is set."""
        route = {"failure_route": ctx.on_failure, "branch_route": ctx.on_branch, "onreply_route": ctx.on_reply}.get(
            target
        )
        return 1 if route is not None else -1

    @function()
    def t_check_trans(self, ctx: Context) -> int:
        """Tell whether the request belongs to a transaction: for a CANCEL, to one whose INVITE is here.

        Retransmissions and the ACK of a negative answer are absorbed before the script, so no script sees them.
        """
        return 1 if ctx.message.method == "CANCEL" and self.services.cancelled_transaction(ctx) else -1

    @function()
    def t_precheck_trans(self, ctx: Context) -> int:
        """Tell whether another request of this transaction is being handled: never true here, they are absorbed."""
        return self.t_check_trans(ctx)

    @function()
    def t_lookup_request(self, ctx: Context) -> int:
        """Tell whether the request has a transaction."""
        return 1 if ctx.transaction is not None else -1

    @function()
    def t_lookup_cancel(self, ctx: Context) -> int:
        """Tell whether the CANCEL's INVITE has a transaction here."""
        return 1 if self.services.cancelled_transaction(ctx) else -1

    @function()
    def t_is_canceled(self, ctx: Context) -> int:
        """Tell whether the transaction was cancelled."""
        transaction = ctx.transaction
        return 1 if transaction is not None and transaction.status == 487 else -1

    @function()
    def t_check_status(self, ctx: Context, pattern: Regex) -> int:
        """Tell whether the status of the current reply, or of the one sent last, matches a regular expression."""
        if ctx.response is not None:
            status = ctx.response.status
        elif ctx.transaction is not None and ctx.transaction.status:
            status = ctx.transaction.status
        else:
            return -1
        return 1 if pattern.search(str(status)) else -1

    @function()
    def t_is_request_route(self, ctx: Context) -> int:
        """Tell whether a request route runs."""
        return 1 if ctx.kind is RouteKind.REQUEST else -1

    @function()
    def t_is_failure_route(self, ctx: Context) -> int:
        """Tell whether a failure route runs."""
        return 1 if ctx.kind is RouteKind.FAILURE else -1

    @function()
    def t_is_reply_route(self, ctx: Context) -> int:
        """Tell whether an onreply route runs."""
        return 1 if ctx.kind is RouteKind.ONREPLY else -1

    @function()
    def t_is_branch_route(self, ctx: Context) -> int:
        """Tell whether a branch route runs."""
        return 1 if ctx.kind is RouteKind.BRANCH else -1

    # ---- routes of the transaction

    @function()
    def t_on_failure(self, ctx: Context, route: FailureRouteName) -> int:
        """Name the failure_route of the transaction: it runs when a suspension lasts too long."""
        ctx.on_failure = route
        return 1 if route is not None else -1

    @function()
    def t_on_reply(self, ctx: Context, route: OnreplyRouteName) -> int:
        """Name the onreply_route of the transaction."""
        ctx.on_reply = route
        return 1 if route is not None else -1

    @function()
    def t_on_branch(self, ctx: Context, route: BranchRouteName) -> int:
        """Name the branch_route of the transaction."""
        ctx.on_branch = route
        return 1 if route is not None else -1

    # ---- suspension by hand

    @function(routes=REPLYING)
    def t_suspend(self, ctx: Context) -> int:
        """Suspend the transaction; `$T(id_index)` and `$T(id_label)` name it for `t_continue`.

        The script goes on and should end soon. Nobody else limits this wait, so fr_timer does (INVITE: fr_inv_timer).
        """
        suspension = ByHand(ctx)
        if not self.services.suspend(suspension):
            return -1
        inv_delay, delay = (ctx.extra or {}).get("tm", (self.fr_inv_timer, self.fr_timer))
        milliseconds = inv_delay if ctx.message.method == "INVITE" else delay
        suspension.timer = self.services.timers.start(milliseconds / 1000, self.services.give_up, suspension)
        return 1

    @function()
    def t_set_fr(self, ctx: Context, fr_inv_timeout: Int, fr_timeout: Int = 0) -> int:
        """Set fr_inv_timer and fr_timer of this transaction, in milliseconds; 0 leaves one as it is."""
        if fr_inv_timeout < 0 or fr_timeout < 0:
            return -1
        extra = ctx.extra if ctx.extra is not None else {}
        inv_delay, delay = extra.get("tm", (self.fr_inv_timer, self.fr_timer))
        extra["tm"] = (fr_inv_timeout or inv_delay, fr_timeout or delay)
        ctx.extra = extra
        return 1

    @function()
    def t_reset_fr(self, ctx: Context) -> int:
        """Set fr_inv_timer and fr_timer of this transaction back to the module's."""
        if ctx.extra is not None:
            ctx.extra.pop("tm", None)
        return 1

    @function()
    def t_continue(self, _ctx: Context, index: Int, label: Int, route: RouteName) -> int:
        """Run a route on the transaction with these numbers; -1 when none waits under them since `t_suspend`.

        One of another worker goes on there, and the function returns 1 without knowing whether it still waits.
        """
        if route is None:
            return -1
        if index != self.services.worker:
            payload = f"{label} {route.name}".encode("utf-8", "surrogateescape")
            return 1 if self.services.tell_worker(index, CONTINUE, payload) else -1
        return 1 if self._continue(label, route) else -1

    def _continue(self, label: int, route: Route) -> bool:
        context = self.services.find_transaction(self.services.worker, label)
        if context is None:
            return False
        # The script that suspended it may wait for a variable still: then the route comes after it.
        wait = context.suspension if isinstance(context.suspension, Wait) else None
        suspension = context.suspension if wait is None else wait.outer
        if not isinstance(suspension, ByHand) or suspension.ended:
            return False
        suspension.timer.cancel()
        if wait is not None:
            wait.then += (lambda _context: self.services.resume(suspension, route),)
            return True
        return self.services.resume(suspension, route)

    def _continue_for_other(self, payload: bytes) -> bool:
        label, _, name = payload.decode("utf-8", "surrogateescape").partition(" ")
        route = self.services.find_route(RouteKind.REQUEST, name)
        return route is not None and self._continue(int(label), route)

    @pvar("T_reply_code")
    def pv_reply_code(self, ctx: Context) -> Value:
        """Return the status of the current reply, or of the last one sent."""
        if ctx.response is not None:
            return ctx.response.status
        return ctx.transaction.status or None if ctx.transaction is not None else None
