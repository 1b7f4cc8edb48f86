"""A budget on whole calls, over native engines and a cascade: the call ends in the middle of a long answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from duologue.frames import BotAudio, ErrorRaised, Interrupted, ResponseStarted, Usage
from duologue.session.call_events import CostChanged
from duologue.session.life import Outcome
from duologue.session.prices import Price
from duologue.testing.conformance.call import Call, calling
from duologue.testing.conformance.phrases import STORY
from duologue.testing.conformance.rig import Rig
from duologue.testing.conformance.rigs.cascade import CascadeRig
from duologue.testing.conformance.rigs.google import GeminiRig
from duologue.testing.conformance.rigs.openai import OpenAIRig
from duologue.testing.conformance.scenarios.connections import reconnected
from duologue.testing.conformance.scenarios.words import LONG
from duologue.testing.scripted.server import Speak
from duologue.trace import FolderStore, Trace, read, verify

BUDGET_USD = 0.05
USD_PER_S = 0.01
"""The agent's speech. The answer costs about 0.20 USD."""
SPEECH = Price(audio_output=USD_PER_S / 20 * 1e6, output_tokens_per_s=20)
PRICES = {
    "gpt-realtime": SPEECH,
    "gpt-realtime-2.1": SPEECH,
    "gemini-3.8-live": SPEECH,
    "espeak-ng": Price(output_minute=USD_PER_S * 60 / 2),  # a sentence at a time,
}
RIGS = [OpenAIRig(), OpenAIRig(detects_turns=False), GeminiRig(), GeminiRig(detects_turns=False), CascadeRig()]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


async def told_a_story(rig: Rig, answer: list[Any], **options: Any) -> tuple[Call, CostChanged]:
    async with rig.start([answer, [Speak("Nobody asked for this.")]]) as far:
        async with calling(rig, far, ends=False, prices=PRICES, **options) as call:
            costs: list[CostChanged] = []
            call.session.feed.on(costs.append, CostChanged)  # type: ignore[arg-type]
            call.expect_error("its budget of $")
            await call.says(STORY)
            await call.over()
        asked = len(far.asked)
        await asyncio.sleep(5)
        assert len(far.asked) == asked == 1
    assert costs[-1].final
    return call, costs[-1]


def spent_at(call: Call) -> float:
    """Return the session time at which the budget was used up."""
    return next(at for at, s in call.signals if isinstance(s, ErrorRaised) and s.category == "budget")


def check_trace(folder: Path, outcome: Outcome, said: str) -> None:
    """Check that the trace of a call is whole, to its end."""
    (file,) = folder.iterdir()
    found = verify(file)
    assert (found.ok, found.ended, found.torn, found.not_written) == (True, True, False, 0)
    records = list(read(file))
    assert records[-1].kind == "end"
    assert records[-1].facts["reason"] == "budget"
    assert records[-1].facts["cost"]["usd"] == pytest.approx(outcome.cost.usd)
    assert any(record.kind == "item" and record.content.get("text") == said for record in records)


@pytest.mark.parametrize("rig", RIGS, ids=[rig.name for rig in RIGS])
async def test_a_call_ends_within_one_frame_of_its_budget(rig: Rig, tmp_path: Path) -> None:
    cascade = isinstance(rig, CascadeRig)
    usd_per_s, text = (USD_PER_S / 2, " ".join([LONG] * 4)) if cascade else (USD_PER_S, f"{LONG} {LONG}")
    trace = Trace(FolderStore(tmp_path))
    call, final = await told_a_story(rig, [Speak(text, pace=1.0)], budget_usd=BUDGET_USD, trace=trace)
    outcome, at = call.outcome, spent_at(call)
    assert outcome is not None
    assert outcome.reason == "budget"
    assert [signal.reason for signal in call.came(Interrupted)][-1:] == ["budget"]
    # Nothing of the agent's goes on after the frame that has used it up.
    frames = [(when, frame) for when, frame in call.probe.frames if isinstance(frame, BotAudio)]
    assert frames
    assert all(when <= at for when, _ in frames)
    assert final.at == pytest.approx(at, abs=0.001)
    assert final.cost == outcome.cost
    longest_s = max(frame.duration_s for _, frame in frames)
    assert BUDGET_USD <= outcome.cost.usd <= BUDGET_USD + usd_per_s * (longest_s + 0.02)
    # What was said until then is in the log, and in the account.
    (said,) = [item for item in call.session.conversation if item.role == "agent" and item.kind == "message"]
    assert said.status == "interrupted"
    assert LONG.startswith(said.text[:20])
    assert len(call.came(ResponseStarted)) == 1
    assert sum(one.output_audio_s for one in call.came(Usage)) == pytest.approx(BUDGET_USD / usd_per_s, abs=0.5)
    check_trace(tmp_path, outcome, said.text)


@pytest.mark.parametrize("rig", [OpenAIRig(), GeminiRig(), CascadeRig()], ids=lambda rig: rig.name)
async def test_what_the_vendor_reports_takes_the_place_of_the_estimate(rig: Rig) -> None:
    async with rig.start([[Speak("It is sunny.")]]) as far, calling(rig, far, prices=PRICES, budget_usd=1) as call:
        await call.says(STORY)
        await call.hears()
    assert call.outcome is not None
    assert call.outcome.reason != "budget"
    assert not any(one.estimated for one in call.came(Usage))
    assert call.outcome.cost.estimated_usd == 0
    assert call.outcome.cost.usd > 0


@pytest.mark.parametrize("rig", [OpenAIRig(), GeminiRig()], ids=lambda rig: rig.name)
async def test_a_lost_connection_ends_the_leg_and_loses_no_cost(rig: Rig) -> None:
    script = [[Speak(f"{LONG} {LONG}", pace=1.0)], [Speak("The end.")], [Speak("It is sunny.")]]
    async with rig.start(script) as far, calling(rig, far, prices=PRICES) as call:
        cost = call.session.cost
        await call.says(STORY)
        await call.agent_begins()
        await call.waits(2.0)
        before_usd, estimated_usd, reported = cost.usd, cost.estimated_usd, len(call.came(Usage))
        assert 0 < estimated_usd <= before_usd
        await far.drop(1011)
        await reconnected(call)
        # What the lost connection has not reported counts as estimated, and the next leg begins at nothing.
        lost = call.came(Usage)[reported]
        assert lost.estimated
        assert lost.output_audio_s == pytest.approx(estimated_usd / USD_PER_S, abs=0.3)
        assert cost.usd >= before_usd
        assert cost.leg_usd < cost.usd
        await call.hears()
        ended_usd = cost.usd
        assert ended_usd > before_usd
    assert call.outcome is not None
    assert call.outcome.cost.usd == pytest.approx(ended_usd, abs=0.02)
    assert call.outcome.cost.leg_usd < call.outcome.cost.usd
    told = sum((call.session.cost.prices.cost(one) or 0.0) for one in call.came(Usage))
    assert call.outcome.cost.usd == pytest.approx(told)
