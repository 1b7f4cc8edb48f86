"""`RulesLLM`: a rule-based dialogue behind the interface of a language model. No network, no key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio
import msgspec

from ...frames import Usage
from ..context import SAY
from ..llm import LLM, Message, Request, ToolRequest
from .dialogue import Dialogue, Rule, Rules


class RulesLLM(LLM):
    """Answers by rules: give `Rules`, a `RuleBook` with the rules of several agents, or a plain list of `Rule`.

    Told to say a text word for word (`duologue.services.context.SAY`) it does that.
    Streams its answer word by word, one each `token_s` seconds, and calls tools, as a model does. Usage counts words.
    """

    model = "rules"

    def __init__(self, rules: Dialogue | Sequence[Rule], *, token_s: float = 0.0) -> None:
        super().__init__()
        self.rules: Dialogue = Rules(rules) if isinstance(rules, Sequence) else rules
        self._token_s = token_s

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Work the answer out from the whole conversation, and stream it."""
        _, verbatim, text = request.instructions.rpartition(SAY)
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
