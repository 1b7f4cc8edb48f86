"""The vendors' SDKs are used by their public names: a private one may go with any release."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import duologue.services

FILES = sorted(Path(duologue.services.__path__[0]).rglob("*.py"))


def private_of_others(tree: ast.AST) -> list[str]:
    """Private attributes of anything but `self` and `cls`, and names of private attributes in `getattr`."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if name.startswith("_") and not name.startswith("__"):
                found.append(f"{node.lineno}: .{name}")
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]) if name[:1] == "_":
                found.append(f"{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("vendor", ["openai", "google", "deepgram", "elevenlabs"])
def test_no_private_attribute_of_an_sdk_is_used(vendor: str) -> None:
    for path in FILES:
        if path.parent.name == vendor or path.name in ("pushing.py", "websocket.py"):
            assert private_of_others(ast.parse(path.read_text())) == [], path
