"""`duologue doctor`: lists the packages that are installed and fit, the missing ones, and how to get them."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

EXTRAS: dict[str, tuple[str, dict[str, str]]] = {
    "(core)": (
        "pipelines, turn-taking, WAV",
        {"anyio": "anyio", "msgspec": "msgspec", "numpy": "numpy", "soxr": "soxr", "webrtcvad": "webrtcvad-wheels"},
    ),
    "local": ("offline speech", {"pocketsphinx": "pocketsphinx", "espeakng_loader": "espeakng-loader"}),
    "remote": ("vendors' services over a WebSocket", {"websockets": "websockets"}),
    "openai": ("OpenAI Realtime", {"openai": "openai", "websockets": "websockets", "jsonschema": "jsonschema"}),
    "google": ("Gemini Live", {"google.genai": "google-genai", "websockets": "websockets", "jsonschema": "jsonschema"}),
    "web": ("duologue serve", {"starlette": "starlette", "uvicorn": "uvicorn", "websockets": "websockets"}),
    "webrtc": ("calls over WebRTC", {"aiortc": "aiortc"}),
    "testing": ("scripted providers", {"cryptography": "cryptography", "websockets": "websockets"}),
    "audio": ("microphone and loudspeaker", {"sounddevice": "sounddevice"}),
    "cli": ("this command", {"typer": "typer", "rich": "rich", "matplotlib": "matplotlib"}),
}
"""The purpose of each extra, and its modules with the distributions that contain them."""

SDKS = {
    "openai": "duologue.services.openai.wire",
    "google.genai": "duologue.services.google.wire",
    "aiortc": "duologue.transports.webrtc.peer",
}
"""Packages whose undocumented parts are used, with the modules whose `check_sdk` looks for these parts."""

KEYS = {
    "OPENAI_API_KEY": "OpenAI",
    "GOOGLE_API_KEY": "Gemini",
    "GEMINI_API_KEY": "Gemini",
    "DEEPGRAM_API_KEY": "Deepgram",
    "ELEVENLABS_API_KEY": "ElevenLabs",
}


def run_doctor(console: Console | None = None) -> int:
    """Print the report. Returns 0 if a call can be made offline, else 1."""
    console = console or Console()
    version = importlib.metadata.version("duologue")
    console.print(f"duologue {version}, Python {sys.version.split()[0]}, {sys.platform}")
    table = Table("extra", "for", "package", "installed", "how to get it")
    missing: set[str] = set()
    for extra, (purpose, modules) in EXTRAS.items():
        for module, distribution in modules.items():
            found = _is_there(module)
            if not found:
                missing.add(extra)
            name = "duologue" if extra == "(core)" else f"duologue\\[{extra}]"
            table.add_row(
                extra,
                purpose,
                distribution,
                f"[green]{importlib.metadata.version(distribution)}" if found else "[red]no",
                "" if found else f"pip install '{name}'",
            )
    console.print(table)
    for module, place in SDKS.items():
        if _is_there(module):
            console.print(f"{module}: {_fit(place)}")
    keys = Table("key", "service", "set")
    for key, service in KEYS.items():
        keys.add_row(key, service, "[green]yes" if os.environ.get(key) else "no")
    console.print(keys)
    console.print(f"sound devices: {_sound()}")
    ready = not missing & {"(core)", "local"}
    console.print("an offline call: " + ("[green]ready[/], try `duologue demo`" if ready else "[red]not ready"))
    return 0 if ready else 1


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def _fit(place: str) -> str:
    """Return "ok", or the error of the module's `check_sdk`."""
    try:
        importlib.import_module(place).check_sdk()
    except Exception as error:  # also an error of the package while it is imported
        return f"[red]{escape(str(error))}"
    return "[green]ok"


def _sound() -> str:
    try:
        import sounddevice
    except ImportError:
        return "sounddevice is not installed"
    except OSError as error:
        return f"PortAudio is missing ({error}); on Debian: apt install libportaudio2"
    try:
        devices = list(sounddevice.query_devices())
    except Exception as error:  # PortAudio raises errors of its own types
        return f"PortAudio fails: {error}"
    names = [f"{number}: {device['name']}" for number, device in enumerate(devices)]
    return "; ".join(names) or "none"
