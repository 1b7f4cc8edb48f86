"""The consumption of a call."""

from __future__ import annotations

from collections.abc import Iterator

from ..frames import Usage


class UsageTotals:
    """Sums of the `Usage` signals, one for each service and model; iterating gives the sums."""

    def __init__(self) -> None:
        self.by_service: dict[tuple[str, str], Usage] = {}

    def __iter__(self) -> Iterator[Usage]:
        return iter(self.by_service.values())

    def add(self, usage: Usage) -> None:
        """Count one report."""
        key = (usage.service, usage.model)
        total = self.by_service.get(key, Usage(service=usage.service, model=usage.model))
        self.by_service[key] = Usage(
            service=usage.service,
            model=usage.model,
            input_tokens=total.input_tokens + usage.input_tokens,
            output_tokens=total.output_tokens + usage.output_tokens,
            cached_tokens=total.cached_tokens + usage.cached_tokens,
            input_audio_tokens=total.input_audio_tokens + usage.input_audio_tokens,
            output_audio_tokens=total.output_audio_tokens + usage.output_audio_tokens,
            characters=total.characters + usage.characters,
            input_audio_s=total.input_audio_s + usage.input_audio_s,
            output_audio_s=total.output_audio_s + usage.output_audio_s,
        )
