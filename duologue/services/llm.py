"""`LLM`: the base of language-model services."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec

from ..agents.engine import EngineConfig
from ..agents.tool import Filler
from ..errors import ConfigurationError, ServiceError
from ..frames import (
    BotText,
    ClientChanged,
    EndOfTurn,
    Input,
    Interrupted,
    ResponseEnded,
    ResponseStarted,
    ResponseStatus,
    ToolCall,
    UserTranscript,
)
from ..processors.kernel.tasks import Stopped
from ..processors.processor import handles
from ..session.tool_calls import call_refused
from .answering import Answering, Aside, Pieces, fixed, without_calls
from .answers import log_caller, tool_choice_of
from .asking import Asking
from .context import Budget, Message, Request, ToolRequest, messages
from .history import Summary
from .thoughts import ThoughtsGiven
from .tool_log import MAX_CALLS_PER_TURN, log_calls, refused

__all__ = ["LLM", "Budget", "Message", "Pieces", "Request", "Summary", "ToolRequest", "messages"]


class LLM(Asking):
    """Answers the caller, in text.

    A service implements `generate`. This class logs the caller's words and every tool call with its result, begins a
    turn when the caller has finished, and gives one response at a time: pieces of text as they arrive, tool calls only
    at the end of a response that was not interrupted. When all results of a turn's calls are in, the answer goes on,
    once. A result that arrives after the turn of its call is the last message of the next request, which is made when
    nobody speaks.

    A model's thoughts, as `<think>` marks them, are neither said nor logged. Set `thinks_first` for a model that marks
    only their end: its text is held back until then. With None, models that are known to do so are found by name, and
    others once it has happened: the answer is broken off and asked for again.

    An answer without a word and without a call, and one that fails before its first word, is asked for once more, but
    not if the caller speaks meanwhile. An error with `retry_after_s` (ServiceError) says how long to wait for that. An
    answer that brings nothing for `timeout_s` seconds is given up. An answer that takes longer than `max_answer_s`
    seconds, or has more than `max_answer_characters`, is cut.

    The agent says `not_understood` when no word of the caller's speech was recognised, and `failure` when the model has
    not answered, or no service could transcribe the caller's speech. With None it says nothing.

    If the model gives nothing, and neither side speaks, for `filler_after_s` seconds, the agent says the `filler`: a
    text like "One moment, please.", or a function that returns one. It is said once in a turn, in the same response.

    A call that has used up its `spending` ends with the reason "cap".
    """

    gives = frozenset({BotText, ToolCall})
    follows = frozenset({UserTranscript})

    not_understood: str | None = "Sorry, I did not catch that."
    failure: str | None = "Sorry, something went wrong. Could you say that again?"

    filler: Filler | None = None
    filler_after_s: float = 2.0

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise ConfigurationError for an option that the service does not take. By default it takes none."""
        if options:
            raise ConfigurationError(f"{self.name} takes no options: {', '.join(sorted(options))}")

    def check_model(self, model: str) -> None:
        """Raise ConfigurationError for a model that the service cannot ask."""
        if not self.chooses_model and model not in ("", self.model):
            own = f": it has {self.model!r}" if self.model else ""
            raise ConfigurationError(f"{self.name} cannot ask the model {model!r}{own}")

    def __init__(self) -> None:
        super().__init__()
        self._answering: Answering | None = None  # the answer in progress
        self._filled = 0  # the latest turn with a filler

    def client_changed(self, signal: ClientChanged) -> None:
        """Cancel the answer in progress once the client has gone."""
        super().client_changed(signal)
        if self._unheard and self._answering is not None:
            self._answering.stop()

    def interrupted(self, signal: Interrupted) -> None:
        """Cancel the answer in progress, and drop the jobs of interrupted turns."""
        super().interrupted(signal)
        if self._answering is not None and self._answering.turn <= signal.turn:
            self._answering.stop()

    # -- the caller -------------------------------------------------------------------------------------------------

    @handles(UserTranscript)
    async def transcript(self, frame: UserTranscript) -> None:
        """Log the caller's words."""
        if frame.final and frame.text:
            backchannel = self.session.floor.dismissed
            times = {"at": frame.start_s, "ended_at": frame.end_s}
            log_caller(
                self.session,
                frame.text,
                id=frame.utterance,
                backchannel=backchannel,
                written=frame.original,
                **times,
            )
            self._said = "words"
        elif frame.final and self._said in ("", "noise"):
            self._said = "failed" if frame.failed else "noise"
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Ask for an answer, unless the turn was a backchannel."""
        said, self._said = self._said, ""
        if not self.session.floor.take_dismissed():
            self._unanswered = "words" if "words" in (said, self._unanswered) else said or self._unanswered
        self._eager.turn_ended()
        if self._unanswered:
            if self._unanswered == "words":
                self.look()
            self.queue(frame)
        else:
            self.forget_guess("no answer is wanted")
        await self.push(frame)

    # -- the agent --------------------------------------------------------------------------------------------------

    async def _not_understood(self, config: EngineConfig) -> int:
        floor, turn = self.session.floor, 0
        failed, self._unanswered = self._unanswered == "failed", ""
        text = self.failure if failed else self.not_understood
        note = "(not transcribed: the service failed)" if failed else "(not understood)"
        self.session.conversation.add("note", "caller", turn=floor.turn + 1, text=note)
        if text and floor.owner == "caller":  # while the agent speaks, it was a noise
            turn = floor.begin()
            await self._respond(turn, config, lambda: fixed(text))
        return turn

    async def _speak(self, turn: int, config: EngineConfig, text: str) -> None:
        await self._respond(turn, config, lambda: fixed(text))

    async def _answer(self, turn: int, extra: str, asked: Input) -> None:
        # The present configuration: there may have been a hand-off since the request.
        config, failure, registered = await self.fresh_config(), self.failure, self.session.calls
        news, news_count = registered.news, registered.news_count
        choice = tool_choice_of(asked)
        self._unanswered = ""
        request = self.request(config, extra, choice)
        guess = self._eager.take(request if choice != "none" else None, config)
        if guess is None and not self.may_spend():
            return
        self.session.calls.asking()
        calls = self.session.calls.asked_in(turn)
        if calls < MAX_CALLS_PER_TURN and choice != "none":

            def answer() -> Pieces:
                return (guess.pieces() if guess is not None else None) or self.ask(request)

            with guess or nullcontext():
                status = await self._respond(turn, config, answer, model=True)
        else:
            if choice != "none":
                error = f"{calls} tool calls in one turn: it goes on without tools"
                self.session.report(ServiceError(error), self.name)
            status = await self._respond(turn, config, self._without_tools(request), model=True)
        if status == "completed":
            registered.told(news, news_count)
            self._history.answered()
        elif status == "failed" and self.session.floor.caller_speaking:
            self._unanswered = "words"  # the end of the caller's turn asks for the answer
        elif status == "failed" and failure:
            await self._respond(turn, config, lambda: fixed(failure))

    def _without_tools(self, request: Request) -> Callable[[], Pieces]:
        """Return the function that asks for an answer without tool calls.

        The first time the tools stay in the request, because providers cache its beginning. If the model calls them
        nevertheless, or the server refuses that, it is asked once more without them.
        """
        bare = msgspec.structs.replace(request, tools=(), tool_choice="")
        forms = [bare]
        if self.chooses_tools and request.tools:
            forms.append(msgspec.structs.replace(request, tool_choice="none"))
        return lambda: without_calls(self.ask(forms.pop() if len(forms) > 1 else bare))

    async def aside(self, request: Request, aside: Aside) -> None:
        """Answer a request beside the call, under the same limits and hooks as any answer.

        The text goes to `aside` and its tool calls are left in `aside.calls`: nothing of it is spoken, logged or run.
        Raises Stopped after `aside.stop()`, and the error of an answer that has failed.
        """
        if not self.may_spend():
            raise ServiceError("the call's budget is used up")
        without = request.tool_choice == "none" or not request.tools
        generate = self._without_tools(request) if without else lambda: self.ask(request)
        try:
            await aside.give(generate, again=True)
        except ThoughtsGiven:
            self.thinks_first = True
            raise ServiceError("the model says its thoughts, and marks only their end") from None

    async def _respond(
        self, turn: int, config: EngineConfig, generate: Callable[[], Pieces], *, model: bool = False
    ) -> ResponseStatus:
        """Give one response between its brackets. The fence cancels it at once; it ends as interrupted then.

        An answer of the `model` that fails before its first word, or has none, is asked for once more.
        """
        session = self.session
        if turn <= session.floor.fence:
            return "interrupted"
        response_id = session.ledger.new_id()
        status: ResponseStatus = "interrupted"
        reason = ""
        session.ledger.open(response_id, turn, config.agent, drafted=True)
        if model:
            session.ledger.reach(response_id, "asked")
        await self.push(ResponseStarted(turn=turn, response_id=response_id, agent=config.agent, voice=config.voice))
        answer = self._answering = Answering(self, turn, response_id)
        if model and self.filler and turn != self._filled:
            self.spawn(answer.fill, self.filler, self.filler_after_s)
        try:
            await answer.give(generate, again=model)
            status = "completed"
            if answer.calls and turn > session.floor.fence:
                await self._call(answer, response_id, config)
        except Stopped:
            pass
        except ThoughtsGiven:
            self._answer_without_thoughts(response_id)
        except Exception as error:
            status, reason = "failed", str(error) or type(error).__name__
            session.report(ServiceError(f"no answer: {reason}"), self.name)
        finally:
            self._answering, answer.over = None, True
            self._filled = turn if answer.filled else self._filled
        if turn <= session.floor.fence or self._unheard:
            status, reason = "interrupted", ""
        if model and status == "completed":
            session.ledger.reach(response_id, "written")
        await self.push(ResponseEnded(turn=turn, response_id=response_id, status=status, reason=reason))
        return status

    def _answer_without_thoughts(self, response_id: str) -> None:
        """Break off a response that has begun with thoughts, and ask for the answer again."""
        self.thinks_first = True
        told = "the model says its thoughts, and marks only their end: from now on its text waits for that"
        self.session.report(ServiceError(told), self.name)
        self.session.ledger.withdraw(response_id)
        self.session.interrupt("thoughts")
        self._unanswered = "words"
        self.queue(EndOfTurn(at=self.session.now(), by="thoughts"))

    async def _call(self, answer: Answering, response_id: str, config: EngineConfig) -> None:
        """Log the calls, then make them, one after the other."""
        waiting: deque[ToolCall] = deque()

        async def make() -> None:
            made, beyond = log_calls(self.session, answer.turn, response_id, config.agent, answer.calls)
            waiting.extend(made)
            for result in refused(self.session, self.name, beyond, respond=True):
                self.take_result(result)
            while waiting and answer.turn > self.session.floor.fence:
                await self.push(waiting[0])
                if waiting and answer.turn > self.session.floor.fence:
                    waiting.popleft()

        try:
            await answer.work("calls").run(make())
        finally:
            for call in waiting:  # interrupted before they were made, or on the way to their runner
                self.take_result(call_refused(call, "cancelled: the caller interrupted", respond=False))
            waiting.clear()
