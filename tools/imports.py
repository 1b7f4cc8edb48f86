"""The import graph of the package, its circles and its layers, read from the source.

    python -m tools.imports          # the circles, and the imports that break the layering
    python -m tools.imports --all    # every import as well

Imports inside functions and under `TYPE_CHECKING` count like any other.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "duologue"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("_lazy", "_arrays"),
    ("errors",),
    ("frames",),
    ("audio",),
    ("protocols",),
    ("processors.kernel",),
    ("images",),
    ("agents",),
    ("session",),
    ("processors",),
    ("trace",),
    ("services", "transports", "mcp", "telemetry"),
    ("",),
    ("web", "testing"),
    ("cli",),
)
"""The layers, from the lowest up. A module imports modules of its own entry or of lower layers.

Two entries of one layer do not import each other. "" is the package's `__init__` and the modules outside any folder.
"""

FLOORS: tuple[tuple[str, ...], ...] = (
    ("services",),
    ("services.remote",),
    ("services.fallback",),
    ("services.native",),
    (
        "services.openai",
        "services.google",
        "services.local",
        "services.elevenlabs",
        "services.assemblyai",
        "services.cartesia",
        "services.deepgram",
        "services.whisper",
        "services.piper",
    ),
)
"""The layers inside `services`: the bases, connections, groups of services, native engines, the vendors."""

Graph = dict[str, set[str]]


def modules(root: Path = ROOT / PACKAGE) -> dict[str, Path]:
    """Return all modules of the package by their dotted names. A package's name is that of its `__init__`."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = list(path.relative_to(root.parent).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def graph(found: dict[str, Path] | None = None) -> Graph:
    """Return the modules that each module imports."""
    found = found or modules()
    return {name: set(_imported(name, path, found)) for name, path in found.items()}


def _imported(name: str, path: Path, found: dict[str, Path]) -> Iterator[str]:
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in found)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                target = f"{module}.{alias.name}"
                if target in found or module in found:
                    yield target if target in found else module


def circles(imports: Graph) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for target in sorted(imports[module]):
            if target not in number:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in stack:
                lowest[module] = min(lowest[module], number[target])
        if lowest[module] == number[module]:
            place = stack.index(module)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1 or module in imports[module]:
                found.append(sorted(group))

    for module in sorted(imports):
        if module not in number:
            visit(module)
    return found


def wrong_way(imports: Graph) -> list[tuple[str, str]]:
    """Return the imports that go up, or between two entries of one layer."""
    return [
        (module, target)
        for module, targets in sorted(imports.items())
        for target in sorted(targets)
        if not (_allowed(LAYERS, module, target) and _allowed(FLOORS, module, target))
    ]


def _allowed(layers: tuple[tuple[str, ...], ...], module: str, target: str) -> bool:
    ours, theirs = _place(layers, module), _place(layers, target)
    if ours is None or theirs is None:
        return True
    return theirs[0] < ours[0] or theirs == ours


def _place(layers: tuple[tuple[str, ...], ...], module: str) -> tuple[int, str] | None:
    """Return the layer of a module, by the longest entry that its name begins with."""
    inside = module.removeprefix(PACKAGE).removeprefix(".")
    fitting = [
        (entry, layer)
        for layer, entries in enumerate(layers)
        for entry in entries
        if inside == entry or (entry and inside.startswith(entry + "."))
    ]
    if not fitting:
        return None
    entry, layer = max(fitting, key=lambda found: len(found[0]))
    return layer, entry


def main() -> None:
    """Print the circles and the wrong imports, and every import with `--all`."""
    parser = argparse.ArgumentParser(description="The import graph of the package.")
    parser.add_argument("--all", action="store_true", help="print every import")
    imports = graph()
    found, wrong = circles(imports), wrong_way(imports)
    if parser.parse_args().all:
        for module, targets in sorted(imports.items()):
            print(module, "->", ", ".join(sorted(targets)))
    for group in found:
        print(f"circle of {len(group)}:", ", ".join(group))
    for module, target in wrong:
        print("against the layers:", module, "->", target)
    print(f"{len(imports)} modules, {len(found)} circles, {len(wrong)} imports against the layers")


if __name__ == "__main__":
    main()
