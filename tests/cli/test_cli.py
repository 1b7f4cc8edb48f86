"""The `duologue` command, from its outside."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import duologue.cli
from duologue import Cascade, Endpointing, Pipeline, Vad
from duologue.cli.app import app
from duologue.cli.doctor import EXTRAS, run_doctor
from duologue.errors import IncompatiblePackage
from duologue.services.vendors import OFFERS
from duologue.testing import MockLLM, MockSTT, MockTTS
from duologue.transports import MemoryTransport

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
MISSING = "realtime.connect(websocket_connection_options=…)"


def examined(target: str = "") -> tuple[int, list[str]]:
    lines: list[str] = []
    return run_doctor(target, show=lines.append), lines


def test_doctor_says_that_an_offline_call_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    status, lines = examined()
    assert status == 0
    text = "\n".join(lines)
    assert "an offline call: ready" in text
    assert "pocketsphinx" in text
    assert "OPENAI_API_KEY: set" in lines
    assert "sk-secret-value" not in text


def test_doctor_names_a_missing_extra_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    status, lines = examined()
    assert status == 1
    (line,) = [line for line in lines if "pocketsphinx" in line]
    assert line.endswith("missing: pip install 'duologue[local]'")
    assert "an offline call: not ready" in lines


def test_doctor_says_whether_each_sdk_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise IncompatiblePackage("openai", MISSING, "openai")

    monkeypatch.setattr("duologue.services.openai.wire.check_sdk", refuse)
    status, lines = examined()
    assert status == 0
    assert "google.genai: ok" in lines
    assert "aiortc: ok" in lines
    assert "deepgram: ok" in lines
    (line,) = [line for line in lines if line.startswith("openai: ")]
    assert line == f"openai: openai {version('openai')} has no {MISSING}: pip install 'duologue[openai]'"


def test_doctor_knows_every_extra_and_its_packages() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra in project.keys() - {"demo", "dev", "docs", "models"}:
        listed = {re.split(r"[<>=\[;]", one)[0] for one in project[extra]} - {"duologue", "uvloop"}
        assert listed <= set(EXTRAS[extra][1].values()), extra


def test_doctor_lists_every_service_and_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    for offer in OFFERS:
        for key in offer.keys:
            monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("DEEPGRAM_API_KEY", "dg-secret")
    monkeypatch.setenv("GEMINI_API_KEY", "gm-secret")
    monkeypatch.setitem(sys.modules, "elevenlabs", None)
    status, lines = examined()
    assert status == 0
    told = [line.split(maxsplit=2) for line in lines if line.startswith(("stt ", "llm ", "tts ", "engine "))]
    states = {(kind, name): state for kind, name, state in told}
    assert list(states) == [(offer.kind, offer.name) for offer in OFFERS]
    assert states["stt", "deepgram"] == states["llm", "gemini"] == states["stt", "sphinx"] == "ready"
    assert states["llm", "openai"] == "missing: set OPENAI_API_KEY"
    assert states["tts", "elevenlabs"] == "missing: pip install 'duologue[elevenlabs]'; set ELEVENLABS_API_KEY"
    assert states["tts", "piper"] == "ready, with the file of a voice"
    assert "secret" not in "\n".join(lines)


def test_doctor_lists_the_services_as_json_without_the_values_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    output = CliRunner().invoke(app, ["doctor", "--json"]).output
    assert "sk-secret-value" not in output
    services = {(one["kind"], one["name"]): one for one in json.loads(output)["services"]}
    assert services["llm", "openai"] == {
        "kind": "llm",
        "name": "openai",
        "class": "duologue.services.openai.OpenAILLM",
        "extra": "openai",
        "installed": True,
        "keys": ["OPENAI_API_KEY"],
        "key": "OPENAI_API_KEY",
        "needs": None,
    }


def sound(transport: MemoryTransport) -> Pipeline:
    return Pipeline([transport.input(), Vad(), Endpointing(), Cascade(MockSTT(), MockLLM(), MockTTS())])


def miswired(transport: MemoryTransport) -> Pipeline:
    return Pipeline([transport.input(), Endpointing(), Cascade(MockSTT(), MockLLM(), MockTTS())])


def test_doctor_shows_the_settings_of_turn_taking() -> None:
    _, lines = examined()
    shown = "\n".join(lines)
    assert "the settings of turn-taking by default:" in shown
    assert "endpointing: by_words=True, quick_ms=" in shown


def test_doctor_shows_the_wiring_of_a_call() -> None:
    status, lines = examined(f"{__name__}:sound")
    assert status == 0
    wiring = lines[lines.index("the wiring of a call:") + 1 :]
    assert wiring[:3] == ["Pipeline", "  TransportInput", "  Vad"]
    assert wiring[-1] == "    MockTTS"


def test_doctor_names_the_mend_of_a_miswired_call() -> None:
    status, lines = examined(f"{__name__}:miswired")
    assert status == 1
    assert lines[-1] == (
        "no call can be made: ConfigurationError: Endpointing gets no SpeechStarted frames: put Vad before it"
    )


def test_doctor_speaks_json() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", f"{__name__}:sound"])
    report = json.loads(result.output)
    assert report["ready"] is True
    assert report["wiring"].startswith("Pipeline\n  TransportInput\n")


def test_doctor_needs_no_extra() -> None:
    code = "import sys; sys.modules.update(typer=None, rich=None); import duologue.cli; duologue.cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "doctor"], capture_output=True, text=True, check=False)
    assert "an offline call: ready" in done.stdout
    assert done.returncode == 0


def test_the_version_can_be_asked_for() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == version("duologue")


def test_talk_without_sound_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ModuleType("sounddevice")

    def query(*args: object, **options: object) -> None:
        raise OSError("PortAudio library not found")

    monkeypatch.setitem(sys.modules, "sounddevice", None if False else broken)
    monkeypatch.setattr(broken, "query_devices", query, raising=False)
    monkeypatch.setattr(broken, "check_input_settings", query, raising=False)
    monkeypatch.setattr(broken, "PortAudioError", OSError, raising=False)
    result = CliRunner().invoke(app, ["talk"])
    assert result.exit_code == 2
    assert "Error" in result.output


def test_without_its_extra_the_command_says_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as stopped:
        duologue.cli.main()
    assert "pip install 'duologue[cli]'" in str(stopped.value)


def test_without_a_command_the_help_is_shown() -> None:
    result = CliRunner().invoke(app, [])
    for command in ("demo", "talk", "doctor"):
        assert command in result.output
