"""The tools of an MCP server: a program of its own, which this file is too.

python -m examples.mcp_tools
"""

from __future__ import annotations

import sys

import anyio

from duologue import Agent
from duologue.mcp import MCPTools
from duologue.testing import ScriptedLLM, calls, chat

STOCK = {"tent": 3, "lamp": 0}


def serve() -> None:
    """Serve the stock of a shop over stdin and stdout, with the official package."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("stock")

    @server.tool()
    def in_stock(item: str) -> str:
        """Tell how many of an item are in stock."""
        return f"{STOCK.get(item, 0)} in stock"

    @server.tool()
    def order(item: str) -> str:
        """Order an item for the caller."""
        return f"the {item} is ordered"

    server.run()


LLM = ScriptedLLM({"tent": [calls("in_stock", item="tent"), "We have three tents."]})  # in earnest: llm="openai"


async def main() -> list[str]:
    """Ask for a tent. Returns the tools that the model was offered, and the result of the one that it called."""
    stock = MCPTools("stock", command=sys.executable, args=[__file__, "serve"], deny=["order"], wait_s=60)
    shop = Agent(name="Shop", instructions="Answer from the stock.", tools=[stock])
    async with stock, chat(shop, LLM) as talk:
        reply = await talk.say("Do you have a tent?")
    print(reply.conversation)
    offered = [tool.name for tool in LLM.requests[0].tools]
    return [*offered, reply.called("in_stock", item="tent").result]


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        anyio.run(main)
