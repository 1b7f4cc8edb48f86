"""`duologue chat`, from its outside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from typer.testing import CliRunner

from duologue.cli.app import app
from duologue.cli.profiles import with_files
from duologue.cli.target import find_agents
from duologue.services.vendors import offered
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import Speak

GENEROUS_S = 120.0
ROOT = Path(__file__).parents[2]

DEMO = "duologue.cli.agents:agents"


def chatted(*arguments: str, typed: str = "") -> tuple[int, list[str], str]:
    result = CliRunner().invoke(app, ["chat", *arguments], input=typed)
    return result.exit_code, result.stdout.splitlines(), result.stderr


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for offer in offered("llm").values():
        for key in offer.keys:
            monkeypatch.delenv(key, raising=False)


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> str:
    (tmp_path / f"{name}.py").write_text("from duologue import Agent, ToolError\n" + text)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_piped_chat_with_the_demos_agents() -> None:
    lines = "my order number is 4567\n\nI have a question about my bill\n"
    done = subprocess.run(
        [sys.executable, "-m", "duologue", "chat", DEMO, "--scripted"],
        input=lines,
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "RulesLLM answers. Ctrl-D or Ctrl-C ends the chat.",
        "Reception: Hello, this is the corner shop. How can I help you?",
        "you: my order number is 4567",
        '  get_order(order=4567) -> {"status":"on its way","arrival":"tomorrow"}',
        "Reception: Order 4567 is on its way and arrives tomorrow. Anything else?",
        "you: I have a question about my bill",
        "  Reception hands over to Billing: The caller asks about a bill.",
        "Reception: One moment, I put you through to billing.",
        "Billing: Hello, you are speaking with billing. What would you like to know?",
        "",
    ]


def test_an_interrupt_ends_the_chat_in_order() -> None:
    command = [sys.executable, "-m", "duologue", "chat", DEMO, "--scripted"]

    def heed_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background inherits that they are ignored

    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, preexec_fn=heed_interrupts) as chatting:
        assert chatting.stdout is not None
        assert chatting.stderr is not None
        while b"How can I help you?" not in (line := chatting.stdout.readline()):
            assert line
        chatting.send_signal(signal.SIGINT)
        assert chatting.wait(GENEROUS_S) == 0
        assert chatting.stderr.read() == b""


def test_a_long_line_without_an_end_is_read_in_pieces() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "duologue", "chat", DEMO, "--scripted"],
        input="goodbye" + " " * 20_000 + "hello",
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=True,
    )
    assert "you: goodbye" in done.stdout
    assert "you: hello" in done.stdout


def test_errors_are_shown_and_the_chat_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
from duologue.testing import calls
def fail() -> str:
    raise ToolError("the system is down")
desk = Agent(name="Desk", instructions="The guest is {name}.", greeting="Hello {name}.", tools=[fail])
RULES = {"go": [calls("fail"), "Sorry."], "break": [calls("fail")]}
"""
    name = module(tmp_path, monkeypatch, "shop_one", text)
    status, lines, _ = chatted(f"{name}:desk", "--data", '{"name": "Ann"}', typed="go\nbreak it\nwhat")
    assert status == 0
    assert lines[1:6] == [
        "Desk: Hello Ann.",
        "you: go",
        '  fail() -> {"error":"the system is down"}',
        "Desk: Sorry.",
        "  error: tool 'fail': ToolError: the system is down",
    ]
    assert lines[-2:] == ["Desk: (no rule fits)", ""]


def test_the_call_ends_with_the_agents_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
from duologue.testing import calls
async def hang_up(session) -> str:
    await session.end("the agent hangs up")
    return "ok"
desks = [Agent(name="Desk", tools=[hang_up])]
RULES = {"bye": [calls("hang_up"), "Goodbye."]}
"""
    status, lines, _ = chatted(f"{module(tmp_path, monkeypatch, 'shop_two', text)}:desks", typed="bye\nhello?\n")
    assert (status, lines[-1]) == (0, "The call ended: the agent hangs up.")
    assert "you: hello?" not in lines


@pytest.mark.real_clock
async def test_a_vendors_model_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedOpenAIHTTP([[Speak("It is Monday.")]]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        command = [sys.executable, "-m", "duologue", "chat", DEMO, "--llm", "openai"]
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        async with asyncio.timeout(GENEROUS_S):
            printed, _ = await process.communicate(b"which day is it\n")
    assert printed.decode().splitlines()[0].startswith("OpenAILLM answers.")
    assert "Reception: It is Monday." in printed.decode().splitlines()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nonsense", "--scripted"], "'nonsense' names nothing: write module:object"),
        (["no_such_module:agents"], "there is no module 'no_such_module'"),
        (["duologue.cli.agents:nobody"], "module 'duologue.cli.agents' has no 'nobody'"),
        (
            ["duologue.cli.agents:ORDERS"],
            "duologue.cli.agents:ORDERS is dict: an agent, or a list of agents",
        ),
        ([DEMO, "--llm", "nobody"], "there is no llm 'nobody'"),
        ([DEMO, "--llm", "openai", "--scripted"], "--scripted needs no model: leave --llm out"),
        ([DEMO, "--data", "[1]"], "--data is list: an object such as"),
        ([DEMO, "--data", "{"], "--data is not JSON"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments: list[str], error: str) -> None:
    status, _, told = chatted(*arguments)
    assert status == 2
    assert error in told
    assert "Traceback" not in told


def test_without_a_model_the_keys_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = module(tmp_path, monkeypatch, "shop_three", 'desk = Agent(name="Desk")')
    status, _, told = chatted(f"{name}:desk")
    assert status == 2
    assert "no model can answer: set one of OPENAI_API_KEY" in told
    status, _, told = chatted(f"{name}:desk", "--scripted")
    assert "has no RULES to answer by" in told


GREETER = """
def agents():
    print("loaded")
    return Agent(name="Ann", instructions="Help.", greeting="Grüß Gott ☃")

RULES = {"hello": "日本, café"}
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_cannot_show_all_characters_shows_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    target = module(tmp_path, monkeypatch, "greeter", GREETER)
    done = subprocess.run(
        [sys.executable, "-m", "duologue", "chat", f"{target}:agents", "--scripted"],
        input=b"hello\n",
        capture_output=True,
        timeout=GENEROUS_S,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    words = "Ann: ??, caf?" if encoding == "ascii" else "Ann: ??, café"
    assert words in done.stdout.decode(encoding)


def test_a_chat_whose_input_is_closed_ends() -> None:
    command = f'"{sys.executable}" -m duologue chat {DEMO} --scripted <&-'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=GENEROUS_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Reception: Hello, this is the corner shop." in done.stdout


PROFILED = """
def refund(order: int) -> str:
    "Refund an order."
    return "done"

def find_table(guests: int) -> str:
    "Find a table."
    return "a table by the window"

host = Agent(name="Host", instructions="Be kind.", greeting="Welcome.", tools=[find_table])
agents = [host, Agent(name="Till", instructions="Count.", greeting="The till.")]
RULES = {"refund": "No rule."}
"""


def test_profiles_and_skills_in_json_change_the_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = module(tmp_path, monkeypatch, "profiled", PROFILED)
    calm, refunds, till = tmp_path / "calm.json", tmp_path / "refunds.json", tmp_path / "till.json"
    calm.write_text('{"instructions": "Be calm.", "greeting": "Grüß Gott.", "tools": {"find_table": false}}')
    refunds.write_text('{"name": "refunds", "instructions": "Ask first.", "tools": ["refund", "find_table"]}')
    till.write_text('{"instructions": "Count twice."}')
    found = with_files(find_agents(f"{place}:agents"), [str(calm), f"Till={till}"], [str(refunds)])
    host, second = found.agents
    assert (host.instructions, second.instructions) == ("Be calm.\n\nAsk first.", "Count twice.")
    assert [tool.name for tool in host.toolset] == ["refund", "find_table"]

    code, lines, errors = chatted(f"{place}:agents", "--scripted", "--profile", str(calm), typed="")
    assert (code, lines[1], errors) == (0, "Host: Grüß Gott.", "")


@pytest.mark.parametrize(
    ("option", "text", "problem"),
    [
        ("--profile", "{", "is not JSON"),
        ("--profile", "", "is not JSON"),
        ("--profile", '{"instruction": "x"}', "there is no field 'instruction': did you mean 'instructions'?"),
        ("--profile", '{"colour": "#12"}', "colour"),
        ("--profile", '{"tools": ["refund"]}', "tools: Expected `object`, got `array`"),
        ("--profile", '{"tools": {"fly": false}}', "the tool 'fly' on or off: agent 'Host' has find_table"),
        ("--profile", "[]", "Expected `object`"),
        ("--profile", None, "No such file"),
        ("--skill", '{"name": "x", "tools": ["fly"]}', "needs the tool 'fly'"),
        ("--skill", '{"instructions": "x"}', "name"),
        ("--skill", None, "No such file"),
    ],
)
@pytest.mark.parametrize("command", ["chat", "mcp"])
def test_a_profile_or_skill_that_does_not_fit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: str, text: str | None, problem: str
) -> None:
    place, file = module(tmp_path, monkeypatch, "profiled", PROFILED), tmp_path / "wrong.json"
    if text is not None:
        file.write_text(text)
    result = CliRunner().invoke(app, [command, f"{place}:agents", "--scripted", option, str(file)])
    assert result.exit_code == 2
    assert str(file) in result.stderr
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_a_profile_for_an_agent_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = module(tmp_path, monkeypatch, "profiled", PROFILED)
    code, _, errors = chatted(f"{place}:agents", "--scripted", "--profile", "Hots=calm.json")
    assert code == 2
    assert "is for the agent 'Hots': there are Host, Till" in errors
