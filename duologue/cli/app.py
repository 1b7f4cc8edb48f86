"""The commands: demo, chat, mcp, talk, serve, replay, latency, doctor, prices, lab, trace."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from .guard import guarded
from .lab.commands import lab
from .trace import trace

app = typer.Typer(
    help="Real-time voice agents: pipelines of typed frames.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.add_typer(lab, name="lab")
app.add_typer(trace, name="trace")

_Profiles = Annotated[
    list[str] | None,
    typer.Option("--profile", help="A profile in JSON, for the first agent or as AGENT=FILE.", metavar="FILE"),
]
_Skills = Annotated[
    list[str] | None,
    typer.Option("--skill", help="A skill in JSON, for the first agent or as AGENT=FILE.", metavar="FILE"),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("duologue"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Real-time voice agents: pipelines of typed frames."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for the recording, the conversation and the latencies.")] = Path(
        "demo"
    ),
    virtual: Annotated[bool, typer.Option(help="Run on a virtual clock: as fast as the machine computes.")] = False,
    act: Annotated[int, typer.Option(help="Only this act: 1 on a cascade, 2 on a native engine.", min=0, max=2)] = 0,
) -> None:
    """Make a spoken call with two agents, a tool, a hand-off and a barge-in; then one on a native engine. No key."""
    from .demo import run_demo

    guarded(lambda: run_demo(out, virtual=virtual, act=act))


@app.command()
def chat(
    agents: Annotated[
        str,
        typer.Argument(
            help="An agent, a list of agents, or a function that returns one: module:object. Try "
            "duologue.cli.agents:agents.",
            metavar="MODULE:AGENTS",
        ),
    ],
    llm: Annotated[
        str, typer.Option(help="The model by its vendor's name: openai, gemini; see `duologue doctor`.")
    ] = "",
    scripted: Annotated[bool, typer.Option(help="Answer by the RULES of the module, without a key.")] = False,
    data: Annotated[str, typer.Option(help='The session\'s data as a JSON object, such as {"name": "Ann"}.')] = "",
    profile: _Profiles = None,
    skill: _Skills = None,
) -> None:
    """Chat with your agents in plain text; their tools and hand-offs are shown."""
    from .chat import run_chat

    guarded(lambda: run_chat(agents, llm, scripted=scripted, data=data, profiles=profile or (), skills=skill or ()))


@app.command()
def mcp(
    agents: Annotated[
        str, typer.Argument(help="An agent or agents, as for `duologue chat`: module:object.", metavar="MODULE:AGENTS")
    ],
    llm: Annotated[str, typer.Option(help="The model by its vendor's name, as for `duologue chat`.")] = "",
    scripted: Annotated[bool, typer.Option(help="Answer by the RULES of the module, without a key.")] = False,
    data: Annotated[str, typer.Option(help='The session\'s data as a JSON object, such as {"name": "Ann"}.')] = "",
    profile: _Profiles = None,
    skill: _Skills = None,
) -> None:
    """Offer your agents as an MCP server on stdin and stdout, for coding assistants to try them in plain text."""
    from .mcp import run_mcp

    guarded(lambda: run_mcp(agents, llm, scripted=scripted, data=data, profiles=profile or (), skills=skill or ()))


@app.command("mcp-login")
def mcp_login(
    url: Annotated[str, typer.Argument(help="The address of the MCP server.")],
    tokens: Annotated[Path, typer.Option(help="The file for `MCPTools(tokens=FILE)`.", metavar="FILE")],
    port: Annotated[int, typer.Option(help="The port of this machine to which the browser comes back.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the address in a browser.")] = True,
) -> None:
    """Sign in to an MCP server by OAuth, once, and keep its tokens in a file."""
    from .mcp_login import run_login

    guarded(lambda: run_login(url, tokens, port, browser=browser))


@app.command()
def talk(
    input_device: Annotated[str, typer.Option(help="Microphone: a name or a number; see `duologue doctor`.")] = "",
    output_device: Annotated[str, typer.Option(help="Loudspeaker: a name or a number.")] = "",
) -> None:
    """Talk to the demo's agents with your microphone."""
    from .talk import run_talk

    guarded(lambda: run_talk(input_device, output_device))


@app.command()
def latency(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Traces of recorded calls, or folders of them. Without any, ten questions are asked."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for latency.csv and latency.png.")] = Path("latency"),
    native: Annotated[bool, typer.Option(help="On a native engine, over OpenAI's protocol.")] = False,
    virtual: Annotated[bool, typer.Option(help="Run on a virtual clock: as fast as the machine computes.")] = False,
) -> None:
    """Show the latency of each answer by stages, and the stage that owns the time.

    Asks the demo's agents ten scripted questions, without a key, or reads the traces of recorded calls.
    """
    from .latency import run_latency, run_recorded

    guarded(lambda: run_recorded(files, out) if files else run_latency(out, native=native, virtual=virtual))


@app.command()
def prices(
    model: Annotated[str, typer.Option(help="Only the price of this model.")] = "",
    prices: Annotated[Path | None, typer.Option(help="A TOML file of prices that go before the package's.")] = None,
) -> None:
    """Print the prices of models and services, with their dates and sources."""
    from .prices import print_prices

    guarded(lambda: print_prices(model, prices))


@app.command()
def doctor(
    target: Annotated[str, typer.Argument(help="module:object, as for serve: print the wiring of a call.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print the installed extras, the keys that are set, and the packages that are missing."""
    from .doctor import run_doctor

    raise typer.Exit(run_doctor(target, as_json=json))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="The trace of a call, made with Trace(replay=True).", metavar="FILE")],
    since: Annotated[str, typer.Option("--from", help="Show the call from this time on, mm:ss.")] = "",
    pipeline: Annotated[
        str,
        typer.Option(
            help="The function that makes the session, as for serve; without it the one that the trace names.",
            metavar="MODULE:FUNCTION",
        ),
    ] = "",
    engine: Annotated[
        str, typer.Option(help="Another engine takes the call: openai, gemini or cascade, with a scripted provider.")
    ] = "",
    diff: Annotated[bool, typer.Option("--diff", help="Print only what is different.")] = False,
) -> None:
    """Run a recorded call again, faster than real time, and show what is different. Exits with 1 then.

    The caller, the providers and the tools are those of the recorded call: no request goes out, and no tool runs.
    """
    from .replay import run_replay

    guarded(lambda: run_replay(file, since, pipeline, engine, diff=diff))


@app.command()
def serve(
    factory: Annotated[
        str,
        typer.Argument(
            help="A function that takes a call's transport and returns its session or pipeline, or agents: "
            "module:object. Try duologue.cli.web_demo:make_session.",
            metavar="MODULE:FACTORY",
        ),
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8765,
    openai_realtime: Annotated[
        str,
        typer.Option(
            help="Serve this to clients of OpenAI's Realtime API: module:object, with agents or a function that "
            "takes the call's transport and makes its session. Try duologue.cli.agents:agents.",
            metavar="MODULE:OBJECT",
        ),
    ] = "",
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the page to talk to it.")] = True,
    controls: Annotated[
        str,
        typer.Option(help="Rights of callers beyond the conversation: all, or a list like transfer,usage."),
    ] = "",
    open_to_all: Annotated[
        bool, typer.Option("--open", "--no-auth", help="Let everybody call who reaches the port, without a key.")
    ] = False,
    allowed_origin: Annotated[
        list[str] | None, typer.Option(help="An origin of other pages that may call, like https://shop.example.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name under which clients reach this server, like voice.shop.example.")
    ] = None,
    client_may_configure: Annotated[
        bool, typer.Option(help="Let clients of OpenAI's API set the instructions and the voice.")
    ] = False,
    image_addresses: Annotated[bool, typer.Option(help="Fetch images that clients give by an address.")] = True,
    otel: Annotated[
        bool, typer.Option("--otel", help="Export spans and metrics by OTLP, as the variables OTEL_… say.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Serve the metrics for Prometheus at /metrics, for clients with the key.")
    ] = False,
    trace: Annotated[
        str, typer.Option(help="Keep a trace of each call: a folder, sqlite:///FILE or redis://HOST.", metavar="STORE")
    ] = "",
) -> None:
    """Serve your agents by WebRTC, WebSocket and a page.

    Clients must send the key in DUOLOGUE_SERVER_KEY. If it is not set, a random key is printed with the address.
    """

    def run() -> int:
        from .serve import run_serve

        return run_serve(
            factory,
            host,
            port,
            openai_realtime=openai_realtime,
            page=page,
            controls=controls,
            client_may_configure=client_may_configure,
            image_addresses=image_addresses,
            otel=otel,
            metrics=metrics,
            traces=trace,
            open_to_all=open_to_all,
            allowed_origins=allowed_origin or (),
            allowed_hosts=allowed_host or (),
        )

    guarded(run)
