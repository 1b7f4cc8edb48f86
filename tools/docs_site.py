"""The documentation's site: its first pages come from the root of the project, its reference from the docstrings.

`make docs` builds it into `artifacts/site`; any warning fails the build. MkDocs calls the two functions.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FROM_THE_ROOT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
REPOSITORY_FILES = ("duologue/", "examples/", "benchmarks/", "tests/", "tools/", "LICENSE")
"""Links to these become plain text: the site does not hold them."""

PACKAGES = (
    "duologue",
    "duologue.frames",
    "duologue.tools",
    "duologue.images",
    "duologue.web",
    "duologue.testing",
    "duologue.mcp",
    "duologue.trace",
    "duologue.telemetry",
    "duologue.services.local",
    "duologue.services.openai",
    "duologue.services.google",
    "duologue.services.deepgram",
    "duologue.services.elevenlabs",
    "duologue.services.assemblyai",
    "duologue.services.cartesia",
    "duologue.services.whisper",
    "duologue.services.piper",
    "duologue.services.remote",
    "duologue.transports",
)
"""The packages whose exported names are public: each has a page in the reference."""


def public_names(package: str) -> list[str]:
    """The names that a package exports, without those that begin with an underscore."""
    return [name for name in import_module(package).__all__ if not name.startswith("_")]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the reference to the table of contents."""
    pages = [{package: f"reference/{package}.md"} for package in PACKAGES]
    config.nav = [*(config.nav or []), {"Reference": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not files of the folder `docs`."""
    for source, page in FROM_THE_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=for_the_site(text)))
    for package in PACKAGES:
        files.append(File.generated(config, f"reference/{package}.md", content=reference(package)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to the project's files, seen from a page in the folder `docs`."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", in_the_repository, markdown)


def for_the_site(text: str) -> str:
    """A page of the project's root, with its links as the site needs them."""
    for source, page in FROM_THE_ROOT.items():
        text = text.replace(f"]({source})", f"]({page})")
    text = text.replace("](docs/", "](")
    return re.sub(r"\[([^\]]+)\]\(((?:" + "|".join(REPOSITORY_FILES) + r")[^)]*)\)", r"\1", text)


def in_the_repository(link: re.Match[str]) -> str:
    page = FROM_THE_ROOT.get(link[2])
    return f"[{link[1]}]({page})" if page else link[1]


def reference(package: str) -> str:
    """The page of a package: its own docstring, and each public name."""
    lines = [f"# {package}", ""]
    module = import_module(package)
    lines += [(module.__doc__ or "").split("\n", 1)[0], ""]
    for name in sorted(public_names(package), key=str.lower):
        value = getattr(module, name)
        home = getattr(value, "__module__", "") if hasattr(value, "__qualname__") else ""
        lines += [f"::: {home if home.startswith('duologue') else package}.{name}", ""]
    return "\n".join(lines)
