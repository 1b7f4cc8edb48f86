"""`RulesLLM`: a rule-based dialogue with the interface of a language model, without a network or a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio
import msgspec

from ...frames import Usage
from ..context import SAY
from ..llm import LLM, Message, Request, ToolRequest
from .dialogue import Dialogue, Rule, Rules


class RulesLLM(LLM):
    """Answers by `Rules`, by a `RuleBook` with the rules of several agents, or by a plain list of `Rule`.

    It streams its words, one every `token_s` seconds, and calls tools. It follows the instruction to say a text word
    for word (`duologue.services.context.SAY`). Usage counts words.
    """

    model = "rules"
    billing = "none"
    images = None

    def __init__(self, rules: Dialogue | Sequence[Rule], *, token_s: float = 0.0) -> None:
        super().__init__()
        self.rules: Dialogue = Rules(rules) if isinstance(rules, Sequence) else rules
        self._token_s = token_s

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Yield the answer to the whole conversation."""
        notes = [message.text for message in request.messages[-1:] if message.role == "system"]
        _, verbatim, text = "\n".join((request.instructions, *notes)).rpartition(SAY)
        if verbatim:
            for word in self.rules.stream(text):
                yield word
            return
        conversation = [Message(role="system", text=request.instructions), *request.messages]
        reply = self.rules.reply(conversation, {tool.name for tool in request.tools})
        words = 0
        for word in self.rules.stream(reply.text):
            if words and self._token_s:
                await anyio.sleep(self._token_s)
            words += 1
            yield word
        for call in reply.calls:
            yield msgspec.structs.replace(call, arguments=msgspec.to_builtins(call.arguments))
        yield Usage(
            service=self.name,
            model=self.model,
            input_tokens=sum(len(message.text.split()) for message in conversation),
            output_tokens=words,
        )
