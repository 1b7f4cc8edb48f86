"""The messages that Gemini's Live API takes, their keys, and the differences between the families of models."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...services.context import Message, ToolRequest

_PLAIN_BASE64 = str.maketrans("-_", "+/")


class GeminiRefusal(Exception):
    """The provider ends the connection with this close code and reason."""

    def __init__(self, reason: str, code: int = 1007) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


@dataclass(frozen=True, kw_only=True)
class GeminiFamily:
    """The rules of one family of models. The first behaviour of tools is the default."""

    tools: tuple[str, ...] = ("BLOCKING", "NON_BLOCKING")
    thinking: Literal["budget", "optional", "never", "required"] = "optional"
    affective: bool = True
    """False: a set-up that asks for affective dialog or proactive audio is never answered."""
    content: bool = True
    """False: `clientContent` is taken as the initial history only."""
    ends_with_user: bool = False
    empty: bool = True
    """False: an empty list of tools and a null handle are refused."""
    updates: bool = False
    status: bool = False
    """True: an interaction ends with a status, possibly after several turns."""


GEMINI_FAMILIES = {
    "3.8-live-extended": GeminiFamily(tools=("NON_BLOCKING",), thinking="required", updates=True, status=True),
    "3.8-live": GeminiFamily(tools=("NON_BLOCKING", "BLOCKING"), thinking="never", updates=True),
    "3.1": GeminiFamily(tools=("BLOCKING",), affective=False, content=False, empty=False),
    "2.5": GeminiFamily(thinking="budget", ends_with_user=True),
    "": GeminiFamily(),
}
# fmt: off
_SETUP_FIELDS = frozenset((
    "model", "generationConfig", "systemInstruction", "tools", "realtimeInputConfig", "sessionResumption",
    "contextWindowCompression", "inputAudioTranscription", "outputAudioTranscription", "proactivity",
    "historyConfig", "avatarConfig", "safetySettings", "labels",
))
# fmt: on
MESSAGE_FIELDS = frozenset(("clientContent", "realtimeInput", "toolResponse", "contextUpdate"))
_OPAQUE = frozenset(("parameters", "parametersJsonSchema", "response", "responseJsonSchema", "args", "labels"))
"""The keys whose values are the client's own schemas, arguments and results."""


def camel(value: Any) -> Any:
    """Return a message with the protocol's keys in camelCase: clients mix it with snake_case."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    out: dict[str, Any] = {}
    for key, item in value.items():
        first, *rest = key.split("_")
        name = first + "".join(part.capitalize() for part in rest)
        out[name] = item if name in _OPAQUE else camel(item)
    return out


def parsed(frame: str | bytes) -> dict[str, Any]:
    """Return the message in a frame. Raises GeminiRefusal."""
    try:
        message = json.loads(frame)
    except ValueError as error:
        raise GeminiRefusal("Invalid JSON payload received.") from error
    if not isinstance(message, dict):
        raise GeminiRefusal("Invalid JSON payload received.")
    return message


def unknown_field(names: set[str], where: str = "") -> GeminiRefusal:
    """Return the refusal of fields that the protocol does not have."""
    at = f" at '{where}'" if where else ""
    return GeminiRefusal(f'Invalid JSON payload received. Unknown name "{min(names)}"{at}: Cannot find field.')


def check_setup(setup: dict[str, Any], family: GeminiFamily) -> None:
    """Raise GeminiRefusal for a set-up that models of the family do not take."""
    if unknown := set(setup) - _SETUP_FIELDS:
        raise unknown_field(unknown, "setup")
    generation = setup.get("generationConfig", {})
    if generation.get("responseModalities", ["AUDIO"]) != ["AUDIO"]:
        raise GeminiRefusal("The requested combination of response modalities is not supported by the model.")
    thinking = generation.get("thinkingConfig")
    if thinking is None and family.thinking == "required":
        raise GeminiRefusal("thinking_config is required for this model.")
    if thinking is not None:
        _check_thinking(thinking, family)
    resumption = setup.get("sessionResumption", {})
    if "transparent" in resumption:
        raise unknown_field({"transparent"}, "setup.session_resumption")
    if not family.empty and (setup.get("tools") == [] or resumption.get("handle", "") is None):
        raise GeminiRefusal("Request contains an invalid argument.")
    check_functions(declarations(setup.get("tools")), family)


def _check_thinking(thinking: dict[str, Any], family: GeminiFamily) -> None:
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if family.thinking == "never":
        raise GeminiRefusal("thinking_config is not supported for this model.")
    if family.thinking == "budget" and level is not None:
        raise GeminiRefusal("Thinking level is not supported for this model.")
    if level is not None and budget is not None:
        raise GeminiRefusal("You can only set one of thinking_level and thinking_budget.")
    if family.thinking == "required" and budget is None and level not in ("LOW", "MEDIUM", "HIGH"):
        raise GeminiRefusal(f"Thinking level {level} is not supported for this model.")


def check_functions(functions: Sequence[dict[str, Any]], family: GeminiFamily) -> None:
    """Raise GeminiRefusal for functions of a behaviour that the family does not have."""
    for declaration in functions:
        if declaration.get("behavior", family.tools[0]) not in family.tools:
            raise GeminiRefusal(
                f"Function calls of behavior {declaration['behavior']} are not supported for this model."
            )


def declarations(tools: Sequence[dict[str, Any]] | None) -> tuple[dict[str, Any], ...]:
    """Return the functions that tools declare."""
    return tuple(declaration for tool in tools or () for declaration in tool.get("functionDeclarations", ()))


def text_of(content: dict[str, Any] | None) -> str:
    """Return the text of a content, a line for each part."""
    return "\n".join(part["text"] for part in (content or {}).get("parts", ()) if part.get("text"))


def blob_of(blob: dict[str, Any]) -> bytes:
    """Return the data of a blob: clients send either alphabet of base64. Raises GeminiRefusal."""
    try:
        return base64.b64decode(blob.get("data", "").translate(_PLAIN_BASE64), validate=True)
    except ValueError as error:
        raise GeminiRefusal("Invalid value: Base64 decoding failed.") from error


def messages_of(content: dict[str, Any]) -> list[Message]:
    """Return one turn of `clientContent` as messages."""
    out: list[Message] = []
    calls: list[ToolRequest] = []
    for part in content.get("parts", ()):
        if call := part.get("functionCall"):
            calls.append(ToolRequest(call_id=call.get("id", ""), name=call["name"], arguments=call.get("args", {})))
        elif result := part.get("functionResponse"):
            text = json.dumps(result.get("response", {}), ensure_ascii=False)
            out.append(Message(role="tool", text=text, call_id=result.get("id", ""), name=result["name"]))
        elif blob := part.get("inlineData"):
            out.append(Message(role="user", image=blob_of(blob), mime=blob.get("mimeType", "")))
    text = text_of(content)
    if text or calls:
        role: Literal["assistant", "user"] = "assistant" if content.get("role") == "model" else "user"
        out.insert(0, Message(role=role, text=text, calls=tuple(calls)))
    return out
