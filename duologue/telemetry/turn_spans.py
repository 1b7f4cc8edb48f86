"""`TurnSpans`: the spans of the turns of a call, and of the services that work in them."""

from __future__ import annotations

from ..frames import Usage
from ..session.call_events import (
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseReached,
    Speaking,
    SpeechCut,
    TurnTimed,
    UsageReported,
)
from ..session.conversation import Conversation
from . import names
from .otel import Link, Span
from .services import ServiceFacts, ServicesAtWork
from .span_maker import Attributes, OpenSpan, SpanMaker, message, span_kind, span_name

MAX_TURNS = 16
"""Turns whose span is open. At the limit the oldest is ended."""
MAX_UTTERANCES = 64
"""Utterances that wait for their turn. At the limit the oldest belongs to the call."""


class TurnSpan(OpenSpan):
    """The span of a turn: an agent's work for what the caller has said."""

    def __init__(self, number: int, agent: str, span: Span, began_at: float, at: float) -> None:
        super().__init__(span)
        self.began_at = began_at
        self.opened_at = at
        self.number = number
        self.agent = agent
        self.last_at = at
        self.responses: set[str] = set()
        self.tools: set[str] = set()
        self.waits_for_speech = False  # audio is in the playout that nobody hears yet
        self.interrupted = False
        self.failed = ""
        self.over = False

    @property
    def busy(self) -> bool:
        """True while something of the turn is open."""
        return bool(self.responses or self.tools or self.waits_for_speech)


class _AnswerSpans:
    """A response of the agent in progress."""

    def __init__(self, id: str, turn: TurnSpan, opened_at: float, services: ServicesAtWork) -> None:
        self.id = id
        self.turn = turn
        self.opened_at = opened_at
        self.model, self.voice = services.model, services.get("tts")  # others may be at work when it is complete
        self.asked = self.model is not None and self.model.kind == "engine"
        self.text_at: float | None = None
        self.audio_at: float | None = None
        self.chat_told = False
        self.used: Usage | None = None
        self.spoken: Usage | None = None


class TurnSpans:
    """Makes a span for each turn, and in it spans for the transcripts, the model's answers and their speech.

    A turn begins with the caller's speech that led to it, and ends with the last thing that happened in it. Another
    agent, after a hand-off, has a span of its own.
    """

    def __init__(self, maker: SpanMaker, services: ServicesAtWork, conversation: Conversation) -> None:
        self.latest: TurnSpan | None = None
        self.links: list[Link] = []
        """Links of the next turn."""
        self.category = "_OTHER"
        """The category of the latest error."""
        self._maker, self._services, self._conversation = maker, services, conversation
        self._call: Span | None = None
        self._turns: dict[int, TurnSpan] = {}
        self._silent: TurnSpan | None = None  # the agent has fallen silent: it ends unless this was an interruption
        self._agent_speaks = False
        self._caller_since: float | None = None  # the caller's latest speech, before the next turn
        self._heard: list[Recognised] = []
        self._answers: dict[str, _AnswerSpans] = {}

    def begin(self, call: Span) -> None:
        """Begin with the span of the call."""
        self._call = call

    def end(self, at: float) -> None:
        """End all spans: the call ends."""
        assert self._call is not None
        for answer in tuple(self._answers.values()):
            self._finish(answer, at, "interrupted")
        for turn in tuple(self._turns.values()):
            self._close(turn, at if turn.busy else turn.last_at)
        for heard in self._heard:
            self._tell_heard(heard, self._call)
        self._heard.clear()

    def get(self, number: int) -> TurnSpan | None:
        """Return the open span of a turn, None without one."""
        return self._turns.get(number)

    @property
    def present(self) -> TurnSpan | None:
        """The turn in progress, None between turns."""
        return self.latest if self.latest is not None and not self.latest.over else None

    # -- turns -----------------------------------------------------------------------------------------------------

    def opened(self, event: ResponseOpened) -> None:
        """A response begins, and perhaps its turn."""
        turn = self._turns.get(event.turn)
        if turn is not None and turn.agent != event.agent:
            self._close(turn, event.at)
            turn = None
        turn = turn or self._begin_turn(event)
        turn.responses.add(event.id)
        self._answers[event.id] = _AnswerSpans(event.id, turn, event.at, self._services)

    def _begin_turn(self, event: ResponseOpened) -> TurnSpan:
        assert self._call is not None
        for before in tuple(self._turns.values()):
            if not before.busy or len(self._turns) >= MAX_TURNS:
                self._close(before, before.last_at)
        heard, self._heard = self._heard, []
        links, self.links = tuple(self.links), []
        spoke = [one.start_s for one in heard if one.start_s > 0]
        if self._caller_since is not None:
            spoke.append(self._caller_since)
        self._caller_since = None
        began_at = min([event.at, *spoke])
        attributes = {
            names.OPERATION: names.INVOKE_AGENT,
            names.CONVERSATION_ID: self._conversation.session_id,
            names.AGENT_NAME: event.agent,
            "duologue.turn": event.turn,
        }
        name = f"{names.INVOKE_AGENT} {event.agent}".strip()
        span = self._maker.begin(name, began_at, attributes, self._call, links)
        turn = self.latest = self._turns[event.turn] = TurnSpan(event.turn, event.agent, span, began_at, event.at)
        for one in heard:
            self._tell_heard(one, span)
        return turn

    def _close(self, turn: TurnSpan, at: float) -> None:
        if turn.over:
            return
        turn.over = True
        self._turns.pop(turn.number, None)
        if turn.interrupted:
            turn.span.set_attribute("duologue.interrupted", True)
        self._maker.end(turn.span, at, turn.failed)

    def speaking(self, event: Speaking) -> None:
        """The caller speaks; or the agent is heard, or no longer."""
        if event.who == "caller":
            self._caller_since = event.at if event.speaking else self._caller_since
            return
        self._agent_speaks = event.speaking
        for turn in self._turns.values():
            turn.last_at, turn.waits_for_speech = max(turn.last_at, event.at), False
        self._silent = None if event.speaking else self.present

    def settle(self) -> None:
        """End the turn in which the agent has fallen silent, if nothing of it is open."""
        turn, self._silent = self._silent, None
        if turn is not None and not turn.busy:
            self._close(turn, turn.last_at)

    def cut(self, event: SpeechCut) -> None:
        """The turns up to this one are interrupted."""
        for answer in tuple(self._answers.values()):
            if answer.turn.number <= event.turn:
                self._finish(answer, event.at, "interrupted")
        for turn in tuple(self._turns.values()):
            if turn.number <= event.turn:
                turn.interrupted, turn.waits_for_speech, turn.last_at = True, False, event.at
                self._maker.note(turn, "interruption", event.at, {"duologue.heard_s": event.heard_s})
                if not turn.busy:
                    self._close(turn, event.at)

    def timed(self, event: TurnTimed) -> None:
        """The latency of a turn is known."""
        if (turn := self._turns.get(event.turn)) is not None:
            stages = {f"duologue.latency.{stage}_ms": round(ms, 3) for stage, ms in event.stages_ms.items()}
            turn.span.set_attributes({**stages, "duologue.latency.total_ms": round(event.total_ms, 3)})

    # -- services --------------------------------------------------------------------------------------------------

    def recognised(self, event: Recognised) -> None:
        """The caller's words were transcribed."""
        if not event.final:
            return
        turn = self.latest
        if turn is not None and event.start_s < turn.opened_at:  # a native engine's, which come after the answer
            self._tell_heard(event, turn.span, turn.began_at)
        else:
            self._heard.append(event)
            if len(self._heard) > MAX_UTTERANCES and self._call is not None:
                self._tell_heard(self._heard.pop(0), self._call)

    def _tell_heard(self, event: Recognised, parent: Span, not_before: float = 0.0) -> None:
        service = self._services.get("stt") or self._services.get("engine")
        attributes = self._of_service(names.SPEECH_TO_TEXT, service)
        attributes["duologue.stt.delay_ms"] = round(max(0.0, event.at - event.end_s) * 1000, 3)
        attributes["duologue.stt.understood"] = bool(event.text)
        if event.language:
            attributes["duologue.language"] = event.language
        if self._maker.words:
            attributes[names.OUTPUT_MESSAGES] = message("user", event.text)
        began_at = min(max(event.start_s, not_before), event.at) if event.start_s > 0 else event.at
        name = span_name(names.SPEECH_TO_TEXT, service)
        self._maker.tell(name, (began_at, event.at), attributes, parent, kind=span_kind(service))

    def reached(self, event: ResponseReached) -> None:
        """A response has come to a point."""
        answer = self._answers.get(event.id)
        if answer is None:
            return
        match event.point:
            case "asked":
                answer.asked = True
            case "text":
                answer.text_at = event.at
            case "audio":
                answer.audio_at = event.at
                answer.turn.waits_for_speech = not self._agent_speaks
            case "written":
                self._tell_chat(answer, event.at, "completed")

    def complete(self, event: ResponseComplete) -> None:
        """The engine has finished a response."""
        if (answer := self._answers.get(event.id)) is not None:
            self._finish(answer, event.at, event.status)

    def used(self, event: UsageReported) -> None:
        """Consumption was reported."""
        answer = self._answers.get(event.used.response_id)
        if answer is None or event.used.discarded:
            return
        if event.used.characters:
            answer.spoken = event.used
        else:
            answer.used = event.used

    def _finish(self, answer: _AnswerSpans, at: float, status: str) -> None:
        del self._answers[answer.id]
        turn = answer.turn
        self._tell_chat(answer, at, status)
        self._tell_speech(answer, at, status)
        if status == "failed":
            turn.failed = self.category
        turn.responses.discard(answer.id)
        turn.last_at = max(turn.last_at, at)

    def _tell_chat(self, answer: _AnswerSpans, at: float, status: str) -> None:
        if answer.chat_told or not answer.asked:
            return
        answer.chat_told = True
        service = answer.model
        attributes = self._of_service(names.CHAT, service) | {names.STREAM: True, "duologue.status": status}
        attributes[names.OUTPUT_TYPE] = "speech" if service is not None and service.kind == "engine" else "text"
        if answer.turn.agent:
            attributes[names.AGENT_NAME] = answer.turn.agent
        first = [point for point in (answer.text_at, answer.audio_at) if point is not None]
        if first:
            attributes[names.FIRST_CHUNK_S] = round(max(0.0, min(first) - answer.opened_at), 6)
        attributes[names.FINISH_REASONS] = ("stop",) if status == "completed" else ("error",)
        attributes |= token_attributes(answer.used)
        if self._maker.words:
            given, item = self._conversation.ledger.get(answer.id), self._conversation.get(answer.id)
            said = given.written or given.text if given is not None else item.text if item is not None else ""
            attributes[names.OUTPUT_MESSAGES] = message("assistant", said)
        failed = self.category if status == "failed" else ""
        times, parent = (answer.opened_at, at), answer.turn.span
        self._maker.tell(
            span_name(names.CHAT, service), times, attributes, parent, kind=span_kind(service), failed=failed
        )

    def _tell_speech(self, answer: _AnswerSpans, at: float, status: str) -> None:
        voice = answer.voice
        if voice is None or answer.text_at is None:
            return
        attributes = self._of_service(names.TEXT_TO_SPEECH, voice) | {names.OUTPUT_TYPE: "speech"}
        attributes["duologue.status"] = status
        if answer.audio_at is not None:
            attributes["duologue.tts.first_audio_ms"] = round((answer.audio_at - answer.text_at) * 1000, 3)
        if (used := answer.spoken) is not None:
            attributes |= {"duologue.tts.characters": used.characters, "duologue.tts.audio_s": used.output_audio_s}
        failed = self.category if status == "failed" and answer.audio_at is None else ""
        name, times = span_name(names.TEXT_TO_SPEECH, voice), (answer.text_at, at)
        self._maker.tell(name, times, attributes, answer.turn.span, kind=span_kind(voice), failed=failed)

    def _of_service(self, operation: str, service: ServiceFacts | None) -> Attributes:
        attributes: Attributes = {names.OPERATION: operation, names.CONVERSATION_ID: self._conversation.session_id}
        attributes[names.PROVIDER] = service.provider if service is not None else "_OTHER"
        if service is not None and service.model:
            attributes[names.REQUEST_MODEL] = service.model
        return attributes


def token_attributes(used: Usage | None) -> Attributes:
    """Return the tokens of an answer as attributes."""
    if used is None:
        return {}
    counts: Attributes = {names.INPUT_TOKENS: used.input_tokens, names.OUTPUT_TOKENS: used.output_tokens}
    for name, count in (
        (names.CACHED_TOKENS, used.cached_tokens),
        (names.AUDIO_INPUT_TOKENS, used.input_audio_tokens),
        (names.AUDIO_OUTPUT_TOKENS, used.output_audio_tokens),
    ):
        if count:
            counts[name] = count
    if used.model:
        counts[names.RESPONSE_MODEL] = used.model
    return counts
