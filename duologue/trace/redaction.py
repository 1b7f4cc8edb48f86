"""`redact`: a copy of a trace without some of its content. Its chain stays valid."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import ConfigurationError
from .chain import HashChain
from .keys import Signer
from .reader import Records
from .records import NOTHING, Record, encode_part, line_of
from .store import Store

MAX_RANGES = 10_000
"""Ranges of records that one `redaction` lists. For more there are several."""


class Redaction:
    """The parts to remove from a trace. At least one of these must be given.

    `words` removes everything that is private. `caller` removes what is the caller's, `audio` all audio, `items` the
    items of the log with these ids and what was heard of them, `match` each record whose private texts match a
    regular expression. The providers' messages have words and audio of both sides: each of these removes them all.

    Raises ConfigurationError without any, and for an expression that cannot be used.
    """

    def __init__(
        self,
        *,
        words: bool = False,
        caller: bool = False,
        audio: bool = False,
        items: tuple[str, ...] = (),
        match: str = "",
    ) -> None:
        if not (words or caller or audio or items or match):
            raise ConfigurationError("nothing is to be redacted: say words, caller, audio, items or match")
        self.words, self.caller, self.audio, self.items = words, caller, audio, frozenset(items)
        try:
            self.match = re.compile(_one_form(match)) if match else None
        except re.error as error:
            raise ConfigurationError(f"{match!r} is not a regular expression: {error}") from error

    def removes(self, record: Record) -> bool:
        """Returns True if the private part of the record is to be removed."""
        if self.words or record.kind in ("wire", "handle"):
            return True
        facts: Any = record.facts if isinstance(record.facts, dict) else {}
        if self.audio and (record.kind == "audio" or _has_audio(record)):
            return True
        if self.caller and _is_callers(record, facts):
            return True
        if self.items and not self.items.isdisjoint(_ids(record, facts)):
            return True
        return self.match is not None and any(self.match.search(_one_form(text)) for text in _texts(record.private))

    def __str__(self) -> str:
        said = [name for name in ("words", "caller", "audio") if getattr(self, name)]
        said += [f"item {item}" for item in sorted(self.items)]
        return ", ".join([*said, *(["match"] if self.match is not None else [])])


def _one_form(text: str) -> str:
    """Return a text in the form NFC: a letter with a mark may be one character or two, in Hindi as in French."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _is_callers(record: Record, facts: dict[str, Any]) -> bool:
    if record.kind == "input":
        return True
    if record.kind == "item":
        return facts.get("role") == "caller"
    if record.kind == "audio":
        return facts.get("who") == "caller"
    return facts.get("event") in ("recognised", "affect_heard") or (
        facts.get("event") == "words_guarded" and facts.get("side") == "caller"
    )


def _ids(record: Record, facts: dict[str, Any]) -> set[str]:
    names = {"item": ("id", "call_id"), "heard": ("response",), "event": ("id", "utterance", "call_id")}
    return {value for name in names.get(record.kind, ()) if isinstance(value := facts.get(name), str)}


def _has_audio(record: Record) -> bool:
    private = record.private
    return record.kind == "input" and (
        isinstance(private, bytes) or (isinstance(private, dict) and not {"audio", "pcm"}.isdisjoint(private))
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in plain data."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, bytes):
            yield value.decode(errors="replace")
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


def redact(
    source: Store | str | os.PathLike[str],
    out: str | os.PathLike[str],
    redaction: Redaction,
    *,
    call: str = "",
    sign: str | os.PathLike[str] | None = None,
) -> int:
    """Write a redacted copy of a trace to the new file `out`, and return the number of records that lost content.

    The copy has a record more, which says what was redacted; with `sign`, the file of a private key, it is sealed.
    Raises BadTrace for a trace that cannot be read, ConfigurationError if `out` exists or cannot be written.
    """
    signer = Signer(sign) if sign is not None else None
    path, done = Path(out), False
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file:
            count = 0
            for line, removed in _redacted_lines(Records(source, call), redaction, signer):
                file.write(line)
                count += removed
        done = True
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        if not done:
            path.unlink(missing_ok=True)
    return count


def _redacted_lines(records: Records, redaction: Redaction, signer: Signer | None) -> Iterator[tuple[bytes, bool]]:
    removed: list[tuple[int, int]] = []
    record = None
    for record in records:
        remove = bool(record.words_salt) and redaction.removes(record)
        if remove:
            if removed and removed[-1][1] == record.seq - 1:
                removed[-1] = removed[-1][0], record.seq
            else:
                removed.append((record.seq, record.seq))
            record = replace(record, words=NOTHING, words_salt="")
        yield line_of(record), remove
    assert record is not None  # an empty file is not a trace
    chain = HashChain(record.call, record.seq, record.hash)
    what, time = str(redaction), datetime.now(UTC).isoformat(timespec="seconds")
    for first in range(0, len(removed) or 1, MAX_RANGES):
        facts = {"records": removed[first : first + MAX_RANGES], "what": what, "time": time}
        yield line_of(chain.next(record.at, "redaction", "", encode_part(facts), b"")), False
    if signer is not None:
        yield line_of(chain.next(record.at, "seal", "", msgspec.json.encode(signer.seal(chain)), b"")), False
