"""`ClientSettings`: the settings that an OpenAI Realtime client may choose, for the session and for one response."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from typing import Any

import msgspec

from ...errors import ConfigurationError
from ...frames import Configure, Frame
from ...protocols.openai_realtime.refusal import Refusal
from ...protocols.openai_realtime.session import RealtimeServerSession
from .asides import Asides
from .caller import CallerTurns
from .tools import ClientTools, choice_of, tool_spec

log = logging.getLogger("duologue")

_NOT_HERE: dict[str, Any] = {
    "max_output_tokens": "inf",
    "tracing": None,
    "truncation": "auto",
    "prompt": None,
    "include": None,
}
"""Settings that have no effect here, and the values that the client is shown."""


class ClientSettings:
    """Checks a client's settings and applies them. `put` pushes a frame at the head of the pipeline.

    `may_configure` is True for a client that may set the instructions and the voice.
    """

    def __init__(
        self,
        protocol: RealtimeServerSession,
        caller: CallerTurns,
        tools: ClientTools,
        asides: Asides,
        put: Callable[[Frame], None],
        *,
        may_configure: bool,
    ) -> None:
        self.configure_turns: Callable[[dict[str, Any] | None], None] = lambda detection: None
        """Applies a `turn_detection`."""
        self.may_configure = may_configure
        self._protocol, self._caller, self._tools, self._put = protocol, caller, tools, put
        self._asides = asides

    def configure(self, session: dict[str, Any], changed: Set[str]) -> None:
        """Configure the engine, as far as the client is allowed to. Settings without effect here keep fixed values.

        A voice that the engine lacks is passed over, and so are tools of the client with the name of an agent's tool.
        """
        if session["tool_choice"] != "auto":
            message = "A session has the tool_choice 'auto'; a response may have another one."
            raise Refusal("invalid_value", message, "session.tool_choice")
        if session["audio"]["output"]["speed"] != 1:
            raise Refusal("invalid_value", "Only the speed 1.0 is supported.", "session.audio.output.speed")
        if session["prompt"] and self.may_configure:
            raise Refusal("invalid_value", "Prompts are not supported: send the instructions.", "session.prompt")
        self._show_what_is_in_force(session)
        frame = Configure()
        if "tools" in changed:
            given = tuple(map(tool_spec, session["tools"]))
            if len({spec.name for spec in given}) < len(given):
                raise Refusal("invalid_value", "Two tools have one name.", "session.tools")
            names = {spec.name for spec in self._tools.usable(given)}
            session["tools"] = [tool for tool in session["tools"] if tool["name"] in names]
            frame = self._tools.with_tools(given)
        if self.may_configure:
            instructions = session["instructions"] if "instructions" in changed else None
            frame = msgspec.structs.replace(frame, instructions=instructions, voice=self._new_voice(session))
        if frame != Configure():
            try:
                self._tools.engine().check(frame)
            except ConfigurationError as error:
                raise Refusal("invalid_value", str(error), "session") from error
            self._put(frame)
        if "tools" in changed:
            self._tools.use(given)
        self.configure_turns(session["audio"]["input"]["turn_detection"])

    def _show_what_is_in_force(self, session: dict[str, Any]) -> None:
        """Replace the settings without effect here by those in force, which the client is shown."""
        for unknown in session.keys() - self._protocol.config.keys() - _NOT_HERE.keys():
            del session[unknown]
        session |= _NOT_HERE
        audio = session["audio"]["input"]
        audio["noise_reduction"] = None
        if (transcription := audio["transcription"]) is not None:
            audio["transcription"] = {name: value for name, value in transcription.items() if name == "model"}
        detection = audio["turn_detection"]
        if detection is not None and "idle_timeout_ms" in detection:
            detection["idle_timeout_ms"] = None

    def _new_voice(self, session: dict[str, Any]) -> str | None:
        """Return the voice that the client wants, None if it is in force already or the engine does not have it."""
        output, before = session["audio"]["output"], self._protocol.config["audio"]["output"]["voice"]
        voice = output["voice"]
        if voice == before:
            return None
        if isinstance(voice, str):
            try:
                self._tools.engine().check(Configure(voice=voice))
                return voice
            except ConfigurationError as error:
                log.info("a client's voice is passed over: %s", error)
        output["voice"] = before
        return None

    def check_response(self, asked: dict[str, Any]) -> None:
        """Raise Refusal for a response that the application's agent cannot give.

        Settings that a response cannot have for itself are removed: it shows those of the session.
        """
        conversation = asked.get("conversation", "auto")
        if conversation not in ("auto", "none"):
            message = f"Invalid value: {conversation[:50]!r}. Supported values are: 'auto', 'none'."
            raise Refusal("invalid_value", message, "response.conversation")
        if asked.get("prompt"):
            raise Refusal("invalid_value", "Prompts are not supported: send the instructions.", "response.prompt")
        if asked.get("instructions") and not self.may_configure:
            message = "A client of this server cannot set instructions."
            raise Refusal("invalid_value", message, "response.instructions")
        if conversation == "none":
            self._asides.check(asked, self._protocol.config, may_configure=self.may_configure)
        else:
            self._check_answer_settings(asked)
        asked.pop("max_output_tokens", None)
        for name in ("voice", "speed"):
            asked.get("audio", {}).get("output", {}).pop(name, None)

    def _check_answer_settings(self, asked: dict[str, Any]) -> None:
        if "input" in asked:
            message = "A response of the conversation answers the conversation: 'input' needs the conversation 'none'."
            raise Refusal("invalid_value", message, "response.input")
        if asked.get("tools"):
            message = "A response of the conversation has the session's tools."
            raise Refusal("invalid_value", message, "response.tools")
        if "tools" in asked:
            asked["tool_choice"] = "none"
        choice = choice_of(asked.get("tool_choice", "auto"))
        if not choice and not (asked.get("instructions") and self._caller.waits):
            return
        engine = self._tools.engine()
        known = engine.capabilities.answer_settings
        if self._caller.waits and "turn_instructions" not in known:
            name = "tool_choice" if choice else "instructions"
            message = f"This engine takes no {name} for the answer to a spoken turn."
            raise Refusal("invalid_value", message, f"response.{name}")
        if choice and ("no_tools" if choice == "none" else "tool_choice") not in known:
            message = f"This engine cannot obey the tool_choice {choice!r}."
            raise Refusal("invalid_value", message, "response.tool_choice")
        if choice not in ("", "none", "required") and all(tool.name != choice for tool in engine.config.tools):
            raise Refusal("invalid_value", f"There is no tool {choice!r}.", "response.tool_choice")
