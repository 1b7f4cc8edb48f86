"""`Running`: what a service has consumed since its last report, estimated. `Clocks`: connections charged by time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Protocol

from ..frames import Signal, Usage
from .prices import Price, Prices
from .usage import add_usage

TICK_S = 1.0
"""Seconds between reports of a connection that is charged by the clock."""
CHARACTERS_PER_TOKEN = 4
"""For estimates, as in `duologue.services.context`."""
MAX_TOKENS = 10_000_000
"""The most tokens or characters of one report: beyond that it is wrong. No model's context has more."""
NO_PRICE = Price()


class Growing(Protocol):
    """The part of a meter that its estimates use."""

    prices: Prices

    def grow(self, usd: float) -> None: ...
    def close_running(self, running: Running) -> None: ...


class Running:
    """The consumption of one service since its last report, estimated while it grows.

    A call of a method costs a few multiplications: it may be made for every frame.
    """

    __slots__ = ("_again", "_meter", "_price", "_used", "model", "service", "usd")

    def __init__(self, meter: Growing, service: str, model: str, price: Price) -> None:
        self._meter, self._price = meter, price
        self.service, self.model = service, model
        self.usd = 0.0
        """The estimate in US dollars."""
        self._again: Usage | None = None  # the context that is read again
        self._used = [0.0, 0.0, 0.0, 0.0, 0.0]  # tokens read and written, seconds heard and spoken, characters

    @property
    def input_tokens_per_s(self) -> float:
        """The tokens of a second of audio that the service takes, 0 if it does not charge them."""
        return self._price.input_tokens_per_s

    def read(self, tokens: float) -> None:
        """Count tokens of text that the model reads."""
        self._used[0] += tokens
        self._grow(tokens * self._price.text_input / 1e6)

    def reads_again(self, told: Usage) -> None:
        """Count the context of the response before, as `told`: the model reads it again, cached if it can."""
        tokens, audio = told.input_tokens + told.output_tokens, told.input_audio_tokens + told.output_audio_tokens
        if tokens <= MAX_TOKENS:
            audio = min(audio, tokens)
            again = Usage(
                service=self.service,
                model=self.model,
                input_tokens=tokens,
                cached_tokens=tokens,
                input_audio_tokens=audio,
                cached_audio_tokens=audio,
            )
            self._again = again if self._again is None else add_usage(self._again, again)
            self._grow(self._price.of(again))

    def wrote(self, characters: int) -> None:
        """Count text that the model has written."""
        tokens = characters / CHARACTERS_PER_TOKEN
        self._used[1] += tokens
        self._grow(tokens * self._price.text_output / 1e6)

    def heard(self, seconds: float) -> None:
        """Count audio that the service takes."""
        self._used[2] += seconds
        price = self._price
        self._grow(seconds * (price.input_tokens_per_s * price.audio_input / 1e6 + price.input_minute / 60))

    def spoke(self, seconds: float) -> None:
        """Count audio that the service has given."""
        self._used[3] += seconds
        price = self._price
        self._grow(seconds * (price.output_tokens_per_s * price.audio_output / 1e6 + price.output_minute / 60))

    def speaks(self, characters: int) -> None:
        """Count text that the service is asked to speak."""
        self._used[4] += characters
        self._grow(characters * self._price.characters / 1e6)

    def takes_back(self, characters: int) -> None:
        """Remove text that the service does not charge, no more than was counted."""
        self.speaks(-min(characters, round(self._used[4])))

    def told(self, used: Iterable[Usage]) -> None:
        """Take what the vendor has reported in place of the estimate, for reports that are broadcast later."""
        usd = self._meter.prices.total(used)
        grown, self.usd = usd - self.usd, usd
        self._meter.grow(grown)

    def settle(self) -> None:
        """Forget the estimate: the vendor's report takes its place, at once."""
        self._meter.grow(-self.usd)
        self.usd, self._used, self._again = 0.0, [0.0, 0.0, 0.0, 0.0, 0.0], None

    def close(self) -> None:
        """Forget the estimate for good."""
        self.settle()
        self._meter.close_running(self)

    def estimate(self) -> Usage | None:
        """Return the consumption as an estimated report, None if there is none."""
        read, written, heard_s, spoken_s, characters = self._used
        if not (any(self._used) or self._again):
            return None
        heard, spoken = heard_s * self._price.input_tokens_per_s, spoken_s * self._price.output_tokens_per_s
        used = Usage(
            service=self.service,
            model=self.model,
            input_tokens=round(read) + round(heard),
            output_tokens=round(written) + round(spoken),
            input_audio_tokens=round(heard),
            output_audio_tokens=round(spoken),
            input_audio_s=heard_s,
            output_audio_s=spoken_s,
            characters=round(characters),
            estimated=True,
        )
        return used if self._again is None else add_usage(used, self._again)

    def _grow(self, usd: float) -> None:
        if usd:  # a service without a price costs no time either
            self.usd += usd
            self._meter.grow(usd)


class Clock:
    """An open connection that is charged by the clock."""

    __slots__ = ("_clocks", "model", "service", "since", "usd_per_s")

    def __init__(self, clocks: Clocks, service: str, model: str, usd_per_s: float) -> None:
        self._clocks = clocks
        self.service, self.model, self.usd_per_s = service, model, usd_per_s
        self.since = asyncio.get_running_loop().time()
        """Loop time up to which it has been reported."""

    def stop(self) -> None:
        """Report the rest: the connection is closed. Stopping it twice does nothing."""
        self._clocks.stop(self)


class Clocks:
    """Broadcasts a `Usage` for each open connection every `TICK_S` seconds, and when the budget is used up.

    `left_usd()` returns what is left of the budget.
    """

    def __init__(self, broadcast: Callable[[Signal], None], left_usd: Callable[[], float]) -> None:
        self._broadcast, self._left_usd = broadcast, left_usd
        self._open: list[Clock] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self, service: str, model: str, price: Price) -> Clock:
        """Begin to charge a connection."""
        clock = Clock(self, service, model, price.connection_minute / 60)
        if not self._closed:
            self._open.append(clock)
            self._set_timer()
        return clock

    def stop(self, clock: Clock) -> None:
        """Report the rest of a connection's time."""
        if clock in self._open:
            self._report(clock)
            self._open.remove(clock)
            self._set_timer()

    @property
    def usd(self) -> float:
        """The cost that is not reported yet."""
        if not self._open:
            return 0.0
        now = asyncio.get_running_loop().time()
        return sum((now - clock.since) * clock.usd_per_s for clock in self._open)

    def tick(self) -> None:
        """Report the time of every connection up to now."""
        for clock in tuple(self._open):
            self._report(clock)

    def close(self) -> None:
        """Report the rest, and report nothing from now on."""
        self.tick()
        self._closed = True
        self._open.clear()
        self._set_timer()

    def _report(self, clock: Clock) -> None:
        now = asyncio.get_running_loop().time()
        seconds, clock.since = now - clock.since, now
        if seconds > 0:
            self._broadcast(Usage(service=clock.service, model=clock.model, connection_s=seconds))

    def _set_timer(self) -> None:
        """Wake at the next report, or when the open connections have used up the budget."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._open:
            return
        usd_per_s = sum(clock.usd_per_s for clock in self._open)
        left_s = self._left_usd() / usd_per_s if usd_per_s else math.inf
        self._timer = asyncio.get_running_loop().call_later(min(TICK_S, max(0.001, left_s)), self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.tick()
        self._set_timer()
