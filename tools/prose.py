"""Lists words in docstrings, comments and documents that make them hard to read.

    python -m tools.prose                # the counts
    python -m tools.prose --lines        # and the lines

The rule: subject, verb, unit; a term of the glossary; no "so", "such", "who", "what" as a noun; "Returns …" and not
"Whether …". A hit is a place to check, not a fault.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tools.imports import ROOT

WORDS = {
    "is no": r"(?<![Tt]here )\b(is|are|was|were|be) no\b(?! (longer|more))",
    "so long": r"\bso (long|often|many|much|far|few)\b",
    "such": r"\bsuch\b(?! as)",
    "whoever": r"\b[Ww]hoever\b|\b[Ww]homever\b",
    "Who as a noun": r"(?:^|[.;:] )Who\b",
    "What as a noun": r"(?:^|[.;:] )What\b(?![^.]*\?)",
    "is told": r"\b(is|are|was|were|be|been) told\b",
    "Whether": r"(?:^|[.;:] )Whether\b",
    "all that": r"\ball that\b",
    "he or she": r"\b(he|she|his|hers|him|himself)\b",
    "ones": r"\bones\b",
}


def texts(root: Path = ROOT) -> Iterator[tuple[str, int, str]]:
    """Yield (path, line, text) of the docstrings and comments of the package and the lines of the documents."""
    for path in sorted((root / "duologue").rglob("*.py")):
        name = str(path.relative_to(root))
        source = path.read_text()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield name, token.start[0], token.string.lstrip("# ")
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                for number, line in enumerate(node.value.value.splitlines()):
                    yield name, node.lineno + number, line.strip()
    for path in sorted([*(root / "docs").rglob("*.md"), root / "README.md", root / "CONTRIBUTING.md"]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield str(path.relative_to(root)), number, line


def main() -> None:
    """Print the counts, and the lines with `--lines`."""
    parser = argparse.ArgumentParser(description="Words of the old prose.")
    parser.add_argument("--lines", action="store_true", help="print the lines")
    parser.add_argument("--under", default="", help="only paths that begin with this")
    options = parser.parse_args()
    found = [each for each in texts() if each[0].startswith(options.under)]
    for word, pattern in WORDS.items():
        hits = [(name, line, text) for name, line, text in found if re.search(pattern, text)]
        print(f"{word}: {len(hits)}")
        for name, line, text in hits if options.lines else ():
            print(f"    {name}:{line}: {text}")


if __name__ == "__main__":
    main()
