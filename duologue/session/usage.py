"""The consumption of a call."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..frames import Usage

_AMOUNTS = tuple(name for name in Usage.__struct_fields__ if name.endswith(("_tokens", "_s")) or name == "characters")


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
        self.by_service[key] = add_usage(total, usage)


def add_usage(total: Usage, more: Usage) -> Usage:
    """Return `total` with the amounts of `more` added: all that are counted, in tokens, characters and seconds."""
    return msgspec.structs.replace(total, **{name: getattr(total, name) + getattr(more, name) for name in _AMOUNTS})
