"""The demo's call, on the virtual clock: real speech both ways, decoder threads and all."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from duologue.audio.wav import read_wav
from duologue.cli.demo import Demo, run_demo
from duologue.frames import SessionStarted
from duologue.services.cascade import Cascade
from duologue.testing import clock
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files and the log of one run."""
    out = tmp_path_factory.mktemp("demo")
    assert run_demo(out, virtual=True, act=1) == 0
    return out


def rows_of(call: Path, kind: str) -> list[dict[str, Any]]:
    log = json.loads((call / "conversation.json").read_text())
    return [row for row in log["conversation"] if row["type"] == kind]


def test_the_call_has_turns_a_tool_a_hand_off_and_a_barge_in(call: Path) -> None:
    said = [row["message"] for row in rows_of(call, "message") if row["role"] == "caller"]
    assert said == [
        "where is my order",
        "four five six seven",
        "what are your opening hours",
        "thank you that is enough",
        "i have a question about my bill",
        "how much do i owe",
        "can i pay next week",
        "thank you goodbye",
    ]
    by_tool = [row for row in rows_of(call, "tool_call") if row["metadata"]["name"] == "get_order"]
    assert [row["metadata"]["data"] for row in by_tool] == [{"order": 4567}]
    (handoff,) = rows_of(call, "handoff")
    assert handoff["metadata"]["data"]["source"] == "Reception"
    assert handoff["metadata"]["data"]["target"] == "Billing"
    assert handoff["metadata"]["data"]["reason"] == "The caller asks about a bill."
    assert "question about my bill" in handoff["metadata"]["data"]["summary"]


def test_every_call_of_a_tool_has_its_result(call: Path) -> None:
    calls = [row["metadata"]["call_id"] for row in rows_of(call, "tool_call")]
    results = [row["metadata"]["call_id"] for row in rows_of(call, "tool_result")]
    assert sorted(calls) == sorted(results)
    assert len(calls) == 2


def test_of_the_interrupted_answer_only_what_was_heard_is_kept(call: Path) -> None:
    (cut,) = [row for row in rows_of(call, "message") if row["metadata"]["status"] == "interrupted"]
    assert cut["message"].startswith("We are open from Monday to Friday")
    assert "December" not in cut["message"]


def test_times_and_roles_are_in_order(call: Path) -> None:
    messages = rows_of(call, "message")
    assert {row["role"] for row in messages} == {"caller", "agent"}
    assert all(row["metadata"]["ended_at"] >= row["timestamp"] for row in messages)
    starts = [row["timestamp"] for row in messages if row["role"] == "caller"]
    assert starts == sorted(starts)


def test_the_latencies_are_written(call: Path) -> None:
    header, *turns = (call / "latency.csv").read_text().splitlines()
    assert header == (
        "turn,speech_end_s,endpointing_ms,transcript_ms,tool_ms,first_token_ms,first_audio_ms,transport_ms,total_ms,"
        "owner,call"
    )
    assert len(turns) >= 6
    assert (call / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_the_recording_is_stereo_and_as_long_as_the_call(call: Path) -> None:
    wav = read_wav(call / "call.wav")
    assert (wav.sample_rate, wav.channels) == (16_000, 2)
    last = max(row["metadata"].get("ended_at", 0.0) for row in rows_of(call, "message"))
    assert len(wav.pcm) / 4 / 16_000 >= last - 0.1


def test_three_runs_are_the_same_to_the_byte(call: Path, tmp_path: Path) -> None:
    for run in ("second", "third"):
        assert run_demo(tmp_path / run, virtual=True, act=1) == 0
        for name in ("conversation.json", "call.wav", "latency.csv"):
            assert (tmp_path / run / name).read_bytes() == (call / name).read_bytes(), name


def test_the_second_act_is_the_same_call_on_a_native_engine_with_two_swaps(call: Path, tmp_path: Path) -> None:
    assert run_demo(tmp_path, virtual=True, act=2) == 0
    native = tmp_path / "native"
    said = [[row["message"] for row in rows_of(act, "message") if row["role"] == "caller"] for act in (call, native)]
    assert said[0] == said[1]
    swaps = [row["metadata"]["data"] for row in rows_of(native, "handoff")]
    assert [(swap["source"], swap["target"], swap["engine"]) for swap in swaps] == [
        ("Reception", "Reception", "cascade"),
        ("Reception", "Reception", "native"),
        ("Reception", "Billing", "native"),
    ]
    answers = [[row["message"] for row in rows_of(act, "message") if row["role"] == "agent"] for act in (call, native)]
    assert answers[0][-3:] == answers[1][-3:]
    calls = [row["metadata"]["call_id"] for row in rows_of(native, "tool_call")]
    assert calls == [row["metadata"]["call_id"] for row in rows_of(native, "tool_result")]


def test_a_hold_of_a_slow_client_is_not_taken_for_a_barge_in(tmp_path: Path) -> None:
    async def make_holds() -> list[float]:
        demo = Demo(tmp_path, Console(quiet=True), Cascade(MockSTT(), MockLLM(), MockTTS()))
        started = asyncio.Event()
        demo.session.on(SessionStarted, lambda signal: started.set())
        running = asyncio.create_task(demo.session.run())
        await started.wait()
        for owner in ("slow client", "caller"):
            await asyncio.sleep(1.0)
            demo.session.floor.hold(owner, patience_s=None).release()
        demo.session.cancel()
        await running
        return demo.silenced_at

    assert clock.run(make_holds) == pytest.approx([2.0], abs=0.1)
