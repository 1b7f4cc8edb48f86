"""A pipeline that cannot be linked is refused before any frame flows, and the message names the culprit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duologue import processors, session
from duologue.errors import ConfigurationError
from duologue.frames import BotText, Configure, End, Frame, Idle, Input, Interrupted, Output, UserText
from duologue.processors import Processor, handles
from duologue.processors.kernel.groups import Group
from tests.session.calls import Relay, Slow

# The errors here are errors of types as well: the type checker is not asked.
Tee: Any = processors.Tee
Pipeline: Any = processors.Pipeline
Session: Any = session.Session
Switch: Any = processors.Switch
declared: Any = handles


class Named(Processor):
    """Has a name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name


def refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


# -- where processors stand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Pipeline([p, Relay(), p]),
        lambda p: Pipeline([Pipeline([p]), Pipeline([Pipeline([p])])]),
        lambda p: Pipeline([Tee([p]), p]),
        lambda p: Switch({"a": p, "b": p}),
        lambda p: Pipeline([p, Tee([Relay(), Switch({"a": Pipeline([p])})])]),
    ],
)
def test_a_processor_stands_in_one_place(make: Callable[[Processor], Any]) -> None:
    refused(lambda: make(Named("the ear")), "the ear is used twice; make one instance for each place")


def test_a_pipeline_stands_in_one_place_too() -> None:
    inner = Pipeline([Relay()])
    refused(lambda: Pipeline([inner, inner]), "Pipeline is used twice")


def test_a_circle_is_shown_with_its_members() -> None:
    class Loop(Processor, Group):
        inside: Processor

        @property
        def children(self) -> tuple[Processor, ...]:
            return (self.inside,)

    loop = Loop()
    loop.inside = loop
    refused(lambda: Pipeline([loop]), "a cycle: Pipeline > Loop > Loop")


def test_a_processor_belongs_to_one_session() -> None:
    used = Named("the voice")
    Session(Pipeline([used]))
    refused(lambda: Session(Pipeline([Relay(), used])), "the voice already belongs to a session; make a new instance")
    pipeline = Pipeline([Relay()])
    Session(pipeline)
    refused(lambda: Session(pipeline), "Pipeline already belongs to a session")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pipeline(["ear"]), "'ear' is not a processor"),
        (lambda: Pipeline([Relay]), "<class .*Relay'> is not a processor"),
        (lambda: Pipeline([Relay(), None]), "None is not a processor"),
        (lambda: Pipeline(Relay()), "Pipeline takes a list of processors, not Relay"),
        (lambda: Pipeline(None), "Pipeline takes a list of processors, not None"),
        (lambda: Tee([Relay(), "mouth"]), "'mouth' is not a processor"),
        (lambda: Tee(7), "Pipeline takes a list of processors, not 7"),
        (lambda: Switch({"a": [Relay()]}), "is not a processor"),
        (lambda: Switch([Relay()]), r"Switch takes branches by name, not \[Relay\]"),
        (lambda: Session([Relay()]), "is not a processor"),
        (lambda: Session(None), "None is not a processor"),
    ],
)
def test_what_is_no_processor_is_refused(make: Callable[[], Any], message: str) -> None:
    refused(make, message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Switch({}), "Switch needs at least one branch"),
        (lambda: Switch({"a": Relay(), "b": Relay()}, active="c"), "Switch has no branch 'c'; it has a, b"),
    ],
)
def test_a_fork_needs_its_branches(make: Callable[[], Any], message: str) -> None:
    refused(make, message)


def test_a_refused_session_leaves_its_processors_free() -> None:
    good = Relay()
    refused(lambda: Session(Pipeline([good, Slow(capacity=0)])), "Slow: a lane's capacity must be at least 1, not 0")
    Session(Pipeline([good]))


# -- handlers ----------------------------------------------------------------------------------------------------------


def test_a_handler_takes_exactly_one_frame() -> None:
    class NoFrame(Processor):
        @handles(UserText)
        async def take(self) -> None: ...

    class TwoFrames(Processor):
        @handles(UserText)
        async def take(self, frame: UserText, other: UserText) -> None: ...

    class Unfillable(Processor):
        @handles(UserText)
        async def take(self, frame: UserText, *, volume: float) -> None: ...

    class Fine(Processor):
        @handles(UserText)
        async def take(self, frame: UserText, volume: float = 1.0, *, pan: float = 0.0) -> None: ...

    refused(lambda: Pipeline([NoFrame()]), r"NoFrame.take must take exactly one frame")
    refused(lambda: Pipeline([TwoFrames()]), r"TwoFrames.take must take exactly one frame")
    refused(lambda: Pipeline([Unfillable()]), r"Unfillable.take must take exactly one frame")
    Pipeline([Fine()])


def test_a_handler_of_what_is_no_signal_is_async() -> None:
    class Plain(Processor):
        @handles(UserText)
        def take(self, frame: UserText) -> None: ...

    class Mixed(Processor):
        @handles(Idle, UserText)
        def take(self, frame: Frame) -> None: ...

    class Fine(Processor):
        @handles(Idle, Interrupted)
        def take(self, signal: Frame) -> None: ...

    refused(lambda: Pipeline([Plain()]), r"Plain.take must be `async def`: only handlers of signals")
    refused(lambda: Pipeline([Mixed()]), r"Mixed.take must be `async def`")
    Pipeline([Fine()])


def test_the_annotation_must_fit_what_is_declared() -> None:
    class Wrong(Processor):
        @handles(UserText)
        async def take(self, frame: BotText) -> None: ...

    class TooNarrow(Processor):
        @handles(UserText, BotText)
        async def take(self, frame: UserText) -> None: ...

    class Wide(Processor):
        @handles(UserText, BotText)
        async def take(self, frame: Input | Output) -> None: ...

    class Bare(Processor):
        @handles(UserText)
        async def take(self, frame) -> None:  # type: ignore[no-untyped-def]
            ...

    class Whatever(Processor):
        @handles(UserText)
        async def take(self, frame: Any) -> None: ...

    refused(lambda: Pipeline([Wrong()]), r"Wrong.take handles UserText, but its parameter 'frame' is annotated BotText")
    refused(lambda: Pipeline([TooNarrow()]), r"TooNarrow.take handles BotText, but .* is annotated UserText")
    Pipeline([Wide(), Bare(), Whatever()])


def test_one_type_has_one_handler() -> None:
    class Torn(Processor):
        @handles(UserText)
        async def first(self, frame: UserText) -> None: ...

        @handles(UserText)
        async def second(self, frame: UserText) -> None: ...

    class TornBySignals(Processor):
        @handles(Idle)
        def first(self, signal: Idle) -> None: ...

        @handles(Idle, upstream=True)
        def second(self, signal: Idle) -> None: ...

    class Fine(Processor):
        @handles(UserText)
        async def down(self, frame: UserText) -> None: ...

        @handles(UserText, upstream=True)
        async def up(self, frame: UserText) -> None: ...

        @handles(Input)
        async def others(self, frame: Input) -> None: ...

    refused(lambda: Pipeline([Torn()]), "Torn: both first and second handle UserText")
    refused(lambda: Pipeline([TornBySignals()]), "TornBySignals: both first and second handle Idle")
    Pipeline([Fine()])


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: declared(), "at least one frame type"),
        (lambda: declared(str), "<class 'str'> is not a frame type"),
        (lambda: declared(UserText(text="a")), "is not a frame type"),
        (lambda: declared(Idle, queued=True), "Idle is a Signal and is never queued"),
        (lambda: declared(UserText, Idle, queued=True), "Idle is a Signal and is never queued"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_where_it_stands(declare: Callable[[], Any], message: str) -> None:
    refused(declare, message)


def test_a_frame_of_no_family_cannot_be_handled() -> None:
    class Homeless(Frame, frozen=True, kw_only=True):
        pass

    class Host(Processor):
        @handles(Homeless)
        async def take(self, frame: Homeless) -> None: ...

    refused(lambda: Pipeline([Host()]), "Homeless is not a frame: subclass Signal, Input, Output or Control")


def test_everything_may_be_queued() -> None:
    class All(Processor):
        @handles(Frame, queued=True)
        async def take(self, frame: Frame) -> None: ...

    class Controls(Processor):
        @handles(Configure, End, queued=True)
        async def take(self, frame: Configure | End) -> None: ...

    Session(Pipeline([All(), Controls()]))


def test_a_group_has_no_handlers_of_its_own() -> None:
    class Proud(processors.Pipeline):
        @handles(UserText)
        async def listen(self, frame: UserText) -> None: ...

    refused(lambda: Proud([Relay()]), "Proud is made of processors and cannot have handlers: put one inside it")


def test_an_idle_time_must_be_positive() -> None:
    refused(lambda: Session(Relay(), idle_s=0), "idle_s must be positive, not 0")
    refused(lambda: Session(Relay(), idle_s=-1.5), "idle_s must be positive, not -1.5")
