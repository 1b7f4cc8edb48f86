"""`CostMeter`: the cost of a call as it grows, with its legs and its budget; `Cost`, its readout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from ..agents.engine import Billing, Engine
from ..errors import BadInput, BudgetUsedUp, ConfigurationError
from ..frames import ConnectionChanged, HandoffCompleted, SessionEnding, Signal, Usage
from ..frames.signals import AMOUNTS
from ..processors.kernel.groups import members
from .prices import Prices, shown_number
from .running import MAX_TOKENS, NO_PRICE, Clock, Clocks, Running
from .usage import UsageTotals, estimate

_NONE_FAULTY: frozenset[str] = frozenset()  # one for all sessions: an empty set takes 216 bytes

S = TypeVar("S", bound=Signal)

MAX_S = 86_400.0
"""The most seconds of one report."""
MAX_USD = 1_000_000_000
"""The most dollars of a budget, or of the earlier calls of a conversation."""
SETTLED_S = 60.0
"""Seconds of a call before which its cost per minute is an estimate."""


class ServiceCost(msgspec.Struct, frozen=True):
    """The reported cost of a service and model in US dollars, None without a price."""

    service: str
    model: str
    usd: float | None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a call in US dollars: of the conversation, and of its present leg.

    `usd` has `carried_usd`, the cost of earlier calls of the same conversation, and `estimated_usd`, the part that no
    vendor has reported yet. `by_service` has None for a model without a price: it counts as 0, and `unpriced` names it.
    """

    usd: float = 0.0
    leg_usd: float = 0.0
    carried_usd: float = 0.0
    estimated_usd: float = 0.0
    per_minute_usd: float = 0.0
    budget_usd: float | None = None
    by_service: tuple[ServiceCost, ...] = ()
    unpriced: tuple[str, ...] = ()


NO_COST = Cost()


class Metered(Protocol):
    """The part of a session that its meter uses."""

    pipeline: Any
    usage: UsageTotals

    @property
    def now(self) -> Callable[[], float]: ...
    def on(self, signal_type: type[S], listener: Callable[[S], Any]) -> Callable[[], None]: ...
    def broadcast(self, signal: Signal) -> None: ...
    def report(self, error: Exception, processor: str) -> None: ...


class CostMeter:
    """The cost of a call in US dollars, from the reports of its services.

    Between the reports it counts estimates. The conversation's cost spans all legs of the call and `carried_usd`; a
    leg ends when another connection, or another engine, takes the conversation. Reports after the end of the
    call do not count.
    """

    def __init__(
        self,
        session: Metered,
        prices: Prices,
        budget_usd: float | None,
        carried_usd: float,
        stop: Callable[[BudgetUsedUp], None],
    ) -> None:
        self.prices = prices
        self.budget_usd = _dollars("budget_usd", budget_usd) or None
        """The most that the conversation may cost; None without a limit."""
        self.exhausted = False
        """True once the budget is used up: nothing that costs money may begin."""
        self._session = session
        self._reported = _dollars("carried_usd", carried_usd) or 0.0  # since the conversation began, not reset
        self._carried = self._reported
        self._running_usd = 0.0
        self._from = self._leg_from = 0.0  # the readouts count from here
        self._by_service: dict[tuple[str, str], float | None] = {}
        self._running: list[Running] = []
        self._connected = self._closed = False
        self._faulty = _NONE_FAULTY
        self._changed: Callable[[], None] | None = None
        self._notice_at = math.inf
        self._limit = self.budget_usd or math.inf
        self._stop = stop
        self._clocks = Clocks(session.broadcast, lambda: self.left_usd)
        session.on(Usage, self.add)
        session.on(ConnectionChanged, self._connection)
        session.on(HandoffCompleted, self._handed_off)
        session.on(SessionEnding, self._end)

    # -- readouts --------------------------------------------------------------------------------------------------

    @property
    def usd(self) -> float:
        """The cost of the conversation since it began, or since `reset`."""
        return max(0.0, self._now_usd() - self._from)

    @property
    def leg_usd(self) -> float:
        """The cost since the present connection or engine took the conversation, or since `reset`."""
        return max(0.0, self._now_usd() - self._leg_from - self._carried)

    @property
    def estimated_usd(self) -> float:
        """The part of the cost that no vendor has reported yet."""
        return max(0.0, self._running_usd)

    @property
    def left_usd(self) -> float:
        """The rest of the budget; infinite without one. `reset` does not change it."""
        return max(0.0, self._limit - self._now_usd())

    @property
    def per_minute_usd(self) -> float:
        """The cost of a minute of this call: an estimate from the prices for its first minute, then the mean."""
        seconds = self._session.now()
        if seconds < SETTLED_S:
            return estimate(self._session.pipeline, self.prices).usd
        return max(0.0, self._now_usd() - self._carried) * 60 / seconds

    @property
    def by_service(self) -> dict[tuple[str, str], float | None]:
        """The reported cost by (service, model); None for a model without a price."""
        return dict(self._by_service)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The names of the models without a price. They count as 0."""
        return tuple(model or service for (service, model), usd in self._by_service.items() if usd is None)

    def readout(self) -> Cost:
        """Return the cost as it is now."""
        return Cost(
            usd=self.usd,
            leg_usd=self.leg_usd,
            carried_usd=self._carried if self._from == 0.0 else 0.0,
            estimated_usd=self.estimated_usd,
            per_minute_usd=self.per_minute_usd,
            budget_usd=self.budget_usd,
            by_service=tuple(ServiceCost(*key, usd) for key, usd in self._by_service.items()),
            unpriced=self.unpriced,
        )

    def reset(self) -> None:
        """Count the readouts from 0 again. The budget stays as it is, with what has been spent of it."""
        self._clocks.tick()
        self._from = self._now_usd()
        self._begin_leg()
        self._by_service = {}
        self._tell()

    def _now_usd(self) -> float:
        return self._reported + self._running_usd + self._clocks.usd

    # -- reports ---------------------------------------------------------------------------------------------------

    def add(self, used: Usage) -> None:
        """Count a report. One with an impossible amount is reported as an error, and counts without that amount."""
        used = self._checked(used)
        self._session.usage.add(used)
        if self._closed:
            return
        key = (used.service, used.model)
        usd = self.prices.cost(used)
        before = self._by_service.get(key, 0.0)
        self._by_service[key] = None if usd is None else (before or 0.0) + usd
        self._reported += usd or 0.0
        self._tell()
        self._check()

    def _checked(self, used: Usage) -> Usage:
        huge = {name: 0 for name in AMOUNTS if getattr(used, name) > (MAX_S if name[-2:] == "_s" else MAX_TOKENS)}
        if not (huge or used.faults):
            return used
        wrong = ", ".join((*used.faults, *huge))
        if used.service not in self._faulty and len(self._faulty) < 64:  # it is likely to come back
            self._faulty |= {used.service}
            text = f"a report of consumption of {used.service} has no usable {wrong}: it counts as 0"
            self._session.report(BadInput(text), used.service)
        return msgspec.structs.replace(used, **huge)

    # -- estimates, and connections charged by the clock -------------------------------------------------------------

    def running(self, service: str, model: str = "") -> Running:
        """Return an account for the consumption of a service between its reports. It costs nothing until it grows."""
        running = Running(self, service, model, self.prices.find(model, service) or NO_PRICE)
        self._running.append(running)
        return running

    def close_running(self, running: Running) -> None:
        """Forget an account whose service makes no further reports."""
        if running in self._running:
            self._running.remove(running)

    def grow(self, usd: float) -> None:
        """Add to the estimates."""
        self._running_usd += usd
        total = self._reported + self._running_usd
        if total >= self._limit or total >= self._notice_at:
            self._tell()
            self._check()

    def clock(self, service: str, model: str, billing: Billing) -> Clock | None:
        """Begin to charge an open connection. Returns None if the vendor does not charge by the clock."""
        price = self.prices.find(model, service) or NO_PRICE
        return self._clocks.start(service, model, price) if billing == "clock" else None

    # -- the budget ------------------------------------------------------------------------------------------------

    def carry(self, usd: float) -> None:
        """Add the cost of an earlier call that this one goes on from. It counts against the budget."""
        self._reported += usd
        self._carried += usd
        self._check()

    def begin(self) -> None:
        """End the call before it begins if the earlier calls of the conversation have used up the budget."""
        self._check()

    def _check(self) -> None:
        if self.exhausted or self._closed or self._reported + self._running_usd < self._limit:
            return
        self.exhausted = True
        spent = self._reported + self._running_usd
        self._stop(BudgetUsedUp(f"the call has cost ${spent:.4f} of its budget of ${self._limit:g}"))

    # -- legs, and the end -----------------------------------------------------------------------------------------

    def _connection(self, signal: ConnectionChanged) -> None:
        if signal.state != "active" or not signal.how:
            return
        nodes = members(self._session.pipeline)
        if any(isinstance(node, Engine) and node.name == signal.engine for node in nodes):  # no service of a cascade
            if self._connected:
                self._begin_leg()
            self._connected = True

    def _handed_off(self, signal: HandoffCompleted) -> None:
        if signal.engine:
            self._begin_leg()

    def _begin_leg(self) -> None:
        self._leg_from = self._now_usd() - self._carried
        self._tell()

    def _end(self, signal: SessionEnding) -> None:
        """Count what no vendor has reported, as estimated, and close the account."""
        self._clocks.close()
        for running in tuple(self._running):
            used = running.estimate()
            running.settle()
            if used is not None:
                self._session.broadcast(used)
        self._closed = True
        self._running.clear()

    # -- for the feed ----------------------------------------------------------------------------------------------

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` after every report and reset, and when an estimate has grown beyond what `notice` says."""
        self._changed = changed

    def notice(self, step_usd: float) -> None:
        """Call what watches once the cost has grown by this many dollars from now."""
        self._notice_at = self._reported + self._running_usd + step_usd

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()


def _dollars(name: str, usd: float | None) -> float | None:
    if usd is None:
        return None
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd <= MAX_USD:
        raise ConfigurationError(f"{name} is {shown_number(usd)}: it is in US dollars, between 0 and {MAX_USD:,}")
    return float(usd)
