"""`Acting`: which acts are due, which of them the application chooses, and the request to the model."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Any, get_args

import msgspec

from ...errors import CONTAINED, ConfigurationError, DeadlineExceeded, contained
from ...frames import FrustrationChanged, FrustrationState
from ..kernel.lane import Overdue
from ..kernel.tasks import Work
from ..processor import Processor
from .judge import STATES, Judge
from .policy import REQUESTS, Act, FrustrationPolicy

CHOOSE_S = 1.0
"""The longest wait for `choose`, in seconds: then the proposed acts count."""
Choose = Callable[[FrustrationChanged], "Iterable[Act] | Awaitable[Iterable[Act] | None] | None"]


class Acting:
    """Decides what is done about the caller's frustration, and remembers what was done.

    Raises ConfigurationError for a `choose` that cannot be called.
    """

    def __init__(self, owner: Processor, policy: FrustrationPolicy, choose: Choose | None) -> None:
        if choose is not None and not callable(choose):
            raise ConfigurationError(f"{choose!r} cannot choose acts: it cannot be called")
        self._owner, self._policy, self._choose = owner, policy, choose
        self._told: FrustrationState = "calm"
        self._acted_at = float("-inf")
        self._acted_state = 0  # the place of the worst state that was acted on since the caller was calm
        self._acted = self._helped = 0  # in the call; since the caller was calm
        self._offered = False

    def is_due(self, judge: Judge) -> bool:
        """Return True if there is a new state to tell, or an act to do."""
        return judge.state != self._told or bool(self._proposed(judge))

    async def decide(self, judge: Judge) -> FrustrationChanged:
        """Return the signal of the present state, with the acts to do. They count as done."""
        acts, now = self._proposed(judge), self._owner.session.now()
        self._told = judge.state
        signal = FrustrationChanged(
            state=judge.state, level=round(judge.level, 3), reasons=judge.reasons, acts=acts, at=now
        )
        if not acts:
            return signal
        self._acted_at = now
        self._acted += 1
        self._helped += 1
        self._acted_state = max(self._acted_state, STATES.index(judge.state))
        self._offered = self._offered or "offer a person" in acts
        return msgspec.structs.replace(signal, acts=await self._chosen(signal, acts))

    def _proposed(self, judge: Judge) -> tuple[Act, ...]:
        policy, place = self._policy, STATES.index(judge.state)
        if not place:
            self._acted_state = self._helped = 0
        wants = judge.evidence.get("wants a person", 0.0) > 0
        if self._acted >= policy.most or not (place or wants):
            return ()
        rested = judge.shows and self._owner.session.now() - self._acted_at >= policy.pause_s
        if not self._offered and (wants or (rested and place == 2 and self._helped >= policy.patience)):
            return policy.wants_a_person
        if place > self._acted_state or rested:
            return policy.frustrated if place == 2 else policy.tense
        return ()

    async def _chosen(self, signal: FrustrationChanged, proposed: tuple[Act, ...]) -> tuple[Act, ...]:
        """Return the acts that the application chooses. One that fails, or is late, leaves the proposed ones."""
        if self._choose is None:
            return proposed
        owner = self._owner
        try:
            chosen: Any = self._choose(signal)
            if inspect.isawaitable(chosen):
                chosen = await Work[Any](owner, f"{owner.name}.choose", CHOOSE_S).run(_waited_for(chosen))
            if chosen is None:
                return proposed
            if not isinstance(chosen, Iterable):
                raise ConfigurationError(f"choose returned {chosen!r:.60}: it returns acts")
            acts = (chosen,) if isinstance(chosen, str) else tuple(islice(chosen, len(REQUESTS)))
            if unknown := [act for act in acts if act not in get_args(Act)]:
                raise ConfigurationError(f"choose returned {unknown[0]!r:.60}: an act is one of {get_args(Act)}")
            return acts
        except Overdue:
            owner.session.report(DeadlineExceeded(f"choose took longer than {CHOOSE_S:g} s"), owner.name)
        except CONTAINED as error:
            owner.session.report(contained(error), owner.name)
        return proposed

    def request(self, signal: FrustrationChanged) -> str:
        """Return the text that asks the model for the acts of a signal."""
        acts: tuple[Act, ...] = signal.acts  # type: ignore[assignment]
        seems = "asks for a person" if signal.state == "calm" else f"seems {signal.state}"
        why = f" ({', '.join(signal.reasons)})" if signal.reasons else ""
        wanted = "; ".join(self._policy.requests[act] for act in acts)
        return f"The caller {seems}{why}. In the next answer: {wanted}. Do not mention this note."


async def _waited_for(value: Awaitable[Any]) -> Any:
    return await value
