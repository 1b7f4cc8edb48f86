"""The chunks of a stream of `/chat/completions` as structs, as OpenAI and compatible servers send them.

Every field may be null, absent, or of another type: then it is None. Unused fields are not kept.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ..remote.lenient import message_reader

_Count = Annotated[float, msgspec.Meta(ge=0, le=1e15)]


class _ChatFields(msgspec.Struct, frozen=True, gc=False):
    pass


class FunctionDelta(_ChatFields, frozen=True):
    """A piece of a tool call. Some servers send the arguments in one piece, as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallDelta(_ChatFields, frozen=True):
    """A piece of a tool call. Some servers leave out the index or the id."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None
    extra_content: dict[str, Any] | None = None


class ChatPart(_ChatFields, frozen=True):
    """A part of a content that is a list: text, or thoughts (Mistral)."""

    type: str | None = None
    text: str | None = None


class Delta(_ChatFields, frozen=True):
    """The news of a chunk. `reasoning_content`, `reasoning` and `thinking` are thoughts."""

    content: str | list[ChatPart] | None = None
    refusal: str | None = None
    tool_calls: list[CallDelta] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None

    @property
    def text(self) -> str:
        """The text, without thoughts."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if part.type in (None, "text"))
        return self.content or ""

    @property
    def thought(self) -> bool:
        """True if it has a thought."""
        return bool(
            self.reasoning_content
            or self.reasoning
            or self.thinking
            or (isinstance(self.content, list) and self.content)
        )


class ChatChoice(_ChatFields, frozen=True):
    """One answer. A server that does not stream has a message in the place of the delta."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class CachedTokens(_ChatFields, frozen=True):
    cached_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class ChatUsage(_ChatFields, frozen=True):
    """The tokens. `prompt_cache_hit_tokens` is DeepSeek's field."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: CachedTokens | None = None
    completion_tokens_details: CachedTokens | None = None
    prompt_cache_hit_tokens: _Count | None = None


class WireError(_ChatFields, frozen=True):
    """An error in the stream."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class Chunk(_ChatFields, frozen=True):
    """One event of the stream."""

    choices: list[ChatChoice] | None = None
    usage: ChatUsage | None = None
    model: str | None = None
    error: WireError | str | None = None


read_chunk = message_reader(Chunk, "the model server")
