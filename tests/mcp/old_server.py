"""A server as programs of 2025 are, written without any package: it starts in no time, and shows bad manners.

`python -m tests.mcp.old_server FLAG…`
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

FLAGS = set(sys.argv[1:])
PAGE = 7
TOOLS: list[dict[str, Any]] = [{"name": f"tool_{n}", "inputSchema": {"type": "object"}} for n in range(20)]
TOOLS += [
    {"name": "user.get/all", "inputSchema": {"type": "object"}, "description": "d" * 10_000},
    {"name": "huge", "inputSchema": {"type": "object", "description": "x" * 100_000}},
    {"name": "pid", "inputSchema": {"type": "object"}},
    {"name": "plain", "inputSchema": {"properties": {"a": {"type": "string"}}, "type": "object"}},
]

NAMED = ["地図", "天気", "get order", "get.order", "x" * 90, "x" * 80, "1st", "search_tools", "get order"]
BAD: list[Any] = [
    {"name": "array", "inputSchema": {"type": "array"}},
    {"name": "no type", "inputSchema": {}},
    {"name": "nothing", "inputSchema": None},
    {"name": "missing"},
    {"name": "parts", "inputSchema": {"type": "object", "properties": [1]}},
    {"name": "needs", "inputSchema": {"type": "object", "required": "a"}},
    {"name": 5, "inputSchema": {"type": "object"}},
    {"name": "described", "inputSchema": {"type": "object"}, "description": 7},
    "not a tool",
]


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def result_of(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        server = {"name": "old", "version": "1"}
        capabilities = {"tools": {"listChanged": True}, "resources": {}}
        return {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": server}
    if method == "tools/list":
        if "endless" in FLAGS:
            return {"tools": TOOLS[:1], "nextCursor": params.get("cursor", "") + "x"}
        if "names" in FLAGS:
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in NAMED]}
        if "bad" in FLAGS:
            return {"tools": [TOOLS[7], *BAD, TOOLS[8]]}
        if "restless" in FLAGS:  # its list has changed again whenever it is read
            send({"method": "notifications/tools/list_changed"})
            time.sleep(0.1)
            return {"tools": TOOLS[7:9]}
        begin = int(params.get("cursor") or 0)
        more = {"nextCursor": str(begin + PAGE)} if begin + PAGE < len(TOOLS) else {}
        return {"tools": TOOLS[begin : begin + PAGE], **more}
    if method == "resources/list":
        number = int(params.get("cursor") or 0)
        time.sleep(0.2)
        following = "0" if "circle" in FLAGS else str(number + 1)
        return {"resources": [{"uri": f"shop://{number}", "name": "hours"}], "nextCursor": following}
    if method == "tools/call" and params["name"] == "tool_6":
        return {"content": "not a list"}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": work(params["name"])}]}
    return None


def work(name: str) -> str:
    if name == "tool_1":
        TOOLS.append({"name": "new_one", "inputSchema": {"type": "object"}})
        send({"method": "notifications/tools/list_changed"})
    if name == "tool_2":
        return "y" * 100_000
    if name == "tool_3":
        sys.stdout.write("z" * (20 * 1024 * 1024) + "\n")
    if name == "tool_4":
        for _ in range(3000):
            sys.stderr.write("I complain\n")
    return str(os.getpid()) if name == "pid" else f"{name} is done"


def main() -> None:
    if "mute" in FLAGS:
        for _ in sys.stdin:
            pass
        return
    if "slow" in FLAGS:
        time.sleep(0.5)
    if "stubborn" in FLAGS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "dies" in FLAGS:
        sys.exit("no licence: \x1b[31mbuy one\x1b[0m")
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = result_of(message["method"], message.get("params", {}))
        if result is None:
            send({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})
        else:
            send({"id": message["id"], "result": result})
    while "stubborn" in FLAGS:
        time.sleep(1)


if __name__ == "__main__":
    main()
