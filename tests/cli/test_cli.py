"""The `duologue` command, from its outside."""

from __future__ import annotations

import sys
from importlib.metadata import version
from types import ModuleType

import pytest
from rich.console import Console
from typer.testing import CliRunner

import duologue.cli
from duologue.cli.app import app
from duologue.cli.doctor import run_doctor
from duologue.errors import IncompatiblePackage

MISSING = "realtime.connect(websocket_connection_options=…)"


def test_doctor_says_that_an_offline_call_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    assert run_doctor(console) == 0
    text = console.export_text()
    assert "an offline call: ready" in text
    assert "pocketsphinx" in text
    assert "sk-secret-value" not in text
    console.file.close()


def test_doctor_names_a_missing_extra_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    assert run_doctor(console) == 1
    text = console.export_text()
    assert "pip install 'duologue[local]'" in text
    assert "not ready" in text
    console.file.close()


def test_doctor_says_whether_each_sdk_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise IncompatiblePackage("openai", MISSING, "openai")

    monkeypatch.setattr("duologue.services.openai.wire.check_sdk", refuse)
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    assert run_doctor(console) == 0
    lines = console.export_text().splitlines()
    assert "google.genai: ok" in lines
    assert "aiortc: ok" in lines
    (line,) = [line for line in lines if line.startswith("openai: ")]
    assert line == f"openai: openai {version('openai')} has no {MISSING}: pip install 'duologue[openai]'"
    console.file.close()


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
