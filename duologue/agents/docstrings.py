"""The descriptions in docstrings, in the styles of Google, NumPy and Sphinx."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_GOOGLE_HEADER = re.compile(r"(?:Args|Arguments|Parameters|Params|Keyword Args|Keyword Arguments):\s*")
_NUMPY_HEADER = re.compile(r"(?:Other )?Parameters\s*")
_UNDERLINE = re.compile(r"-{3,}\s*")
_GOOGLE_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\(.*?\))?\s*:(?:\s+(.*))?$")
_NUMPY_ENTRY = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_SPHINX_ENTRY = re.compile(r":param(?:eter)?\s+(?:[^:]*[\s*])?(\w+)\s*:\s*(.*)$")
_FIELD = re.compile(r":\w+[^:]*:")
_SECTION = re.compile(r"[A-Z]\w*(?: \w+)?:\s*")


def summary(documentation: str) -> str:
    """Return the first paragraph of a docstring as one line."""
    lines: list[str] = []
    for line in documentation.strip().splitlines():
        if not line.strip() or _FIELD.match(line) or _UNDERLINE.fullmatch(line):
            break
        if lines and _SECTION.fullmatch(line):
            break
        lines.append(line.strip())
    return " ".join(lines)


def parameter_descriptions(documentation: str) -> dict[str, str]:
    """Return the description of each parameter that a docstring describes, as one line each."""
    lines = documentation.expandtabs().splitlines()
    found: dict[str, str] = {}
    for at, line in enumerate(lines):
        stripped = line.strip()
        if _GOOGLE_HEADER.fullmatch(stripped):
            found |= _entries(_body(lines[at + 1 :], _indent(line) + 1), _GOOGLE_ENTRY)
        elif _NUMPY_HEADER.fullmatch(stripped) and at + 1 < len(lines) and _UNDERLINE.fullmatch(lines[at + 1].strip()):
            found |= _entries(_body(lines[at + 2 :], _indent(line)), _NUMPY_ENTRY)
        elif entry := _SPHINX_ENTRY.match(stripped):
            rest = _body(lines[at + 1 :], _indent(line) + 1)
            found[entry[1]] = " ".join([entry[2], *" ".join(rest).split()]).strip()
    return {name: text for name, text in found.items() if text}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _body(lines: Sequence[str], indent: int) -> list[str]:
    """Return the lines of a section whose lines are indented by `indent` or more."""
    body: list[str] = []
    for at, line in enumerate(lines):
        if line.strip() and _indent(line) < indent:
            break
        if at + 1 < len(lines) and line.strip() and _UNDERLINE.fullmatch(lines[at + 1].strip()):
            break  # the header of the next section in NumPy's style
        body.append(line)
    return body


def _entries(lines: Sequence[str], pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the description of each entry of a section."""
    indent = min((_indent(line) for line in lines if line.strip()), default=0)
    names: list[str] = []
    words: list[str] = []
    for line in lines:
        entry = pattern.match(line.strip()) if line.strip() and _indent(line) == indent else None
        if entry is None:
            words += line.split()
            continue
        yield from ((name, " ".join(words)) for name in names)
        names = [name.strip(" *") for name in entry[1].split(",")]
        words = (entry[2] or "").split() if pattern.groups > 1 else []
    yield from ((name, " ".join(words)) for name in names)
