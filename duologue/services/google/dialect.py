"""`GeminiDialect`: translates for one connection to Gemini Live."""

from __future__ import annotations

from binascii import b2a_base64
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from ...agents.engine import EngineConfig
from ...errors import BadInput
from ...frames import UserImage
from ...frames.text import to_json
from ..context import Message
from ..native.dialect import Dialect, Event
from .options import DEFAULT_VOICE, INPUT_RATE, LIVE_IMAGES, GeminiLiveOptions, LiveFamily
from .responses import MAX_KEPT, CallGroup, Responses
from .setup import tools
from .wire_in import decode_frame

NO_HISTORY = '{"client_content":{"turnComplete":true}}'
"""The empty history, for a session that waits for its history."""

_AUDIO = f'{{"realtime_input":{{"audio":{{"data":"%s","mime_type":"audio/pcm;rate={INPUT_RATE}"}}}}}}'


class GeminiDialect(Dialect):
    """Translates for one connection. The SDK has sent the set-up, which `setup.connect_config` makes.

    Gemini has no response ids, no roles except user and model, and no events for the caller's speech: responses are
    numbered ("r1"), notes are sent as the caller's text in brackets, and only its transcript reports a turn of the
    caller. A response begins with the model's first words, audio or call after the end of the previous response.

    Text without a `tag` stops a response in progress, as all content does. It is held back until the next text with a
    tag if the model would answer it (3.1 takes text as realtime input only). In a resumed session it is held back until
    a response has begun, because the server would refuse it as a second history.
    """

    answers_results = True
    requests_stop = True
    acknowledges_updates = False
    announces_responses = False

    def __init__(
        self,
        config: EngineConfig,
        options: GeminiLiveOptions,
        family: LiveFamily,
        *,
        resumed: bool = False,
        model: str = "",
        service: str = "",
    ) -> None:
        self.server_turns = options.turn_detection is not None
        self.stops_at_speech = not options.uninterruptible
        self.holds_text = family.text == "realtime"
        self._config, self._options, self._family = config, options, family
        self._responses = Responses(options, family, model=model, service=service)
        self._resumed = resumed
        self._in_turn = False
        self._held: deque[str] = deque(maxlen=MAX_KEPT)
        """Texts that are held back until a text with a tag."""

    @property
    def may_be_silent(self) -> bool:
        """True with proactive audio."""
        return self._family.proactive if self._options.proactive_audio is None else self._options.proactive_audio

    @property
    def interruptible(self) -> bool:
        """False with NO_INTERRUPTION."""
        return not self._options.uninterruptible

    # -- set-up ----------------------------------------------------------------------------------------------------

    def update(self, update_id: str, config: EngineConfig) -> list[str] | None:
        """Return the message that changes instructions and tools in place, None if the change needs a new connection.

        Removing the instructions needs one, because an empty text does not replace them.
        """
        old = self._config
        if (config.voice or DEFAULT_VOICE) != (old.voice or DEFAULT_VOICE) or config.options != old.options:
            return None
        change: dict[str, Any] = {}
        if config.prompt != old.prompt:
            change["systemInstruction"] = {"parts": [{"text": config.prompt}], "role": "user"}
        if config.tools != old.tools:
            change["tools"] = {"tools": tools(config.tools, self._options, self._family)}
        if change and (not self._family.context_update or (old.prompt and not config.prompt)):
            return None
        self._config = config
        return [to_json({"contextUpdate": change})] if change else []

    # -- the caller and the conversation ---------------------------------------------------------------------------

    def audio(self, pcm: bytes) -> str:
        """Return the message with audio of the caller: mono s16le at 16 kHz."""
        return _AUDIO % b2a_base64(pcm, newline=False).decode("ascii")

    def turn_begins(self) -> list[str]:
        """Return the messages that begin a turn, with text that was held back.

        They stop the model, unless the session's options forbid that.
        """
        self._in_turn = True
        messages = [_realtime("activityStart", {})]
        if self._held and self._family.text == "realtime":
            messages.append(_realtime("text", "\n".join(self._held)))
            self._held.clear()
        return messages

    def turn_ends(self) -> list[str]:
        """Return the message that ends the turn. The model answers then."""
        self._in_turn = False
        self._responses.owe()
        return [_realtime("activityEnd", {})]

    def history(self, messages: Sequence[Message]) -> list[str]:
        """Return the conversation as one message. Calls and results are text in brackets: content cannot hold them."""
        turns = turns_of(messages)
        seeded = self._family.seed == "history_config"
        if not turns:
            return []
        if self._family.seed_ends_with_user and turns[-1]["role"] != "user":
            turns.append(turn("user", "[The conversation goes on from here.]"))
        return [to_json({"client_content": {"turns": turns, "turnComplete": seeded}})]

    def text(self, text: str, *, role: str = "user", tag: str | None = None) -> list[str]:
        """Return the messages for a text of the caller, or for a note, which is the caller's text in brackets."""
        return self._tell(bracketed(text) if role == "system" else text, tag)

    def image(self, image: UserImage) -> list[str]:
        """Return the message with an image. Raises BadInput if it is not a JPEG or PNG, or has a url only."""
        if not image.image:
            raise BadInput(f"Gemini Live takes the bytes of an image, not its url: {image.url[:200]!r}")
        if image.mime not in LIVE_IMAGES.types:
            raise BadInput(
                f"Gemini Live takes images of type {' and '.join(sorted(LIVE_IMAGES.types))}, not {image.mime!r}"
            )
        return [_realtime("video", blob(image.image, image.mime))]

    def respond(self, tag: str, instructions: str = "", tool_choice: str = "") -> list[str]:
        """Return the messages that ask for a response, with a note of its instructions. They stop one in progress.

        The model alone chooses its tools: the protocol has no field for the choice.
        """
        if instructions:
            return self._tell(bracketed(f"For your next response: {instructions}"), tag)
        # Models that take text as realtime input answer nothing but text.
        return self._tell(bracketed("Respond now.") if self._family.text == "realtime" and not self._held else "", tag)

    def tool_result(self, call_id: str, name: str, result: Any, *, respond: bool) -> list[str]:
        """Return the message with a call's result as `{"result": …}`. Raises BadInput if it is not a JSON value.

        The model answers once to calls that were made together, after their last result, if one of them asks for an
        answer. It always answers results of blocking tools.
        """
        response: dict[str, Any] = {"id": call_id, "name": name, "response": {"result": result}}
        if self._responses.is_unnamed(call_id):
            del response["id"]
        calls = self._responses.calls.get(call_id) or CallGroup()
        others = calls.open - {call_id}
        non_blocking = (self._options.tool_behavior or self._family.tools) == "NON_BLOCKING"
        if non_blocking and (others or not (respond or calls.wanted)):
            response["scheduling"] = "SILENT"
        try:
            message = to_json({"tool_response": {"functionResponses": [response]}})
        except BadInput as error:
            raise BadInput(f"the result of tool {name!r} is not a JSON value: {error}") from error
        calls.open, calls.wanted = others, calls.wanted or respond
        if "scheduling" not in response and not others:
            self._responses.results_given(blocking=not non_blocking)
        return [message]

    # -- interruption ----------------------------------------------------------------------------------------------

    def give_up(self, response: str) -> list[str]:
        """Return no message: the provider has none that stops the model. Later output of the response is dropped."""
        self._responses.give_up(response)
        return []

    def _tell(self, text: str, tag: str | None) -> list[str]:
        realtime = self._family.text == "realtime"
        if tag is None and (realtime or (self._resumed and not self._responses.count)):
            self._held.append(text)
            return []
        text = "\n".join([*self._held, *([text] if text else [])])
        self._held.clear()
        if tag is not None:
            self._responses.tags.append(tag)
        if not realtime:
            turns = {"turns": [turn("user", text)]} if text else {}
            return [to_json({"client_content": {**turns, "turnComplete": tag is not None}})]
        message = _realtime("text", text)
        if self.server_turns or self._in_turn:
            return [message]
        return [_realtime("activityStart", {}), message, _realtime("activityEnd", {})]

    # -- what the provider sends -----------------------------------------------------------------------------------

    def read(self, message: str | bytes) -> list[Event]:
        """Return the events of a frame, in the order in which they happened. Raises BadInput for a malformed one."""
        return self._responses.read(decode_frame(message))


def _realtime(kind: str, value: Any) -> str:
    return to_json({"realtime_input": {kind: value}})


def turns_of(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return messages as contents, in which user and model alternate."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "model" if message.role == "assistant" else "user"
        for part in _parts(message):
            if not turns or turns[-1]["role"] != role:
                turns.append({"role": role, "parts": []})
            parts = turns[-1]["parts"]
            if parts and "text" in part and "text" in parts[-1]:
                parts[-1] = {"text": f"{parts[-1]['text']}\n{part['text']}"}
            else:
                parts.append(part)
    return turns


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.role == "system":
        return [{"text": bracketed(message.text)}]
    if message.role == "tool":
        return [{"text": bracketed(f"Result of {message.name}: {message.text}")}]
    parts: list[dict[str, Any]] = []
    if message.image and message.mime in LIVE_IMAGES.types:
        parts.append({"inline_data": blob(message.image, message.mime)})
    elif message.image or message.url:
        parts.append({"text": bracketed(f"An image: {message.url[:200] or message.mime}")})
    if message.text:
        parts.append({"text": message.text})
    parts.extend({"text": bracketed(f"Called {call.name} with {to_json(call.arguments)}")} for call in message.calls)
    return parts


def bracketed(text: str) -> str:
    """Return a text that neither side has spoken, in brackets."""
    return f"[{text}]"


def turn(role: str, text: str) -> dict[str, Any]:
    """Return a text of one side as a content."""
    return {"role": role, "parts": [{"text": text}]}


def blob(data: bytes, mime: str) -> dict[str, str]:
    """Return bytes in the form of the wire: base64 and a MIME type."""
    return {"data": b2a_base64(data, newline=False).decode("ascii"), "mime_type": mime}
