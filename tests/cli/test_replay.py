"""`duologue replay`."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from duologue.cli.app import app
from tests.testing.replaying.calls import recorded

MAKER = "tests.testing.replaying.calls:make_session"


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("calls"), replay=MAKER)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["replay", *arguments])
    return result.exit_code, result.output


def test_a_call_that_names_its_function_is_replayed(call: Path) -> None:
    code, text = run(str(call))
    assert code == 0, text
    assert "From ten to six." in text
    assert text.endswith("identical: the log is that of the recorded call\n")


def test_the_log_of_the_process_is_as_it_was(call: Path) -> None:
    logger = logging.getLogger("duologue")
    before = logger.level
    run(str(call))
    assert logger.level == before != logging.CRITICAL


def test_from_a_time_on(call: Path) -> None:
    code, text = run(str(call), "--from", "00:05")
    assert code == 0
    assert "when are you open" not in text
    assert "You are welcome." in text


def test_only_the_differences(call: Path) -> None:
    assert run(str(call), "--diff") == (0, "identical: the log is that of the recorded call\n")


def test_another_pipeline_is_different(call: Path) -> None:
    code, text = run(str(call), "--diff", "--pipeline", "tests.cli.test_replay:deaf")
    assert code == 1
    assert "asked otherwise" in text
    assert text.endswith("different\n")


def deaf(transport: object) -> object:
    """Make a session whose agent has another tool."""
    from duologue import Pipeline, Session
    from duologue.services.openai import OpenAIRealtime

    engine = OpenAIRealtime(api_key="test", base_url="http://127.0.0.1:9/v1")
    return Session(Pipeline([transport.input(), engine, transport.output()]))  # type: ignore[attr-defined]


def test_a_call_that_names_no_function(tmp_path: Path) -> None:
    code, text = run(str(recorded(tmp_path)))
    assert code == 2
    assert "name it by --pipeline module:function" in text


@pytest.mark.parametrize("target", ["os:sep", "nowhere:make", "tests.testing.replaying.calls:SCRIPT"])
def test_what_makes_no_session(target: str, call: Path) -> None:
    assert run(str(call), "--pipeline", target)[0] == 2


def test_what_is_not_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello\n")
    code, text = run(str(tmp_path / "file"), "--pipeline", MAKER)
    assert code == 2
    assert "not a record" in text
