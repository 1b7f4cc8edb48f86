"""`Asking`: the requests of a language model, at the end of a turn or a little before it."""

from __future__ import annotations

from collections.abc import Sequence

from ..agents.engine import Billing, EngineConfig
from ..errors import ServiceError
from ..frames import ClientChanged, EagerEndOfTurn, Interrupted, TurnResumed
from ..images.limits import DEFAULT_IMAGES, ImageLimits
from ..processors.kernel.node import Node
from ..processors.processor import handles
from .answering import DEFAULT_SPENDING, PIECES, Pieces, Spending, Spent
from .answers import Answers
from .context import DEFAULT_BUDGET, Budget, Message, Request, without_image
from .eager import Eager
from .history import History, Summary
from .service import stream_of


class Asking(Answers):
    """Makes the requests of an `LLM`, within the budget of each and of the call.

    An `EagerEndOfTurn` lets the model begin, at most `eager_starts` times in a turn of the caller. Its answer is kept
    back until the turn has ended with the same words, else it is thrown away: see `Eager`.
    """

    model: str = ""
    timeout_s: float = 20.0
    """The longest time without a piece of an answer, in seconds."""
    max_answer_s: float = 300.0
    """The longest time from a request to the end of its answer, in seconds."""
    max_answer_characters: int = 32_768
    chooses_tools: bool = False
    """True if the service obeys `Request.tool_choice`."""
    chooses_model: bool = False
    """True if the service obeys `Request.model`."""
    images: ImageLimits | None = DEFAULT_IMAGES
    """The images that the model takes; others are converted. None for a model that takes none."""
    budget: Budget = DEFAULT_BUDGET
    """The part of the conversation that each request carries."""
    summary: Summary | None = None
    """When older turns are replaced by a summary; None for never. Then they are left out beyond the budget."""
    billing: Billing = "tokens"
    spending: Spending = DEFAULT_SPENDING
    """The requests and tokens of one call."""
    eager_starts: int = 2
    """Answers that are begun in a turn of the caller before its end is certain; 0 begins none."""
    thinks_first: bool | None = None

    def generate(self, request: Request) -> Pieces:
        """Yield pieces of text, tool requests, and usage if it is known. An interruption cancels it."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._history = History(self)
        self._eager = Eager(self)
        self.spent = Spent()
        """The requests and tokens that the call has used."""

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Learn what stands between the speech-to-text, this service and the text-to-speech."""
        super().check_place(before, after)
        self._eager.place(before, after)

    async def open(self) -> None:
        """Start answering. Overriding methods call this first."""
        await super().open()
        self._eager.turn_ended()

    async def close(self) -> None:
        """Stop answering. Overriding methods call this, too."""
        self.forget_guess("the call ends")
        await super().close()

    @property
    def image_limits(self) -> ImageLimits | None:
        """The images that the model takes, None if it takes none."""
        return self.images

    def request(self, config: EngineConfig, extra: str = "", choice: str = "", guess: str = "") -> Request:
        """Return a request for an answer, with `extra` instructions and a choice of tools.

        `guess` are words of the caller that are not in the log yet. The extra instructions stand last: what stands
        before them is the same as in other requests, and providers have it in their cache.
        """
        messages = self._history.messages(guess)
        if self.images is None:  # the log may have some of another engine
            messages = tuple(map(without_image, messages))
        return Request(
            instructions=config.prompt,
            messages=(*messages, Message(role="system", text=extra)) if extra else messages,
            tools=config.tools,
            options=config.options,
            tool_choice=choice if self.chooses_tools and choice != "none" else "",
            model=config.model,
        )

    def ask(self, request: Request) -> Pieces:
        """Return the answer to a request, which counts for the call's spending."""
        self.spent.ask(self, request)
        return stream_of(self, "generate", self.generate(request), PIECES)

    def may_spend(self) -> bool:
        """Return False, and end the call, if its budget is used up."""
        if self.session.cost.exhausted:
            return False
        if not self.spent.beyond(self.spending):
            return True
        if not self.session.draining:
            self.session.report(ServiceError(f"the call's budget is used up: {self.spent}"), self.name)
            self.spawn(self.session.end, "cap")
        return False

    # -- before the turn has ended -----------------------------------------------------------------------------------

    @handles(EagerEndOfTurn)
    async def may_have_ended(self, frame: EagerEndOfTurn) -> None:
        """Begin the answer, and keep it back until the turn has ended."""
        config = await self.fresh_config()
        if not (self._leaving or self._unheard or self.session.draining or self.spent.beyond(self.spending)):
            self.look()
            self._eager.begin(frame.text, config, lambda: self.request(config, guess=frame.text))
        await self.push(frame)

    @handles(TurnResumed)
    async def resumed(self, frame: TurnResumed) -> None:
        """Throw away the answer that was begun too early."""
        self.forget_guess("the caller goes on")
        self._pictures.caller_goes_on()
        await self.push(frame)

    def forget_guess(self, why: str) -> None:
        """Throw away the answer that was begun before the end of the caller's turn, if there is one."""
        self._eager.discard(why)

    def client_changed(self, signal: ClientChanged) -> None:
        """Begin no answer for a client that has gone."""
        super().client_changed(signal)
        if self._unheard:
            self.forget_guess("the client has gone")

    def interrupted(self, signal: Interrupted) -> None:
        """Drop the jobs of interrupted turns, and the answer that was begun."""
        super().interrupted(signal)
        self.forget_guess("an interruption")

    async def drain(self) -> None:
        """Finish the responses that have begun and the `Say`s that wait, and begin no others."""
        self.forget_guess("the engine gives up the call")
        await super().drain()
