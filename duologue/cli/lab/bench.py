"""`Lab`: the part that both benches share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import anyio
from rich.console import Console

from ...frames import Usage
from ...session.prices import Prices
from ...testing.clock import run as run_virtual
from .services import Entry, Kind, named_services


class Lab(ABC):
    """A bench for the services of one kind. Raises DuologueError for bad input, before anything is measured."""

    kind: ClassVar[Kind]

    def __init__(self, services: str, *, language: str, scripted: bool, prices: Path | None, out: Path) -> None:
        self.language, self.scripted, self.out = language, scripted, out
        self.entries = named_services(self.kind, services, scripted=scripted)
        self.prices = Prices.of(prices)
        self.console = Console(markup=False, highlight=False)  # a transcript may have brackets

    def run(self, *, virtual: bool = False) -> int:
        """Measure, and show the results. Returns the exit status: 0, or 1 if a service failed everywhere."""
        (run_virtual if virtual else anyio.run)(self.measure)
        return self.show()

    @abstractmethod
    async def measure(self) -> None:
        """Measure all services, one after the other."""

    @abstractmethod
    def show(self) -> int:
        """Show the results and write the files. Returns the exit status."""

    def usd(self, entry: Entry, model: str, audio_s: float, characters: int = 0) -> float | None:
        """Return the price of this much work; 0 in this process, None if the model's price is not known."""
        if entry.is_free:
            return 0.0
        price = self.prices.find(model)
        if price is None:
            return None
        if self.kind == "tts":
            return price.of(Usage(service=model, output_audio_s=audio_s, characters=characters))
        tokens = round(audio_s * price.input_tokens_per_s)
        return price.of(
            Usage(
                service=model,
                input_tokens=tokens,
                input_audio_tokens=tokens,
                input_audio_s=audio_s,
                connection_s=audio_s,
            )
        )

    def unpriced(self, models: dict[str, float | None]) -> None:
        """Name the models whose price is not known."""
        if unknown := sorted(model for model, usd in models.items() if usd is None):
            self.console.print(f"No price is known of {', '.join(unknown)}: give it with --prices FILE.")
