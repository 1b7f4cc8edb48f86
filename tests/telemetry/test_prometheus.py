"""Metrics in Prometheus' text format, and the endpoint that serves them."""

from __future__ import annotations

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from duologue import Agent, Cascade, Endpointing, Handoff, Pipeline, Session, Tools, Vad
from duologue.services.context import ToolRequest
from duologue.telemetry import Telemetry
from duologue.telemetry.instruments import MAX_VALUES, BoundedLabels
from duologue.testing import Call, MockLLM, MockSTT, MockTTS
from duologue.testing.websocket import calling, serving
from duologue.transports.client import ClientTransport
from duologue.web import routes, token_auth


def samples(telemetry: Telemetry) -> dict[str, float]:
    """The samples, as their names with their labels."""
    found = {}
    for family in text_string_to_metric_families(telemetry.metrics_text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()) if value)
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def a_call(telemetry: Telemetry, tool: str = "look_up") -> Call:
    async def look_up(word: str) -> str:
        """Look a word up."""
        await anyio.sleep(0.5)
        return "It is there."

    llm = MockLLM([ToolRequest(call_id="c1", name=tool, arguments={"word": "plum"}), "It is there."])
    engine = Cascade(MockSTT(["what is it"]), llm, MockTTS())
    call = Call.through(Vad(), Endpointing(), engine, Handoff([Agent(name="Ann", tools=[look_up])]), Tools())
    telemetry.attach(call.session)
    return call


async def test_the_metrics_of_several_calls_add_up() -> None:
    telemetry = Telemetry(opentelemetry=False, prometheus=True)
    async with a_call(telemetry) as one, a_call(telemetry) as two:
        for call in (one, two):
            await call.says("what is it")
        assert samples(telemetry)["duologue_calls_active{}"] == 2
        for call in (one, two):
            await call.hears()
    telemetry.late(0.003)
    found = samples(telemetry)
    assert found["duologue_calls_active{}"] == 0
    assert found["duologue_calls_total{duologue_outcome=hung up}"] == 2
    assert found["duologue_turn_first_audio_seconds_count{}"] == 2
    assert found["duologue_turn_leg_seconds_count{duologue_leg=tool}"] == 2
    assert found["duologue_turn_leg_seconds_sum{duologue_leg=tool}"] > 0.9
    assert found["gen_ai_execute_tool_duration_seconds_count{gen_ai_tool_name=look_up}"] == 2
    chat = "gen_ai_operation_name=chat,gen_ai_provider_name=MockLLM"
    assert found[f"gen_ai_client_operation_duration_seconds_count{{{chat}}}"] == 4
    spoken = "gen_ai_operation_name=text_to_speech,gen_ai_provider_name=MockTTS"
    assert found[f"gen_ai_client_operation_duration_seconds_count{{{spoken}}}"] == 2
    assert found["duologue_loop_lateness_seconds_count{}"] == 1
    assert not any("plum" in name or one.session.id in name for name in found)


async def test_a_tool_that_a_model_has_invented_has_no_name() -> None:
    telemetry = Telemetry(opentelemetry=False, prometheus=True)
    async with a_call(telemetry, "tell_Ann_Smith_my_secret") as call:
        await call.types("hello")
        await call.settles()
    assert "Smith" not in telemetry.metrics_text().decode()
    assert "gen_ai_execute_tool_duration_seconds_count{error_type=tool,gen_ai_tool_name=other}" in samples(telemetry)


def test_the_values_of_a_label_are_bounded() -> None:
    labels = BoundedLabels()
    values = {labels.of({"model": f"model {number}"})["model"] for number in range(1_000)}
    assert len(values) == MAX_VALUES + 1
    assert "other" in values
    assert labels.of({"model": "model 1"}) == {"model": "model 1"}
    assert len(labels.of({"agent": "x" * 10_000})["agent"]) == 100


async def test_the_endpoint_asks_for_the_key_of_the_calls() -> None:
    telemetry = Telemetry(opentelemetry=False, prometheus=True)

    def make_session(transport: ClientTransport) -> Session:
        cascade = Cascade(MockSTT(), MockLLM(["A."]), MockTTS())
        return Session(Pipeline([transport.input(), cascade, transport.output()]))

    voice = routes(make_session, auth=token_auth("secret"), telemetry=telemetry)
    app = Starlette(routes=voice.routes, lifespan=voice.lifespan)
    async with serving(app) as address, httpx.AsyncClient() as client:
        url = f"http://{address}/metrics"
        assert (await client.get(url)).status_code == 401
        async with calling(f"ws://{address}/ws?token=secret"):
            with anyio.fail_after(60):
                while samples(telemetry).get("duologue_calls_active{}") != 1:
                    await anyio.sleep(0.05)
            answer = await client.get(url, headers={"Authorization": "Bearer secret"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"duologue_calls_active", "duologue_turn_first_audio_seconds"} <= names


def test_without_metrics_there_is_no_endpoint() -> None:
    for telemetry in (None, Telemetry()):
        voice = routes(telemetry=telemetry, page=False)
        assert "/metrics" not in {getattr(route, "path", "") for route in voice.routes}


async def test_the_cost_of_a_call_is_counted_once() -> None:
    telemetry = Telemetry(opentelemetry=False, prometheus=True)
    engine = Cascade(MockSTT(), MockLLM(["Hello."] * 3), MockTTS())
    call = Call.through(engine, prices={"MockLLM": {"text_input": 1_000_000.0}, "mock": {"text_input": 1_000_000.0}})
    telemetry.attach(call.session)
    async with call:
        for _ in range(3):
            await call.types("hello")
            await call.settles()
    assert samples(telemetry)["duologue_cost_usd_total{}"] == pytest.approx(call.outcome.cost.usd)
    assert call.outcome.cost.usd > 0
