"""Templates of the rule-based dialogue: "{city}", "{result[temperature]:.0f}", checked before they are used."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigurationError

_FIELD = re.compile(r"([A-Za-z]\w*)(\[[^\[\]]+\])*")
_FORMATTER = string.Formatter()


def names_in(template: object, source: str) -> list[str]:
    """Return the names that a template uses, each once, in order. Templates may be nested in lists and mappings.

    Raises ConfigurationError, beginning with `source`, for a malformed template.
    """
    names: list[str] = []
    if isinstance(template, str):
        try:
            parts = list(_FORMATTER.parse(template))
        except ValueError as error:
            raise ConfigurationError(f"{source}: {template!r}: {error}") from None
        for _, field, spec, _ in parts:
            if field is None:
                continue
            found = _FIELD.fullmatch(field)
            if not found or "{" in (spec or ""):
                raise ConfigurationError(
                    f"{source}: {template!r}: cannot use {{{field}}}, only {{name}} or {{name[key]}}"
                )
            names.append(found[1])
    elif isinstance(template, Mapping):
        names = [name for value in template.values() for name in names_in(value, source)]
    elif isinstance(template, Sequence):
        names = [name for value in template for name in names_in(value, source)]
    return list(dict.fromkeys(names))


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return the template with its fields filled in."""
    return _FORMATTER.vformat(template, (), values)


def render_value(template: object, values: Mapping[str, Any]) -> Any:
    """Return nested templates filled in. A template of a single field ("{count}") becomes the value in its own type."""
    if isinstance(template, str):
        single = re.fullmatch(r"\{([A-Za-z]\w*)\}", template)
        return values[single[1]] if single else render(template, values)
    if isinstance(template, Mapping):
        return {key: render_value(value, values) for key, value in template.items()}
    if isinstance(template, Sequence) and not isinstance(template, bytes):
        return [render_value(value, values) for value in template]
    return template
