"""`duologue chat`: a conversation with agents in a terminal, in plain text."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import StringIO
from threading import Thread
from typing import Any

import anyio
from rich.console import Console

from ..errors import ConfigurationError, DeadlineExceeded
from ..services.llm import LLM
from ..services.local.dialogue import RuleBook, Rules
from ..services.local.llm import RulesLLM
from ..services.vendors import find, offered
from ..session.call_events import MessageChanged, Noted, ToolChanged
from ..testing.chatting import Chat, chat
from ..testing.reply import transcript
from ..testing.scripted_llm import ScriptedLLM
from .profiles import with_files
from .target import find_agents

MAX_LINE = 16_384
"""Bytes of a typed line. The rest of it is the next line."""
PROMPT = "you: "


def run_chat(
    target: str,
    llm: str = "",
    *,
    scripted: bool = False,
    data: str = "",
    profiles: Sequence[str] = (),
    skills: Sequence[str] = (),
) -> int:
    """Chat with the agents at "module:object" until the end of the input, Ctrl-C, or the end of the call.

    `llm` is the name of a vendor's model. A `scripted` chat, without a key and a network, is answered by the `RULES`
    of the module. Without both, the first vendor with a key answers, else the rules. `data` is the session's data, a
    JSON object; `profiles` and `skills` are JSON files, see `with_files`. Returns the exit code. Raises
    ConfigurationError if nothing can answer, BadInput for a malformed file, and the error that ends the call.
    """
    found = with_files(find_agents(target), profiles, skills)
    model = model_for(target, llm, found.rules, scripted=scripted)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    talk = chat(found.agents, model, flow=found.flow, data=session_data(data), may_fail=True)
    console.print(f"{model.name} answers. Ctrl-D or Ctrl-C ends the chat.", style="dim")
    try:
        return anyio.run(_converse, talk, console)
    except KeyboardInterrupt:
        console.print()
        return 0


async def _converse(talk: Chat, console: Console) -> int:
    printer = _Printer(talk, console)
    typed = _Keyboard()
    async with talk:
        printer.end(talk.greeting.errors)
        while not talk.is_over:
            line = await typed.line()
            if line is None:
                console.print()
                break
            if not (text := line.strip()):
                continue
            if not typed.terminal:
                console.print(PROMPT + text)
            try:
                printer.end((await talk.say(text)).errors)
            except DeadlineExceeded as error:
                console.print(str(error).partition("\n")[0], style="red")
    if talk.outcome.error is not None:
        raise talk.outcome.error
    if talk.outcome.reason != "ended":
        console.print(f"The call ended: {talk.outcome.reason}.", style="dim")
    return 0


class _Keyboard:
    """Reads lines in threads that the end of the program does not wait for."""

    def __init__(self) -> None:
        self._stdin = sys.stdin or StringIO()  # None if it is closed
        self.terminal = self._stdin.isatty()
        self._read = b""
        try:
            self._fd = self._stdin.fileno()
        except (OSError, ValueError):  # not a file
            self._fd = -1

    async def line(self) -> str | None:
        """Return the next line, None at the end. Cancelling leaves the thread behind."""
        loop = asyncio.get_running_loop()
        line: asyncio.Future[str | None] = loop.create_future()

        def give(text: str | None) -> None:
            if not line.done():
                line.set_result(text)

        def read() -> None:
            text = self._next()
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(give, text)

        Thread(target=read, name="duologue-chat", daemon=True).start()
        return await line

    def _next(self) -> str | None:
        if self.terminal:
            try:
                return input(PROMPT)
            except (EOFError, OSError, UnicodeError):
                return None
        if self._fd < 0:
            return self._stdin.readline(MAX_LINE) or None
        # Not by `sys.stdin`, whose lock a thread that is left behind would keep.
        while b"\n" not in self._read and len(self._read) < MAX_LINE and (more := os.read(self._fd, MAX_LINE)):
            self._read += more
        end = self._read.find(b"\n", 0, MAX_LINE) + 1 or MAX_LINE
        line, self._read = self._read[:end], self._read[end:]
        return line.decode(errors="replace") if line else None


class _Printer:
    """Prints the things that the agents say and do, in the order of the log, each once it is complete."""

    def __init__(self, talk: Chat, console: Console) -> None:
        self._conversation = talk.session.conversation
        self._console = console
        self._printed: set[str] = set()
        talk.session.feed.on(lambda event: self.print(), MessageChanged, ToolChanged, Noted)

    def print(self, *, all: bool = False) -> None:
        """Print the complete things up to the first that is not; `all` of them at the end of a reply."""
        items = list(self._conversation)
        results = {item.call_id: item for item in items if item.kind == "tool_result"}
        for item in items:
            shown = [item, results[item.call_id]] if item.kind == "tool_call" and item.call_id in results else [item]
            if item.id in self._printed or item.role == "caller" or item.kind == "tool_result":
                continue
            if not all and (item.status == "in_progress" or (item.kind == "tool_call" and len(shown) == 1)):
                return
            self._printed.add(item.id)
            for line in transcript(shown):
                self._console.print(line, style="dim" if line.startswith(" ") else None)

    def end(self, errors: list[str]) -> None:
        """Print the rest of a reply, and its errors."""
        self.print(all=True)
        for error in errors:
            self._console.print(f"  error: {error}", style="red")


def model_for(target: str, llm: str, rules: Any, *, scripted: bool) -> LLM:
    if llm and scripted:
        raise ConfigurationError("--scripted needs no model: leave --llm out")
    vendors = {name: offer for name, offer in offered("llm").items() if offer.key}
    if llm or (vendors and not scripted):
        model: LLM = find("llm", llm or next(iter(vendors))).load()()
        return model
    if isinstance(rules, Rules | RuleBook):
        return RulesLLM(rules)
    if isinstance(rules, Mapping):
        return ScriptedLLM(rules, otherwise="(no rule fits)")
    if scripted:
        raise ConfigurationError(
            f"the module of {target} has no RULES to answer by: a RuleBook, or ScriptedLLM's rules"
        )
    keys = ", ".join(key for offer in offered("llm").values() for key in offer.keys[:1])
    raise ConfigurationError(f"no model can answer: set one of {keys}, or give the module RULES")


def session_data(text: str) -> Any:
    if not text:
        return None
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"--data is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigurationError(f'--data is {type(data).__name__}: an object such as {{"name": "Ann"}} is needed')
    return data
