"""A recorded call is run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue import Session
from duologue.errors import ConfigurationError
from duologue.testing import CannotReplay, replay
from duologue.trace import BadTrace, Redaction, Trace, read, redact
from tests.testing.replaying.calls import ASKED, CHECKED, make_session, recorded


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("calls"))


def test_the_log_of_a_replay_is_that_of_the_call(call: Path, tmp_path: Path) -> None:
    again = replay(call, make_session, folder=tmp_path)
    assert again.identical, again.diff() or again.first_difference
    assert again.outcome.reason == "hung up"
    assert again.missing == []


def test_no_tool_and_no_hook_runs_in_a_replay(call: Path, tmp_path: Path) -> None:
    sessions: list[Session] = []

    def make(transport: Any) -> Session:
        sessions.append(make_session(transport))
        return sessions[0]

    assert replay(call, make, folder=tmp_path).identical
    assert (ASKED, CHECKED) == ([], [])
    assert sessions[0].data == {"asked": "Sunday"}
    assert sessions[0].playback.volume == 0.5


def test_a_changed_prompt_is_a_difference(call: Path, tmp_path: Path) -> None:
    again = replay(call, lambda transport: make_session(transport, instructions="You are curt."), folder=tmp_path)
    assert not again.identical
    assert again.first_difference is not None
    assert b"prompt_sha256" in again.first_difference[0]
    assert again.diff() == ""
    assert again.same_words


def test_a_pipeline_that_hears_nothing_differs_in_words(call: Path, tmp_path: Path) -> None:
    def make(transport: Any) -> Session:
        session = make_session(transport)
        session.set_access("muted")
        return session

    again = replay(call, make, folder=tmp_path)
    assert not again.identical


def test_a_trace_without_what_entered_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(CannotReplay, match="recorded without Trace"):
        replay(recorded(tmp_path, replay=False), make_session)


def test_a_redacted_trace_cannot_be_replayed(call: Path, tmp_path: Path) -> None:
    redact(call, tmp_path / "redacted.jsonl", Redaction(words=True))
    with pytest.raises(CannotReplay, match=r"is redacted: \d+ records of what entered"):
        replay(tmp_path / "redacted.jsonl", make_session)


def test_a_trace_that_breaks_off_is_replayed_up_to_there(call: Path, tmp_path: Path) -> None:
    lines = call.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:50])
    again = replay(cut, make_session, folder=tmp_path / "again")
    assert again.missing[0].startswith("the end: the recording breaks off after")
    assert again.outcome.reason == "the recording ends here"
    assert again.first_difference is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"hello\n", "not a record"),
        (b'{"kind":', "no whole line"),
    ],
)
def test_what_is_not_a_trace_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadTrace, match=problem):
        replay(tmp_path / "file", make_session)


def test_a_trace_of_another_version_is_refused(call: Path, tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_bytes(call.read_bytes().replace(b'"version":1', b'"version":7', 1))
    with pytest.raises(BadTrace, match="a trace of version 7: this program reads version 1"):
        replay(tmp_path / "old.jsonl", make_session)


@pytest.mark.parametrize("replay", ["shop", 1, None])
def test_an_option_of_another_type_is_refused(replay: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="replay is"):
        Trace(tmp_path, replay=replay)


def test_a_trace_without_words_cannot_be_for_replays(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be replayed"):
        Trace(tmp_path, words=False, replay=True)


def test_keys_are_not_in_a_recording(call: Path) -> None:
    assert sum(record.kind == "wire" for record in read(call)) > 20
    assert b"Bearer" not in call.read_bytes()


@pytest.mark.parametrize("engine", ["openai", "gemini", "cascade"])
def test_another_engine_takes_the_call(engine: str, call: Path, tmp_path: Path) -> None:
    again = replay(call, engine=engine, folder=tmp_path)
    assert again.outcome.error is None
    assert again.differences == []
    assert "words and tools:" not in again.diff()  # the caller has heard the same
    assert again.first_difference is not None
    records = [record.private for record in read(again.path) if record.kind == "item" and record.private]
    assert {"From ten to six.", "You are welcome."} <= {words.get("text") for words in records}
    assert ASKED == []


def test_a_replay_has_one_maker(call: Path) -> None:
    with pytest.raises(ConfigurationError, match="the name of an engine"):
        replay(call)
    with pytest.raises(ConfigurationError, match="the name of an engine"):
        replay(call, make_session, engine="openai")
    with pytest.raises(ConfigurationError, match="there is no engine 'parrot'"):
        replay(call, engine="parrot")
