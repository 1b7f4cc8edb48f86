"""A request in the form of `streamGenerateContent`. The conversation stands last: providers cache what is before it.

The body is made here, and not by the SDK's types: these take 250 ms of the event loop for a conversation of 400
messages (google-genai 3.6). The scripted server checks it by these types.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from ...agents.tool import ToolSpec
from ..context import Message, Request
from .dialect import bracketed
from .text_options import GeminiOptions

BEGIN = "(the call begins)"
"""The first turn of a conversation that the agent begins: the model requires one of the user."""
NO_SIGNATURE = "skip_thought_signature_validator"
"""Stands for the signature of a call that another model has made (ai.google.dev, "Thought signatures")."""

Signatures = Mapping[str, str]
"""The signatures of the model's tool calls in base64, by the id of the call."""


def request_body(request: Request, options: GeminiOptions, signatures: Signatures, *, signs: bool) -> dict[str, Any]:
    """Return the body of a request. A model that `signs` requires a signature of the first of several calls."""
    body: dict[str, Any] = {}
    if request.instructions:
        body["systemInstruction"] = {"parts": [{"text": request.instructions}]}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [text_declaration(tool) for tool in request.tools]}]
        if (choice := _calling_config(request.tool_choice, options)) is not None:
            body["toolConfig"] = {"functionCallingConfig": choice}
    body["generationConfig"] = generation_config(options)
    if options.safety:
        body["safetySettings"] = [
            {"category": f"HARM_CATEGORY_{name}", "threshold": level} for name, level in options.safety.items()
        ]
    if options.cached_content:
        body["cachedContent"] = options.cached_content
    if options.service_tier:
        body["serviceTier"] = options.service_tier
    return {**body, **options.extra_body, "contents": contents(request.messages, signatures, signs=signs)}


def text_declaration(tool: ToolSpec) -> dict[str, Any]:
    """Return the specification of a tool."""
    found: dict[str, Any] = {"name": tool.name, "description": tool.description or tool.name}
    if tool.parameters.get("properties"):
        found["parametersJsonSchema"] = tool.parameters
    return found


def _calling_config(asked: str, options: GeminiOptions) -> dict[str, Any] | None:
    """Return the choice of tools: that of the answer, else that of the options."""
    named = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
    choice = asked if asked in ("", "none", "required") else f"tool:{asked}"
    choice = choice or options.tool_choice or ""
    if not choice:
        return None
    if choice in named:
        return {"mode": named[choice]}
    return {"mode": "ANY", "allowedFunctionNames": [choice.removeprefix("tool:")]}


def generation_config(options: GeminiOptions) -> dict[str, Any]:
    """Return the settings of the model."""
    thinking: dict[str, Any] = {}
    if options.thinking_budget is not None:
        thinking = {"thinkingConfig": {"thinkingBudget": options.thinking_budget}}
    elif options.thinking_level is not None:
        thinking = {"thinkingConfig": {"thinkingLevel": options.thinking_level}}
    resolution = options.media_resolution
    found = {
        "temperature": options.temperature,
        "topP": options.top_p,
        "topK": options.top_k,
        "maxOutputTokens": options.max_output_tokens,
        "stopSequences": list(options.stop_sequences) if options.stop_sequences else None,
        "seed": options.seed,
        "presencePenalty": options.presence_penalty,
        "frequencyPenalty": options.frequency_penalty,
        "mediaResolution": f"MEDIA_RESOLUTION_{resolution}" if resolution else None,
        **thinking,
    }
    return {name: value for name, value in found.items() if value is not None}


def contents(messages: Sequence[Message], signatures: Signatures, *, signs: bool) -> list[dict[str, Any]]:
    """Return the conversation as turns of user and model. The results of one message's calls are one turn."""
    out: list[dict[str, Any]] = []
    previous = ""
    for message in messages:
        role = "model" if message.role == "assistant" else "user"
        same = bool(out) and out[-1]["role"] == role and (message.role == "tool") == (previous == "tool")
        if not same or message.calls:
            out.append({"role": role, "parts": []})
        out[-1]["parts"] += _turn_parts(message, signatures, signs=signs)
        previous = message.role
    if not out or out[0]["role"] != "user":
        out.insert(0, {"role": "user", "parts": [{"text": BEGIN}]})
    return out


def _turn_parts(message: Message, signatures: Signatures, *, signs: bool) -> list[dict[str, Any]]:
    if message.role == "system":
        return [{"text": bracketed(message.text)}]
    if message.role == "tool":
        result = {"id": message.call_id, "name": message.name, "response": {"result": message.text}}
        return [{"functionResponse": result}]
    parts: list[dict[str, Any]] = [{"text": message.text}] if message.text else []
    if message.image:
        data = base64.b64encode(message.image).decode()
        parts.append({"inlineData": {"mimeType": message.mime or "image/jpeg", "data": data}})
    elif message.url:
        parts.append({"fileData": {"fileUri": message.url, "mimeType": message.mime or "image/jpeg"}})
    signed = any(call.call_id in signatures for call in message.calls)
    for number, call in enumerate(message.calls):
        part: dict[str, Any] = {"functionCall": {"id": call.call_id, "name": call.name, "args": call.arguments}}
        signature = signatures.get(call.call_id)
        if signature is None and signs and not signed and number == 0:
            signature = NO_SIGNATURE
        if signature is not None:
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts or [{"text": " "}]
