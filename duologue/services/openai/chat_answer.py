"""`ChatAnswer`: reads the chunks of one answer of `/chat/completions`."""

from __future__ import annotations

from ...errors import BadInput, DuologueError, ServiceError
from ...frames import Usage
from ..remote.errors import ConnectionLost, fatal, named_wait_s
from ..remote.llm import MAX_BAD_EVENTS
from .chat_calls import StreamedCalls
from .chat_wire import CachedTokens, ChatUsage, Delta, WireError, read_chunk

_NO_DELTA = Delta()


class ChatAnswer:
    """The state of one answer."""

    def __init__(self) -> None:
        self.calls = StreamedCalls()
        self.thoughts = ""
        """The thoughts that the server has shown, and the field in which it did, for servers that want them back."""
        self.thoughts_in = ""
        self.problems: list[DuologueError] = []
        """Problems that do not end the answer."""
        self._said = False
        self._finish = ""
        self._usage: ChatUsage | None = None
        self._model = ""

    def take(self, event: bytes) -> Delta:
        """Take an event, and return its news.

        Raises ConnectionLost for an error in the stream, and BadInput for the last of many malformed events.
        """
        try:
            chunk = read_chunk(event)
        except BadInput as problem:
            self.problems.append(problem)
            if len(self.problems) > MAX_BAD_EVENTS:
                raise
            return _NO_DELTA
        if chunk.error is not None:
            raise _chat_failed(chunk.error)
        self._usage = chunk.usage or self._usage
        self._model = self._model or chunk.model or ""
        if not chunk.choices or (chunk.choices[0].index or 0) != 0:
            return _NO_DELTA
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        delta = choice.delta or choice.message or _NO_DELTA
        for piece in delta.tool_calls or ():
            self.calls.take(piece)
        self._said = self._said or bool(delta.text or delta.refusal)
        for name in ("reasoning_content", "reasoning"):
            if thought := getattr(delta, name):
                self.thoughts += thought
                self.thoughts_in = name
        return delta

    def end(self, *, complete: bool, limit: int | None) -> None:
        """End the answer. Problems of a part of it are added to `problems`. `limit` is the option for its tokens.

        Raises ConnectionLost for a stream that has broken off, and ServiceError for an answer without a use.
        """
        if not complete and not self._finish:
            raise ConnectionLost("the answer broke off: its stream has no end")
        if self.problems and self.calls.calls:
            raise ServiceError(f"a piece of a tool call may be lost: {self.problems[0]}")
        if self._finish == "content_filter":
            self._cut("the vendor's content filter blocked the answer", "the vendor's content filter cut the answer")
        elif self._finish == "length":
            tokens = "tokens" if limit is None else f"{limit} tokens"
            self._cut(
                f"the model used all its {tokens} before its first word", f"an answer was cut at its limit of {tokens}"
            )

    def _cut(self, without_words: str, with_words: str) -> None:
        """Note that the answer was cut. Its last tool call may be incomplete: none is made."""
        self.calls = StreamedCalls()
        if not self._said:
            raise ServiceError(without_words)
        self.problems.append(ServiceError(with_words))

    def usage(self, service: str, model: str) -> Usage | None:
        """Return the tokens, None if the server has not reported them."""
        used = self._usage
        if used is None:
            return None
        read, written = used.prompt_tokens_details or CachedTokens(), used.completion_tokens_details or CachedTokens()
        return Usage(
            service=service,
            model=self._model or model,
            input_tokens=int(used.prompt_tokens or 0),
            output_tokens=int(used.completion_tokens or 0),
            cached_tokens=int(read.cached_tokens or used.prompt_cache_hit_tokens or 0),
            input_audio_tokens=int(read.audio_tokens or 0),
            output_audio_tokens=int(written.audio_tokens or 0),
            thought_tokens=int(written.reasoning_tokens or 0),
        )


def _chat_failed(error: WireError | str) -> ConnectionLost:
    """Return the ConnectionLost for an error in a stream."""
    told = WireError(message=error) if isinstance(error, str) else error
    code, message = str(told.code or told.type or ""), told.message or ""
    text = ": ".join(part for part in (code, message) if part)
    return ConnectionLost(
        f"the answer failed: {text}", fatal=fatal(reason=code), retry_after_s=named_wait_s(message) or None
    )
