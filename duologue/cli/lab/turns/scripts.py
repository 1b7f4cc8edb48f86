"""The lines of the callers: turns with their pauses, backchannels, interruptions, and words for others in the room.

`callers/dev` is for tuning, `callers/held_out` for reports. A set has a file for each language. In a turn "[700]" is a
pause of 700 ms and "~um" a filler. A turn has one of these kinds:

statement, question, number (read out), spelling, filler, open (pauses in an open clause), goes_on (a sentence that
looks complete, and goes on), answer (short), prose (read out), hesitation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from ....errors import BadInput

SETS = ("dev", "held-out")
LANGUAGES = ("en", "es", "de", "hi")
KINDS = ("statement", "question", "number", "spelling", "filler", "open", "goes_on", "answer", "prose", "hesitation")
Section = Literal["turns", "backchannels", "interruptions", "asides"]
_PAUSE = re.compile(r"\s*\[(\d+)\]\s*")


@dataclass(frozen=True, slots=True)
class ScriptTurn:
    """A turn of the caller: its parts, with a pause in milliseconds between each two of them."""

    kind: str
    agent: str
    """The agent's words before it."""
    parts: tuple[str, ...]
    pauses_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """The lines of the callers of one language."""

    language: str
    turns: tuple[ScriptTurn, ...]
    backchannels: tuple[str, ...]
    """Said while the agent speaks, to show attention."""
    interruptions: tuple[str, ...]
    """Said while the agent speaks, to stop it."""
    asides: tuple[str, ...]
    """Said to others in the room."""


@lru_cache
def read_script(which: str, language: str) -> Script:
    """Return the script of a set in a language. Raises BadInput for one that there is not."""
    if which not in SETS or language not in LANGUAGES:
        raise BadInput(f"there is no script {which!r} in {language!r}: the sets are {SETS}, the languages {LANGUAGES}")
    path = Path(__file__).parent / "callers" / which.replace("-", "_") / f"{language}.txt"
    return parse_script(language, path.read_text(encoding="utf-8"))


def parse_script(language: str, text: str) -> Script:
    """Return the script in a text. Raises BadInput, with the line, for one that is malformed."""
    found: dict[str, list[str]] = {name: [] for name in get_args(Section)}
    section = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]") and not line[1:-1].isdigit():
            section = found.get(line[1:-1])
        elif line and not line.startswith("#"):
            if section is None:
                raise BadInput(f"a line outside the sections {', '.join(found)}: {line}")
            section.append(line)
    return Script(
        language,
        tuple(map(_parsed_turn, found["turns"])),
        tuple(found["backchannels"]),
        tuple(found["interruptions"]),
        tuple(found["asides"]),
    )


def _parsed_turn(line: str) -> ScriptTurn:
    fields = [field.strip() for field in line.split("|")]
    if len(fields) != 3 or fields[0] not in KINDS or not all(fields):
        raise BadInput(f"a turn is 'kind | the agent's words | the turn', its kind one of {', '.join(KINDS)}: {line}")
    pieces = _PAUSE.split(fields[2])
    parts, pauses = tuple(pieces[::2]), tuple(map(int, pieces[1::2]))
    if not all(parts):
        raise BadInput(f"a pause stands between words: {line}")
    return ScriptTurn(fields[0], fields[1], parts, pauses)
