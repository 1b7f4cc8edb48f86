"""The services that the lab measures, by their names on the command line: `Entry`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any, Literal

from ...errors import ConfigurationError, check_installed
from ...services.vendors import Offer, find, offered

Kind = Literal["stt", "tts"]
LOCAL: dict[str, str] = {"stt": "sphinx", "tts": "espeak"}
"""The services that "local" means: they need no key, no model and no network."""
TRANSCRIPT_S, INTERIM_S, FIRST_AUDIO_S = 0.1, 0.3, 0.08
"""The times of the scripted servers: to a transcript, between interim texts, and to the first audio, in seconds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A service as it was named: "deepgram", or with a model (or a voice, or a file) "openai:whisper-1".

    Of a file or a folder, `name` has the last part only.
    """

    name: str
    offer: Offer
    argument: str = ""

    @property
    def is_free(self) -> bool:
        """True for a service in this process."""
        return not self.offer.keys

    def make(self, **given: Any) -> Any:
        """Return a service. Raises ConfigurationError, and MissingExtra without its extra."""
        kind = self.offer.load()
        if not self.argument:
            return kind(**given)
        parameters = inspect.signature(kind).parameters
        if "model" in parameters or "voice" in parameters:
            return kind(self.argument, **given)
        if "options" in parameters:
            options = _options(kind)
            names = {field.name for field in fields(options)}
            name = next((name for name in ("model", "voice") if name in names), "")
            if name:
                return kind(options=options(**{name: self.argument}), **given)
        raise ConfigurationError(f"{self.offer.name} takes no model: name it without {self.argument!r}")


def _options(kind: type[Any]) -> type[Any]:
    """Return the type of a service's options."""
    hint = typing.get_type_hints(kind.__init__)["options"]
    return next(part for part in typing.get_args(hint) if part is not type(None))  # type: ignore[no-any-return]


def named_services(kind: Kind, names: str, *, scripted: bool = False) -> list[Entry]:
    """Return the services of a list such as "deepgram,local".

    Raises ConfigurationError for an empty list, for a service that is unknown or named twice, for a missing key or
    model (unless `scripted`), and with `scripted` for a vendor without a scripted server.
    """
    found: dict[str, Entry] = {}
    for name in filter(None, map(str.strip, names.split(","))):
        short, _, argument = name.partition(":")
        offer = find(kind, LOCAL[kind] if short == "local" else short)
        label = f"{short}:{PurePath(argument).name}" if offer.needs and argument else name
        entry = Entry(label, offer, argument)
        if label in found:
            raise ConfigurationError(f"{label} is named twice")
        found[label] = entry
        _check_usable(kind, entry, scripted)
    if not found:
        raise ConfigurationError(f"name one service or more: {', '.join(['local', *offered(kind)])}")
    return list(found.values())


def _check_usable(kind: Kind, entry: Entry, scripted: bool) -> None:
    offer = entry.offer
    if offer.needs and not entry.argument:
        raise ConfigurationError(f"{offer.name} needs {offer.needs}, behind a colon: {offer.name}:…")
    if scripted and offer.keys:
        if offer.name not in _servers(kind):
            raise ConfigurationError(f"no scripted server plays {offer.name}: {', '.join(_servers(kind))}")
    elif offer.keys and not offer.key:
        raise ConfigurationError(f"{offer.name} needs a key: set {' or '.join(offer.keys)}, or try --scripted")


def _servers(kind: Kind) -> dict[str, Any]:
    check_installed("testing", "h11", "websockets", "cryptography")
    from ...testing.scripted.vendors import EARS, MOUTHS

    return {**EARS} if kind == "stt" else {**MOUTHS}


@asynccontextmanager
async def served(kind: Kind, entry: Entry, transcripts: Sequence[str], scripted: bool) -> AsyncIterator[dict[str, Any]]:
    """Run the scripted server of a vendor. Yields the arguments with which the service reaches it."""
    if entry.offer.name == "sphinx":
        yield {"accept_threshold": 0.0}  # its doubtful words count, too
        return
    if not scripted or entry.is_free:
        yield {}
        return
    from ...testing.scripted.openai_api import ScriptedOpenAIHTTP
    from ...testing.scripted.vendors import KEY, Delays, Ear

    server = _servers(kind)[entry.offer.name]
    if kind == "stt":
        delays = Delays(transcript_s=TRANSCRIPT_S)
        playing = server(Ear(transcripts=transcripts, so_far=None, interim_s=INTERIM_S, delays=delays, manners=None))
    else:
        playing = server()
        if isinstance(playing, ScriptedOpenAIHTTP):
            playing.speech.first_byte_s = FIRST_AUDIO_S
        else:
            playing.behaviour.first_audio_s = FIRST_AUDIO_S
    async with playing:
        yield {"api_key": KEY, "base_url": playing.url}
