"""The prices of models: a dated table with its sources, `prices.json`, which a file of the user's can replace."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ...errors import BadInput


class ModelPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a model: US dollars for a minute of audio, or for 1,000 characters of text."""

    model: str
    usd: Annotated[float, msgspec.Meta(ge=0)]
    per: Literal["minute", "1000 characters"]
    as_of: str = ""
    """The day on which the source was read, as 2026-11-30."""
    source: str = ""

    def of(self, audio_s: float, characters: int) -> float:
        """Return the price in US dollars of this much audio, or this many characters."""
        return self.usd * (audio_s / 60 if self.per == "minute" else characters / 1000)


def read_prices(path: Path | None = None) -> dict[str, ModelPrice]:
    """Return the prices by model: those of the package, replaced by those of the file. Raises BadInput for the file."""
    decoder = msgspec.json.Decoder(list[ModelPrice])
    found = decoder.decode(files(__package__).joinpath("prices.json").read_bytes())
    if path is not None:
        try:
            found += decoder.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeError) as error:
            raise BadInput(f"{path} is not a list of prices: {error}") from error
    return {price.model: price for price in found}
