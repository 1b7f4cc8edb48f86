"""Random schedules of tools, interruptions, time limits, approvals and hang-ups: each call has exactly one result."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from duologue import Cascade, Tool, Tools
from duologue.agents.tool_context import ToolContext
from duologue.errors import ToolError
from duologue.frames import ApprovalGiven, ApprovalWanted
from duologue.services.llm import Request, ToolRequest
from duologue.session.tool_calls import STILL_RUNNING
from duologue.testing import BareCall
from duologue.testing.clock import run
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.story import check

seconds = st.sampled_from([0.0, 0.5, 1.0, 3.0, 8.0])
tools = st.fixed_dictionaries(
    {
        "takes_s": seconds,
        "ends": st.sampled_from(["result", "error", "secret"]),
        "stubborn": st.booleans(),
        "timeout_s": st.sampled_from([1.0, 5.0, 20.0]),
        "cancel": st.sampled_from([None, True, False]),
        "approval": st.sampled_from([None, "yes", "no", "late", "never"]),
        "mode": st.sampled_from(["enabled", "nonblocking"]),
        "announce": st.booleans(),
        "progress": st.sampled_from([0, 1, 5]),
    }
)
STUBBORN = {"takes_s": 3.0, "ends": "result", "stubborn": True, "timeout_s": 1.0, "cancel": None, "approval": "yes"} | {
    "mode": "enabled",
    "announce": True,
    "progress": 0,
}
events = st.lists(st.tuples(st.sampled_from(["type", "interrupt"]), seconds), max_size=4)


def tool(number: int, plan: dict[str, Any]) -> Tool:
    async def work(context: ToolContext) -> str:
        for report in range(plan["progress"]):
            context.progress(f"{report} flights")
        clock = asyncio.get_running_loop().time
        until_s = clock() + plan["takes_s"]
        while (left_s := until_s - clock()) > 0:
            try:
                await asyncio.sleep(left_s)
            except asyncio.CancelledError:
                if not plan["stubborn"]:
                    raise
        if plan["ends"] == "error":
            raise ToolError("not possible")
        if plan["ends"] == "secret":
            raise ValueError("hunter2")
        return f"done {number}"

    return Tool(
        work,
        name=f"t{number}",
        timeout_s=plan["timeout_s"],
        mode=plan["mode"],
        announce=plan["announce"],
        cancel_on_interruption=plan["cancel"] if plan["mode"] == "enabled" else None,
        needs_approval=plan["approval"] is not None,
        approval_timeout_s=4.0,
    )


@settings(max_examples=60)
@given(plans=st.lists(tools, min_size=1, max_size=3), events=events, hangs_up_s=st.sampled_from([0.3, 2.0, 40.0]))
@example(  # "still running" comes after another turn: nothing is asked because of it
    plans=[STUBBORN],
    events=[("type", 0.5)],
    hangs_up_s=40.0,
)
@example(  # the first result was told in the answer to a text: nothing is asked when the second tool goes on
    plans=[STUBBORN | {"takes_s": 0.0, "stubborn": False}, STUBBORN | {"approval": None}],
    events=[("type", 0.5), ("type", 1.0)],
    hangs_up_s=2.0,
)
def test_each_call_has_one_result_in_the_log(
    plans: list[dict[str, Any]], events: list[tuple[str, float]], hangs_up_s: float
) -> None:
    requests: list[Request] = []

    def model(request: Request) -> Any:
        requests.append(request)
        if len(requests) == 1:
            return [ToolRequest(call_id=f"c{n}", name=f"t{n}", arguments={}) for n in range(len(plans))]
        return "Well."

    async def main() -> None:
        built = [tool(number, plan) for number, plan in enumerate(plans)]
        engine = Cascade(MockSTT(), MockLLM(model), MockTTS(seconds_per_sentence=0.5))
        call = BareCall.through(engine, Tools(built, filler="One moment.", filler_after_s=0.7))

        async def decide(wanted: ApprovalWanted) -> None:
            plan = plans[int(wanted.call_id[1:])]["approval"]
            if plan != "never":
                await asyncio.sleep(6.0 if plan == "late" else 1.0)
                call.session.broadcast(ApprovalGiven(call_id=wanted.call_id, approved=plan != "no", by="Ann"))

        call.session.on(ApprovalWanted, decide)
        async with call:
            await call.types("Go.")
            for event, after_s in events:
                await call.waits(after_s)
                if event == "type":
                    await call.types("And?")
                else:
                    call.session.interrupt()
            await call.waits(hangs_up_s)
            if hangs_up_s == 40.0:
                await call.types("And then?")
                await call.waits(5.0)
                assert call.session.calls.news == (), "the model knows all results"
            call.session.cancel("hung up")
            await call.over()
        items = call.session.conversation.items
        results = Counter(item.call_id for item in items if item.kind == "tool_result")
        assert results == Counter(item.call_id for item in items if item.kind == "tool_call")
        assert set(results.values()) <= {1}
        assert call.session.calls.open() == call.session.calls.late() == []
        assert not any(STILL_RUNNING in item.text for item in items)
        assert "hunter2" not in str(requests) + str([item.data for item in items])
        if hangs_up_s == 40.0:
            for item in items:
                if item.kind != "tool_result":
                    continue
                plan, result = plans[int(item.call_id[1:])], item.data
                ran = plan["approval"] in (None, "yes")
                if ran and plan["ends"] == "result" and plan["takes_s"] and plan["stubborn"]:
                    assert str(result).startswith("done") or "cancelled" in str(result), result
        for request in requests:
            check(tuple(message for message in request.messages if message.role != "system"))
            assert request.messages[-1].role != "assistant"
        await asyncio.sleep(60)

    run(main)
