"""`Checker`: the base of guardrails. `Checking` runs checks within a time limit; `ModelCheck` asks a language model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from ..errors import ConfigurationError, DeadlineExceeded, ServiceError
from ..frames import GuardrailActed
from ..processors.kernel.host import Host
from ..processors.kernel.lane import Overdue
from ..processors.kernel.tasks import Stopped, Work
from ..processors.processor import Processor
from ..session.boundary import ask_outside, call_outside
from ..session.session import Session
from .context import Message, Request
from .llm import LLM
from .own_model import OwnModel

Action = Literal["pass", "block", "replace", "drop", "stop", "answer"]
"""The outcome for words that were checked: see `Verdict`."""
Otherwise = Literal["block", "pass"]
"""The outcome for words whose check has failed or is late."""
Cause = Literal["", "refused", "late", "failed"]
"""Why a guardrail acts: its check has refused the words, has taken too long, or has raised an error."""
_DONE: dict[Action, Literal["passed", "replaced", "dropped", "stopped", "answered"]] = {
    "pass": "passed",
    "replace": "replaced",
    "drop": "dropped",
    "stop": "stopped",
    "answer": "answered",
}
MAX_CONTEXT = 20
"""Messages of the conversation that a `ModelCheck` sends."""


class Verdict(msgspec.Struct, frozen=True):
    """The result of a check.

    "pass" lets the words through; "block" takes the guardrail's own action. For a sentence of the agent, "replace"
    speaks `text` in its place, "drop" leaves it out, "stop" speaks `text` and leaves out the rest of the answer. For
    words of the caller, "replace" lets `text` through in their place, "drop" lets nothing through, "answer" lets
    nothing through, and the agent says `text`. `reason` is for the application: the `GuardrailActed` signal has it.

    Raises ConfigurationError for a text or a reason that is not a `str`, and if there is nothing to say for "replace"
    or "answer".
    """

    action: Action
    text: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        for name, value in (("text", self.text), ("reason", self.reason)):
            if not isinstance(value, str):
                raise ConfigurationError(f"the {name} of a verdict is {value!r:.60}: it is a str")
        if self.action in ("replace", "answer") and not self.text.strip():
            raise ConfigurationError(f"the verdict {self.action!r} has no text: 'drop' leaves the words out")


@dataclass(frozen=True, slots=True)
class Checked:
    """The words to check. `text` has no space around it; `before` is the earlier text of the same answer.

    `session` is the call: its conversation, its data. `turn` and `response_id` are those of the answer, 0 and "" for
    words of the caller.
    """

    text: str
    session: Session
    side: Literal["agent", "caller"] = "agent"
    before: str = ""
    turn: int = 0
    response_id: str = ""


Answer: TypeAlias = bool | str | Verdict
Check: TypeAlias = Callable[[Checked], Answer | Awaitable[Answer]]
"""Returns True if the words may pass, False if the guardrail's own action is due, a text that replaces them (they pass
if it is their own), or a `Verdict`. A plain function runs on the event loop, and must not block it."""


class Judged(NamedTuple):
    """A verdict, and its cause: "" for words that the check lets through."""

    verdict: Verdict
    cause: Cause = ""


_BLOCK = Verdict("block")
_PASS = Verdict("pass")


class Checking:
    """Runs the checks of a guardrail: at most `concurrency` at once, each within `deadline_s` seconds.

    A check that is late, or raises, is reported; `when_late` and `when_failed` say whether the words pass.
    Raises ConfigurationError for a check that cannot be called, and for limits that are not positive.
    """

    def __init__(
        self, check: Check, *, deadline_s: float, when_late: Otherwise, when_failed: Otherwise, concurrency: int
    ) -> None:
        if not callable(check):
            raise ConfigurationError(f"{check!r} cannot be a check: it cannot be called")
        if not deadline_s > 0 or concurrency < 1:
            raise ConfigurationError("a guardrail needs a deadline_s above 0 and a concurrency of at least 1")
        for name, value in (("when_late", when_late), ("when_failed", when_failed)):
            if value not in ("block", "pass"):
                raise ConfigurationError(f"{name} is {value!r}: it is 'block' or 'pass'")
        self.check = check
        self.deadline_s = deadline_s
        self.otherwise: dict[Cause, Otherwise] = {"late": when_late, "failed": when_failed}
        self._room = asyncio.Semaphore(concurrency)

    async def judge(self, owner: Processor, words: Checked, allowed: frozenset[Action]) -> Judged:
        """Return the verdict on the words: an action of `allowed`. Raises Stopped when the session ends."""
        async with self._room:
            try:
                answer = await Work[Any](owner, f"{owner.name}.check", self.deadline_s).run(_asked(self.check, words))
                return _as_verdict(answer, words.text, allowed)
            except Stopped:
                raise
            except Overdue:
                error: Exception = DeadlineExceeded(f"a check took longer than {self.deadline_s:g} s")
                cause: Cause = "late"
            except Exception as raised:
                error, cause = raised, "failed"
        owner.session.report(error, owner.name)
        told = str(error) or type(error).__name__
        return Judged(Verdict("pass" if self.otherwise[cause] == "pass" else "block", reason=told), cause)


async def _asked(check: Check, words: Checked) -> Any:
    if isinstance(check, OwnModel):  # its requests are recorded
        return await call_outside(check, words)
    return await ask_outside("hook", "check", partial(call_outside, check, words), words.text)


def _as_verdict(answer: Any, text: str, allowed: frozenset[Action]) -> Judged:
    if isinstance(answer, str) and answer.strip() == text:
        answer = True
    if isinstance(answer, bool):
        answer = _PASS if answer else _BLOCK
    if isinstance(answer, str):
        answer = Verdict("replace", answer) if answer.strip() else Verdict("drop")
    if not isinstance(answer, Verdict):
        raise ConfigurationError(f"a check returned {type(answer).__name__}: it returns a bool, a text or a Verdict")
    if answer.action not in allowed:
        raise ConfigurationError(f"a check returned the action {answer.action!r}: here {sorted(allowed)} are possible")
    return Judged(answer, "" if answer.action == "pass" else "refused")


_ASK = (
    "You check one message of a telephone call against this policy:\n\n{policy}\n\n"
    "Answer with the single word PASS if the message keeps the policy, else with the word BLOCK and the reason."
)

_VERDICTS: dict[str, Action] = {"PASS": "pass", "BLOCK": "block"}
_LONGEST_VERDICT = 500


class ModelCheck(OwnModel):
    """A check by a language model: `Guardrail(ModelCheck(OpenAILLM("gpt-5.4-nano"), "Give no medical advice."))`.

    The model sees the policy, the latest `context` messages of the call, the answer up to now, and the words to check.
    It belongs to the guardrail, and has no other place.
    """

    def __init__(self, model: LLM, policy: str, *, context: int = 4) -> None:
        if not 0 <= context <= MAX_CONTEXT:
            raise ConfigurationError(f"context is {context!r}: it lies between 0 and {MAX_CONTEXT}")
        super().__init__(model)
        self.instructions = _ASK.format(policy=policy)
        self.context = context

    async def __call__(self, words: Checked) -> Verdict:
        """Ask the model. Raises ServiceError for an answer without a verdict."""
        said = await self.ask(self._request(words), _LONGEST_VERDICT)
        verdict, _, reason = said.partition(" ")
        if (answer := _VERDICTS.get(verdict.strip(".,:;!*").upper())) is None:
            raise ServiceError(f"the model that checks gave no verdict: {said[:60]!r}")
        return Verdict(answer, reason=reason.strip())

    def _request(self, words: Checked) -> Request:
        items = [item for item in words.session.conversation if item.kind == "message" and item.text]
        told = [f"{item.role}: {item.text}" for item in items[-self.context :]] if self.context else []
        if words.before:
            told.append(f"{words.side}: {words.before}")
        text = "\n".join([*(["The call up to here:", *told] if told else []), f"Check this of the {words.side}:"])
        return Request(instructions=self.instructions, messages=(Message(role="user", text=f"{text}\n{words.text}"),))


class Checker(Processor):
    """The base of guardrails: the check, its limits, and the signal."""

    def __init__(
        self,
        check: Check,
        allowed: frozenset[Action],
        *,
        action: Action,
        line: str,
        deadline_s: float,
        when_late: Otherwise,
        when_failed: Otherwise,
        concurrency: int,
        name: str,
    ) -> None:
        self._checking = Checking(
            check, deadline_s=deadline_s, when_late=when_late, when_failed=when_failed, concurrency=concurrency
        )
        if action not in allowed - {"pass", "block"}:
            possible = ", ".join(sorted(allowed - {"pass", "block"}))
            raise ConfigurationError(f"action is {action!r}: it is one of {possible}")
        self._own = Verdict(action, "" if action == "drop" else line)
        self._allowed = allowed
        self._name = name
        self._stops: list[Callable[[], None]] = []

    @property
    def name(self) -> str:
        return self._name or type(self).__name__

    def _join(self, host: Host) -> None:
        super()._join(host)
        if isinstance(self._checking.check, ModelCheck):
            self._checking.check.join(host)

    async def open(self) -> None:
        """Open the model that checks, if there is one."""
        if isinstance(self._checking.check, ModelCheck):
            await self._checking.check.model.open()

    async def close(self) -> None:
        """Close the model that checks, and remove the hooks."""
        for stop in self._stops:
            stop()
        if isinstance(self._checking.check, ModelCheck):
            await self._checking.check.model.close()

    def _intercept(self, kind: Any, hook: Callable[[Any], Any]) -> None:
        # The check has its own limit; the hook's is behind it.
        self._stops.append(self.session.intercept(kind, hook, timeout_s=self._checking.deadline_s + 10.0))

    async def _judge(self, words: Checked) -> Judged:
        return await self._checking.judge(self, words, self._allowed)

    def _tell(self, words: Checked, judged: Judged, verdict: Verdict) -> None:
        if judged.cause:
            self.broadcast(
                GuardrailActed(
                    guardrail=self.name,
                    side=words.side,
                    action=_DONE[verdict.action],
                    cause=judged.cause,
                    text=words.text,
                    reason=judged.verdict.reason,
                    replacement=verdict.text if verdict.action in ("replace", "stop", "answer") else "",
                    turn=words.turn,
                    response_id=words.response_id,
                )
            )
