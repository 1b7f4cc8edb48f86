"""`Trial`: a scenario under a plan of faults, and what must hold when a fault makes its promises impossible."""

from __future__ import annotations

import random
from typing import Literal

from ...errors import ConfigurationError
from ...frames import BotStartedSpeaking, ConnectionChanged, Interrupted, ResponseEnded
from .. import clock
from ..scripted.manners import Manners
from .call import Call, current_judge
from .phrases import THANKS
from .rig import Rig
from .suite import Scenario, run_test

TrialVerdict = Literal["holds", "weakened", "cannot", "n/a"]
"""As `Verdict`. "weakened": a fault cost an answer, which was reported; the rules hold, and the call goes on."""

SETTLED_S = 120.0
"""The most seconds until the agent owes nothing after the last fault: an engine may ask again, and reconnect."""
QUESTIONS = 3
"""The number of last questions, one of which must be answered: a scenario's script may fail on purpose."""
TRIAL_LIMIT_S = 2_000.0
"""The most virtual seconds that a scenario under faults may take."""


class Trial:
    """One run of a scenario under a plan.

    If it is `lenient`, broken promises of the scenario are noted, and each of its calls is judged by less: the rules of
    every call hold, the faults are reported, nothing stays open, and a last question is answered.
    """

    def __init__(self, manners: Manners, *, lenient: bool) -> None:
        self.manners = manners
        self.lenient = lenient
        self.broken: list[Exception] = []
        """The promises that were broken."""
        self.faults: list[Exception] = []
        """The rules that were broken."""
        self.calls = 0
        """The number of calls that have been judged."""
        self._lost_earlier = 0  # answers that the manners cost in calls that have been judged

    def forgives(self, error: Exception) -> bool:
        """Note a broken promise. Returns True if the run is lenient."""
        self.broken.append(error)
        return self.lenient

    async def conclude(self, call: Call, ends: bool) -> None:
        """End a call of the scenario, and check it. Raises the first error, which is noted as well."""
        self.calls += 1
        try:
            if self.lenient and not call.is_over:
                await self._ask_last(call)
            await (call.end() if ends or self.lenient else call.over())
            call.check()
            if self.lenient:
                self._check_told(call)
        except Exception as error:
            error.add_note(str(call))
            self.faults.append(error)
            if not call.is_over:
                call.session.cancel("the scenario failed")
                await call.over()
            raise
        finally:
            self._lost_earlier = self._lost(call.rig)

    async def _ask_last(self, call: Call) -> None:
        self.manners.stop()
        await call.settles(SETTLED_S)
        for _ in range(QUESTIONS):
            await call.says(THANKS)
            if await _answered(call):
                await call.settles(SETTLED_S)
                return
        raise AssertionError("the call does not go on after the faults: the last questions have no answer")

    def _check_told(self, call: Call) -> None:
        """Check that a fault that cost an answer was reported, unless the answer was void or silence is one."""
        if not self.broken or self._lost(call.rig) <= self._lost_earlier or call.came(Interrupted):
            return
        failed = [frame for frame in call.came(ResponseEnded) if frame.status == "failed"]
        left = [change for change in call.came(ConnectionChanged) if change.state == "reconnecting"]
        assert call.errors or failed or left, "an answer was lost, and nothing was reported"

    def _lost(self, rig: Rig) -> int:
        """Return the number of answers that the plan has cost, in all calls, without those that silence may replace."""
        return self.manners.lost - (self.manners.silences if rig.may_be_silent else 0)


async def _answered(call: Call) -> bool:
    before = len(call.came(BotStartedSpeaking))
    try:
        await call.until(lambda: len(call.came(BotStartedSpeaking)) > before, "an answer")
    except AssertionError:
        return False
    return True


def check_under_faults(
    rig: Rig, scenario: Scenario, seed: int, faults: tuple[str, ...] | None = None
) -> tuple[TrialVerdict, Manners]:
    """Run a scenario under the plan of a seed, on the virtual clock. Returns the verdict and the plan as it was shown.

    `faults` are those of the plan, by default two or three that the seed chooses among those of the rig's far ends. A
    scenario that breaks a promise after a fault that may cost an answer is run again, leniently. Raises the error that
    remains, with the plan as a note, and ConfigurationError for a rig whose far ends have no manners.
    """
    if not rig.parts:
        raise ConfigurationError(f"{rig.name} names no far ends with manners: see Rig.parts")
    trial = Trial(Manners(seed, faults, parts=rig.parts), lenient=False)
    try:
        return clock.run(_run, rig, scenario, trial, limit_s=TRIAL_LIMIT_S), trial.manners
    except Exception as strict:
        strict.add_note(str(trial.manners))
        if not trial.manners.costs:
            raise
        again = Trial(Manners(seed, faults, parts=rig.parts), lenient=True)
        try:
            clock.run(_run, rig, scenario, again, limit_s=TRIAL_LIMIT_S)
        except Exception as lenient:
            if again.faults or not again.calls:
                lenient.add_note(str(again.manners))
                raise
        if again.faults:
            raise again.faults[0] from None
        return "weakened", again.manners


async def _run(rig: Rig, scenario: Scenario, trial: Trial) -> TrialVerdict:
    rig.manners = trial.manners
    token = current_judge.set(trial)
    try:
        return await run_test(rig, scenario, random.Random(f"{scenario.id} {trial.manners.seed}"))
    finally:
        current_judge.reset(token)
        rig.manners = None
