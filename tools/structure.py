"""The structure of the package in figures, read from the source.

    python -m tools.structure

Prints the largest classes, the places where a fact is kept, the mechanisms by which a call is observed, and the
import paths that users type. A figure that counts names is printed with the names.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tools.imports import PACKAGE, ROOT, circles, graph, modules, wrong_way

DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
HOLD_FLAG = re.compile(r"_?(on_)?(held|hold(ing|_due|_again)?|paused?|resuming|undecided|release_timer)(_\w+)?")
IMPORTED = rf"^\s*(?:from ({PACKAGE}[\w.]*) import|import ({PACKAGE}[\w.]*))"
CALLS = re.compile(r"\w*(calls|native_results|approvals|to_continue)\w*|_?(running|due)")
OBSERVED = {
    "session.on (signals)": r"\bsession\.on\(",
    "session.observe (every push)": r"\bsession\.observe\(",
    "conversation.listen": r"\bconversation\.listen\(",
    "ledger polled": r"\bledger\.unsettled\b",
    "lists of audio listeners": r"\.(said|played)\.append\(",
    "transport.on_written": r"\.on_written\(",
    "feed": r"\bfeed\.(on|watch|listen|add)\(",
    "hooks": r"\bintercept\(",
}


class ClassFigures:
    """One class: its lines, methods, attributes, and the package's own names that it uses."""

    def __init__(self, module: str, node: ast.ClassDef, own_names: set[str]) -> None:
        self.name, self.module = node.name, module.removeprefix(PACKAGE + ".")
        self.lines = (node.end_lineno or node.lineno) - node.lineno + 1
        functions = [n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        self.methods = len(functions)
        self.public = sum(not function.name.startswith("_") for function in functions)
        self.attributes = sorted(set(_assigned(node)))
        self.own = sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & own_names - {node.name})

    def __str__(self) -> str:
        figures = f"{self.lines:>5} {self.methods:>4} ({self.public:>2}) {len(self.attributes):>4} {len(self.own):>4}"
        return f"{figures}  {self.name} ({self.module})"


def _assigned(node: ast.ClassDef) -> Iterator[str]:
    """Yield the attributes that methods assign on `self`."""
    for child in ast.walk(node):
        targets: list[ast.expr] = []
        if isinstance(child, ast.Assign):
            targets = child.targets
        elif isinstance(child, ast.AnnAssign | ast.AugAssign):
            targets = [child.target]
        for target in targets:
            for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self":
                    yield each.attr


def classes(found: dict[str, Path]) -> list[ClassFigures]:
    """Return the figures of every class of the package, the largest first."""
    figures = []
    for name, path in found.items():
        tree = ast.parse(path.read_text())
        own = {node.name for node in tree.body if isinstance(node, DEFINITIONS)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith(PACKAGE)):
                own.update(alias.asname or alias.name for alias in node.names)
        figures += [ClassFigures(name, node, own) for node in tree.body if isinstance(node, ast.ClassDef)]
    return sorted(figures, key=lambda each: -each.lines)


def defined_twice(found: dict[str, Path]) -> dict[str, list[str]]:
    """Return public names that several modules of the package define, without the test kit."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, path in found.items():
        if name.startswith(f"{PACKAGE}.testing"):
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, DEFINITIONS):
                places[node.name.lstrip("_")].append(name.removeprefix(PACKAGE + "."))
    return {name: where for name, where in sorted(places.items()) if len(set(where)) > 1}


def user_imports() -> dict[str, int]:
    """Return the paths of the package that examples, README and documents import from, with counts."""
    found: dict[str, int] = defaultdict(int)
    texts = [*(ROOT / "examples").glob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    for path in texts:
        for match in re.finditer(IMPORTED, path.read_text(), re.M):
            found[match[1] or match[2]] += 1
    return dict(sorted(found.items()))


def main() -> None:
    """Print the figures."""
    found = modules()
    imports = graph(found)
    sources = {name: path.read_text() for name, path in found.items()}
    core = {n: s for n, s in sources.items() if not n.startswith((f"{PACKAGE}.testing", f"{PACKAGE}.cli"))}
    lines = {name: source.count("\n") for name, source in sources.items()}
    print(f"modules {len(found)}, lines {sum(lines.values())}, without testing and cli {sum(lines[n] for n in core)}")
    print(f"files over 400 lines: {', '.join(f'{n} {c}' for n, c in lines.items() if c > 400) or 'none'}")
    print(f"import circles {len(circles(imports))}, imports against the layers {len(wrong_way(imports))}")
    blocks = [name for name, source in sources.items() for _ in re.finditer(r"^if TYPE_CHECKING:", source, re.M)]
    print(f"TYPE_CHECKING blocks {len(blocks)}: {', '.join(sorted(blocks))}")
    figures = classes(found)
    print("\nlines methods (public) attributes own names")
    for each in figures[:12]:
        print(each)
    print("\n", next(each for each in figures if each.name == "Session"), sep="")
    flags = [
        f"{each.name}.{attribute}"
        for each in figures
        if each.module.split(".")[0] in ("session", "transports", "processors")
        for attribute in each.attributes
        if HOLD_FLAG.fullmatch(attribute)
    ]
    print(f"\nflags for hold {len(flags)}: {', '.join(flags)}")
    calls = [
        f"{each.name}.{attribute}"
        for each in figures
        if each.module.split(".")[0] in ("session", "processors", "services", "web", "protocols")
        for attribute in each.attributes
        if CALLS.fullmatch(attribute)
    ]
    print(f"\nattributes that may hold open tool calls {len(calls)}: {', '.join(calls)}")
    watching = {n: s for n, s in core.items() if re.match(rf"{PACKAGE}\.(web|session\.(rows|row_feed|levels|feed))", n)}
    watching |= {n: s for n, s in sources.items() if n == f"{PACKAGE}.cli.view"}
    print("\nmechanisms by which web, rows and the command line observe a call:")
    for mechanism, pattern in OBSERVED.items():
        users = {n.removeprefix(PACKAGE + "."): len(re.findall(pattern, s)) for n, s in watching.items()}
        used = {n: c for n, c in users.items() if c}
        if used:
            print(f"  {mechanism}: {sum(used.values())} in {', '.join(used)}")
    twice = defined_twice(found)
    print(f"\nclasses and functions of one name in several modules {len(twice)}:")
    for name, where in twice.items():
        print(f"  {name}: {', '.join(where)}")
    paths = user_imports()
    print(f"\nimport paths in examples, README and documents {len(paths)}:")
    for name, count in paths.items():
        print(f"  {name} ({count})")


if __name__ == "__main__":
    main()
