"""JSON schemas as the subset of OpenAPI 3.0 that Gemini's `Schema` knows.

The SDK's own `types.Schema.from_json_schema` (google-genai 3.6) refuses `const` and `exclusiveMinimum`, and drops the
choices of `oneOf`.
"""

from __future__ import annotations

from typing import Any

_KEYWORDS = """
    description title format default nullable pattern minimum maximum minLength maxLength minItems maxItems
    minProperties maxProperties required
"""
_KEPT_KEYWORDS = frozenset(_KEYWORDS.split())


def openapi(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema in OpenAPI's terms.

    References are replaced by their targets, and keywords that OpenAPI lacks are left out. A schema inside itself
    becomes any object.
    """
    return _converted(schema, schema.get("$defs", {}), frozenset())


def _converted(schema: Any, definitions: dict[str, Any], inside: frozenset[str]) -> dict[str, Any]:
    """Convert one schema. `inside` has the references whose targets contain it."""
    if not isinstance(schema, dict):
        return {}
    if isinstance(reference := schema.get("$ref"), str):
        if reference in inside:
            return {"type": "OBJECT"}
        target = _converted(definitions.get(reference.rpartition("/")[2]), definitions, inside | {reference})
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        return {**target, **_converted(rest, definitions, inside)}
    found = {name: value for name, value in schema.items() if name in _KEPT_KEYWORDS}
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    if values and all(isinstance(value, str) for value in values):
        found["enum"] = values
    kinds = schema.get("type", [])
    kinds = [{"type": kind} for kind in (kinds if isinstance(kinds, list) else [kinds])]
    either = schema.get("anyOf", schema.get("oneOf", kinds if len(kinds) > 1 else []))
    if len(kinds) == 1:
        found["type"] = str(kinds[0]["type"]).upper()
    if either:
        real = [_converted(part, definitions, inside) for part in either if part != {"type": "null"}]
        if len(real) < len(either):
            found["nullable"] = True
        found.update(real[0] if len(real) == 1 else {"anyOf": real})
    if isinstance(properties := schema.get("properties"), dict):
        found["properties"] = {name: _converted(part, definitions, inside) for name, part in properties.items()}
    if "items" in schema:
        found["items"] = _converted(schema["items"], definitions, inside)
    return found
