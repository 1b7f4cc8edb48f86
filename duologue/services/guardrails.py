"""`Guardrail` checks the agent's sentences before they are spoken, `CallerGuardrail` the caller's words."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from ..errors import BadInput, ConfigurationError
from ..frames import (
    BotText,
    Control,
    Interrupted,
    Output,
    ResponseEnded,
    ResponseStarted,
    Say,
    ToolCall,
    UserText,
    UserTranscript,
)
from ..processors.handoff.takeover import Engines
from ..processors.kernel.lane import DrainableLane
from ..processors.kernel.node import Node
from ..processors.kernel.tasks import Stopped
from ..processors.processor import handles
from ..session.session import Session
from ..session.tool_calls import call_refused
from .checking import Action, Check, Checked, Checker, Judged, ModelCheck, Otherwise, Verdict
from .llm import LLM
from .sentences import SentenceSplitter
from .tts import TTS

__all__ = ["CallerGuardrail", "Check", "Checked", "Guardrail", "ModelCheck", "Verdict"]

DEADLINE_S = 1.0
"""Seconds that a check may take by default."""
CONCURRENCY = 8
"""Checks of one guardrail that run at once by default."""
MAX_WAITING = 64
"""Sentences that wait for their checks; beyond that the model waits. Also typed texts; beyond that they are refused."""
LINE = "Sorry, I cannot talk about that."
"""The default line in the place of a sentence that is refused."""
_SPOKEN: frozenset[Action] = frozenset({"pass", "block", "replace", "drop", "stop"})
_HEARD: frozenset[Action] = frozenset({"pass", "block", "replace", "drop", "answer"})


class _Answer:
    """One answer of the agent as a guardrail sees it."""

    def __init__(self, language: str = "") -> None:
        self.splitter = SentenceSplitter(language)
        self.text = ""  # that was checked, or is being checked
        self.space = ""  # after the latest sentence that was spoken
        self.begun = False  # one was spoken
        self.stopped = False
        self.line_said = False


class Guardrail(Checker):
    """Checks each sentence of the agent before it is spoken: `Cascade(stt, llm, tts, spoken=[Guardrail(check)])`.

    `check(words)`, a `def`, an `async def` or a `ModelCheck`, returns True if the sentence may be spoken, False if not,
    a text that is spoken in its place, or a `Verdict`. For False, `action` is due: "replace" speaks `line`, once in an
    answer; "drop" leaves the sentence out; "stop" speaks `line` and leaves out the rest of the answer, with its tool
    calls.

    The checks of an answer run at the same time, at most `concurrency`, each as soon as its sentence is complete, and
    the sentences are spoken in their order. So the first audio comes later by the time of one check, and the others
    run while the agent speaks. An interruption cancels them.

    A check that takes longer than `deadline_s` seconds, or raises, is reported. Its sentence is treated as refused, or
    is spoken with `when_late="pass"` and `when_failed="pass"`. The log has the words that were spoken;
    `Item.written` has the model's. Each sentence that is not just passed is a `GuardrailActed` signal.

    Elsewhere in the pipeline, it checks the sentences by a hook (`Session.intercept`), one after the other, on every
    engine. A native engine has sent the audio by then: a sentence that is refused interrupts the answer, so that the
    unheard rest of it is not played, and the agent says the line or the replacement.

    Raises ConfigurationError for another action or limit.
    """

    def __init__(
        self,
        check: Check,
        *,
        action: Literal["replace", "drop", "stop"] = "replace",
        line: str = LINE,
        deadline_s: float = DEADLINE_S,
        when_late: Otherwise = "block",
        when_failed: Otherwise = "block",
        concurrency: int = CONCURRENCY,
        name: str = "",
    ) -> None:
        super().__init__(
            check,
            _SPOKEN,
            action=action,
            line=line,
            deadline_s=deadline_s,
            when_late=when_late,
            when_failed=when_failed,
            concurrency=concurrency,
            name=name,
        )
        self._inside = False  # between a model and a voice
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._queue: DrainableLane | None = None
        self._language: Callable[[], str] = str
        self._apology = ""  # to be said once a native engine's response is interrupted

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Learn whether the sentences pass here on their way to a text-to-speech."""
        super().check_place(before, after)
        model = next((node for node in reversed(before) if isinstance(node, LLM | TTS)), None)
        voice = next((node for node in after if isinstance(node, LLM | TTS)), None)
        self._inside = isinstance(model, LLM) and isinstance(voice, TTS)
        if isinstance(model, LLM):
            self._language = lambda: model.config.language

    async def open(self) -> None:
        """Start the queue of sentences, or set the hook."""
        await super().open()
        self._queue = DrainableLane(self, MAX_WAITING)
        if not self._inside:
            self._intercept(BotText, self._hook)

    async def close(self) -> None:
        """Drop the sentences that wait."""
        await super().close()
        if self._queue is not None:
            self._queue.close()

    # -- on the way from the model to the voice ----------------------------------------------------------------------

    @handles(ResponseStarted)
    async def started(self, frame: ResponseStarted) -> None:
        """Begin an answer."""
        await self._put(self.push, frame)

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        """Begin the checks of the sentences that this text completes."""
        if not self._inside:
            await self.push(frame)
            return
        for sentence in self._answer(frame.response_id).splitter.feed(frame.text):
            await self._begin(frame, sentence)

    @handles(ToolCall)
    async def tool_call(self, frame: ToolCall) -> None:
        """Check the text before the call first. The calls of an answer that was stopped are refused."""
        await self._flush(frame)
        await self._put(self._call, frame)

    @handles(ResponseEnded)
    async def ended(self, frame: ResponseEnded) -> None:
        """Check the rest of the answer, then end it. The rest of an incomplete answer is dropped."""
        if frame.status == "completed":
            await self._flush(frame)
        await self._put(self.push, frame)

    @handles(Control)
    async def control(self, frame: Control) -> None:
        """Pass on everything that waits, then this frame."""
        if self._queue is not None:
            await self._queue.drain()

    def _answer(self, response_id: str) -> _Answer:
        answer = self._answers.get(response_id)
        if answer is None:
            answer = self._answers[response_id] = _Answer(self._language())
            while len(self._answers) > 2:
                self._answers.popitem(last=False)
        return answer

    async def _put(self, target: Callable[[Any], Any], frame: Output) -> None:
        if self._inside and self._queue is not None:
            await self._queue.put(target, frame)
        else:
            await self.push(frame)

    async def _flush(self, frame: ToolCall | ResponseEnded) -> None:
        if self._inside and frame.response_id in self._answers:
            await self._begin(frame, self._answer(frame.response_id).splitter.flush())

    async def _begin(self, frame: Output, sentence: str) -> None:
        floor, text = self.session.floor, sentence.strip()
        if not text or frame.turn <= floor.fence:
            return
        answer = self._answer(frame.response_id)
        words = Checked(text, self.session, "agent", answer.text.strip(), frame.turn, frame.response_id)
        answer.text += sentence
        check = self.session.start_task(self, self._check(words), name=f"{self.name}.check")
        piece = BotText(turn=frame.turn, response_id=frame.response_id, text=sentence, whole=True)
        assert self._queue is not None
        await self._queue.put(partial(self._release, words, check), piece)

    async def _check(self, words: Checked) -> Judged | None:
        """Return the judgement of a sentence, None if an interruption or the end of the call has made it void."""
        with self.session.floor.scope(words.turn):
            try:
                return await self._judge(words)
            except Stopped:
                pass
        return None

    async def _release(self, words: Checked, check: asyncio.Task[Judged | None], frame: BotText) -> None:
        """Push a sentence as its check lets it pass. Earlier sentences are through."""
        answer = self._answer(frame.response_id)
        if answer.stopped:
            check.cancel()
            return
        try:
            await asyncio.wait({check})
        except asyncio.CancelledError:
            check.cancel()
            raise
        judged = None if check.cancelled() else check.result()
        if judged is None:
            return
        verdict = self._verdict(judged, answer)
        self._tell(words, judged, verdict)
        said = words.text if verdict.action == "pass" else verdict.text
        if said and verdict.action != "drop":
            # The space between two sentences comes with the second, which may not be spoken.
            before = answer.space or (frame.text[: -len(frame.text.lstrip())] if answer.begun else "")
            answer.begun, answer.space = True, frame.text[len(frame.text.rstrip()) :]
            await self.push(msgspec.structs.replace(frame, text=before + said))

    def _verdict(self, judged: Judged, answer: _Answer) -> Verdict:
        verdict = judged.verdict
        if verdict.action == "block":
            verdict = self._own
            if verdict.action == "replace" and answer.line_said:
                verdict = Verdict("drop")
            answer.line_said = True
        answer.stopped = answer.stopped or verdict.action == "stop"
        return verdict

    async def _call(self, frame: ToolCall) -> None:
        if self._answer(frame.response_id).stopped:
            await self.push_up(call_refused(frame, "refused: the answer was stopped", respond=False))
        else:
            await self.push(frame)

    # -- as a hook ---------------------------------------------------------------------------------------------------

    async def _hook(self, frame: BotText) -> BotText | None:
        answer = self._answer(frame.response_id)
        if answer.stopped:
            return None
        words = Checked(frame.text, self.session, "agent", answer.text.strip(), frame.turn, frame.response_id)
        answer.text += f" {frame.text}"
        judged = await self._check(words)
        if judged is None:
            return None
        verdict = self._verdict(judged, answer)
        self._tell(words, judged, verdict)
        self._apology = ""
        if verdict.action == "pass":
            return frame
        if _text_may_change(self.session):
            return msgspec.structs.replace(frame, text=verdict.text) if verdict.text else None
        self._apology = verdict.text
        return None

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Let the agent say the text in the place of a sentence that a native engine has begun to speak."""
        text, self._apology = self._apology, ""
        if text and signal.reason == "blocked":
            self.spawn(self.session.send, Say(text=text))


class CallerGuardrail(Checker):
    """Checks the caller's words before the log and the model get them. It stands in `Cascade(heard=[…])`, or anywhere
    before an engine.

    `check(words)` returns True if the words may pass, False if not, a text that takes their place, or a `Verdict`. For
    False, `action` is due: "drop" lets nothing through, as if the caller had said nothing; "answer" does the same, and
    the agent says `line`; "replace" puts `line` in the place of the words.

    Final transcripts are checked, by a hook (`Session.intercept`), and texts that the caller types. Limits, errors and
    signals are those of `Guardrail`. The caller waits for the check. An answer that is begun at an eager end of turn
    goes on meanwhile, and is thrown away unless the words pass unchanged: with `Cascade(eager_starts=0)` the model gets
    no word that was not checked.

    The model of a native engine has heard the audio. There, the log, the listeners, and a later connection or engine
    get the replacement, or nothing; "answer" also interrupts the answer in progress.

    Raises ConfigurationError for another action or limit.
    """

    def __init__(
        self,
        check: Check,
        *,
        action: Literal["drop", "answer", "replace"] = "answer",
        line: str = LINE,
        deadline_s: float = DEADLINE_S,
        when_late: Otherwise = "block",
        when_failed: Otherwise = "block",
        concurrency: int = CONCURRENCY,
        name: str = "",
    ) -> None:
        super().__init__(
            check,
            _HEARD,
            action=action,
            line=line,
            deadline_s=deadline_s,
            when_late=when_late,
            when_failed=when_failed,
            concurrency=concurrency,
            name=name,
        )
        self._typed: DrainableLane | None = None
        self._waiting = 0  # texts that are being checked

    async def open(self) -> None:
        """Set the hook, and start the queue of typed texts."""
        await super().open()
        self._typed = DrainableLane(self, MAX_WAITING)
        self._intercept(UserTranscript, self._hook)

    async def close(self) -> None:
        """Drop the texts that wait."""
        await super().close()
        if self._typed is not None:
            self._typed.close()

    @handles(UserText)
    async def typed(self, frame: UserText) -> None:
        """Check a text that the caller has typed. Audio does not wait for it."""
        if frame.author != "caller" or not frame.text.strip() or self._typed is None:
            await self.push(frame)
        elif self._waiting >= MAX_WAITING:
            self.session.report(BadInput(f"{MAX_WAITING} texts are being checked already"), self.name)
        else:
            self._waiting += 1
            check = self.session.start_task(self, self._judged(frame.text), name=f"{self.name}.check")
            await self._typed.put(partial(self._release, check), frame)

    @handles(Control)
    async def control(self, frame: Control) -> None:
        """Pass on the texts that wait, then this frame."""
        if self._typed is not None:
            await self._typed.drain()

    async def _release(self, check: asyncio.Task[Verdict | None], frame: UserText) -> None:
        """Push a text as its check lets it pass. Earlier texts are through."""
        try:
            await asyncio.wait({check})
        finally:
            self._waiting -= 1
            check.cancel()
        verdict = None if check.cancelled() else check.result()
        if verdict is None:
            return
        if verdict.action == "answer":
            await self.push(Say(text=verdict.text))
        elif verdict.action != "drop":
            text = frame.text if verdict.action == "pass" else verdict.text
            await self.push(msgspec.structs.replace(frame, text=text))

    async def _hook(self, frame: UserTranscript) -> UserTranscript | None:
        if not frame.final or not frame.text.strip():
            return frame
        verdict = await self._judged(frame.text)
        if verdict is None or verdict.action == "drop":
            return None
        if verdict.action == "pass":
            return frame
        if verdict.action == "replace":
            return msgspec.structs.replace(frame, text=verdict.text, words=())
        session = self.session
        if session.floor.owner == "agent" and not _text_may_change(session):
            session.interrupt("blocked")
        self.spawn(session.send, Say(text=verdict.text))
        return None

    async def _judged(self, text: str) -> Verdict | None:
        words = Checked(text.strip(), self.session, "caller")
        try:
            judged = await self._judge(words)
        except Stopped:
            return None
        verdict = self._own if judged.verdict.action == "block" else judged.verdict
        self._tell(words, judged, verdict)
        return verdict


def _text_may_change(session: Session) -> bool:
    """Return True if the engine that has the call speaks only what was checked before."""
    try:
        engines = Engines(session.pipeline)
    except ConfigurationError:
        return True
    return engines.named[engines.active].capabilities.text_may_change
