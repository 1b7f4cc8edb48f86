"""A server of the official package, for tests: `python -m tests.mcp.server stdio` or `… http PORT`."""

from __future__ import annotations

import base64
import os
import signal
import sys
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

server = MCPServer("shop", instructions="Knows the orders of a shop.")
CALLS = 0


@server.tool()
def get_order(order: int) -> str:
    """Look up where an order is."""
    return f"order {order} is on its way"


@server.tool()
def price(item: str) -> dict[str, float]:
    """Tell the price of an item."""
    return {"euros": 12.5}


@server.tool()
def fails(how: str) -> str:
    """Fail."""
    raise ToolError(f"the database is locked:\n  {how}")


@server.tool(structured_output=False)
def picture() -> list[object]:
    """Show a picture of the shop."""
    return ["The shop from outside.", Image(data=PNG, format="png")]


@server.tool(structured_output=False)
def drawing() -> list[object]:
    """Show a drawing that no model can read."""
    return [Image(data=b"<svg/>", format="svg+xml")]


@server.tool()
async def crash() -> str:
    """End the process in the middle of a call."""
    print("out of memory", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool()
async def never() -> str:
    """Never answer."""
    await anyio.sleep_forever()
    return "never"


def note() -> None:
    Path(os.environ["CANCELLED"]).write_text("cancelled")


@server.tool()
async def wait(context: Context) -> str:
    """Tell that the wait has begun, and never answer. A cancellation is noted in a file."""
    try:
        await context.report_progress(1, 2, "the wait has begun")
        await anyio.sleep_forever()
    finally:
        note()
    return "never"


@server.tool()
async def slow_count(context: Context) -> str:
    """Count slowly, and tell of the progress."""
    for number in range(3):
        await context.report_progress(number, 3, f"counted to {number}")
    return "counted"


@server.tool()
async def learn(context: Context, trick: str) -> str:
    """Learn a new trick."""

    def perform() -> str:
        return f"{trick}!"

    server.add_tool(perform, name=trick, description=f"The trick {trick}.")
    await context.notify_tools_changed()
    await context.session.send_tool_list_changed()
    return f"learnt {trick}"


@server.tool()
def pid() -> int:
    """Tell the id of the process."""
    return os.getpid()


@server.prompt()
def manners(style: str) -> str:
    """How to talk."""
    return f"Talk {style}."


@server.resource("shop://hours")
def hours() -> str:
    """The opening hours."""
    return "Open from nine to six."


def many(count: int) -> None:
    for number in range(count):

        def tool(value: str) -> str:
            return f"set {value}"

        server.add_tool(tool, name=f"set_register_{number}", description=f"Set register number {number} of the pump.")
    server.add_tool(lambda account: f"{account} is locked now", name="lock_account", description="Lock a bank account.")


if __name__ == "__main__":
    if "--many" in sys.argv:
        many(200)
    if "--rubbish" in sys.argv:
        print("Starting the server …", flush=True)
        print("{}", flush=True)
        os.write(1, b"\xff\xfe" * 1000 + b"\n")
        print("loaded 3 modules", file=sys.stderr, flush=True)
    if sys.argv[1] == "http":
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run()
