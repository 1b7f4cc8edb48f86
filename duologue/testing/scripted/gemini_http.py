"""`ScriptedGeminiHTTP`: a server on loopback that speaks Gemini's `streamGenerateContent`, played by a script.

    async with ScriptedGeminiHTTP([[Speak("Hello.")]]) as server:
        client = genai.Client(api_key="test", http_options=HttpOptions(base_url=server.url, api_version="v1beta"))

Requests are checked as strictly as the provider does, and what is sent by the types of the SDK.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

from ...errors import MissingExtra
from ...services.context import Message, ToolRequest
from .http import HTTPRequest, ScriptedHTTP
from .manners import Manners
from .server import Asked, CallTool, Model
from .text_model import BYTES_PER_TOKEN, Answer, Reject, TextAct, TextModel

try:
    from google.genai import types
except ImportError as problem:
    raise MissingExtra("a scripted Gemini", "google", str(problem)) from problem

_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
           429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}  # fmt: skip
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_KNOWN: dict[str, Any] = {
    "tools": types.Tool,
    "toolConfig": types.ToolConfig,
    "safetySettings": types.SafetySetting,
    "generationConfig": types.GenerationConfig,
    "systemInstruction": types.Content,
    "contents": types.Content,
    "cachedContent": None,
    "serviceTier": None,
}
_SIGNS = re.compile(r"gemini-([3-9]|\d\d)")
_PATH = "/v1beta/models"


class BadRequest(Exception):
    """A request that the provider refuses."""


class ScriptedGeminiHTTP(ScriptedHTTP):
    """Gemini's API for text, scripted. Other keys than `key` are refused; `models` are its models, empty for any."""

    def __init__(
        self,
        model: Model | Sequence[Sequence[TextAct]] = (),
        *,
        key: str = "test",
        models: frozenset[str] = frozenset(),
        manners: Manners | None = None,
    ) -> None:
        super().__init__()
        self.model = TextModel(model, manners)
        self.key = key
        self.models = models
        self.refuse = 0
        """The number of requests to refuse from now on, as an overloaded server does."""
        self.shows_thoughts = False
        """True: thoughts are sent as parts of their own. Otherwise only their tokens are counted."""
        self.signatures: list[str] = []
        """The signatures of tool calls that were given, in base64."""
        self.route("POST", f"{_PATH}/*", self._generate)
        self.route("GET", f"{_PATH}/*", self._tell)

    @property
    def url(self) -> str:
        """The SDK's `base_url`. Raises IllegalState outside of the `async with`."""
        return f"http://{self.address}"

    async def admit(self, request: HTTPRequest) -> bool:
        """Refuse other keys, and as many requests as `refuse` says."""
        if self.refuse > 0:
            self.refuse -= 1
            await error(request, 503, "The model is overloaded. Please try again later.")
        elif request.headers.get("x-goog-api-key") != self.key:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            await error(request, 400, "API key not valid. Please pass a valid API key.", details=[info])
        else:
            return True
        return False

    async def not_found(self, request: HTTPRequest) -> None:
        """Answer a request without a route."""
        await error(request, 404, "Requested entity was not found.")

    async def _tell(self, request: HTTPRequest) -> None:
        """Answer a question about a model."""
        name = request.path.removeprefix(f"{_PATH}/")
        if self.models and name not in self.models:
            await error(request, 404, f"Model is not found: models/{name} for api version v1beta")
            return
        await request.answer_json(200, {"name": f"models/{name}", "version": "001", "displayName": name})

    async def _generate(self, request: HTTPRequest) -> None:
        name, _, method = request.path.removeprefix(f"{_PATH}/").partition(":")
        if method != "streamGenerateContent" or request.query.get("alt") != ["sse"]:
            await error(request, 404, f"{method} is not scripted here: use streamGenerateContent?alt=sse.")
            return
        if self.models and name not in self.models:
            message = f"models/{name} is not found for API version v1beta, or is not supported for generateContent."
            await error(request, 404, message)
            return
        try:
            body = request.json
            check(body, signs=_SIGNS.match(name) is not None, signatures=self.signatures)
        except (BadRequest, ValueError) as refused:
            await error(request, 400, str(refused))
            return
        prompt = prompt_of(body)
        request.notes["prompt"] = prompt
        answer = GeminiAnswer(request, self, name, self.model.cache.count(prompt))
        await self.model.perform(asked_of(request, body), answer)


def check(body: dict[str, Any], *, signs: bool, signatures: Sequence[str]) -> None:
    """Raise BadRequest or ValueError for a request that the provider refuses."""
    for name, value in body.items():
        if name not in _KNOWN:
            raise BadRequest(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
        kind = _KNOWN[name]
        for one in (value if isinstance(value, list) else [value]) if kind is not None else ():
            kind.model_validate(one)
    turns = body.get("contents") or []
    if not turns:
        raise BadRequest("* GenerateContentRequest.contents: contents is not specified")
    if turns[0].get("role") != "user":
        raise BadRequest("Please ensure that multiturn requests begin with a user turn.")
    owed: list[str] = []
    for turn in turns:
        parts = turn.get("parts") or []
        if not parts or not all(parts):
            raise BadRequest("Unable to submit request because it must have a text parameter.")
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if [result["name"] for result in results] != owed:
            raise BadRequest(
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        calls = [part for part in parts if "functionCall" in part]
        owed = [part["functionCall"]["name"] for part in calls]
        if signs and calls:
            given = calls[0].get("thoughtSignature")
            if given is None:
                raise BadRequest(f"Function call `{owed[0]}` is missing a thought_signature in functionCall parts.")
            if given not in (*signatures, "skip_thought_signature_validator"):
                raise BadRequest("Corrupted thought signature.")
    if owed:
        raise BadRequest("Please ensure that function call turn is followed by a function response turn.")


def prompt_of(body: dict[str, Any]) -> bytes:
    """Return the text that the model reads: the instructions, the tools, then the turns in order."""
    parts = [json.dumps(body.get(name)) for name in ("systemInstruction", "tools")]
    return "\n".join([*parts, *(json.dumps(turn) for turn in body["contents"])]).encode()


def asked_of(request: HTTPRequest, body: dict[str, Any]) -> Asked:
    """Return what a request asks of the model."""
    history: list[Message] = []
    for turn in body["contents"]:
        history += _messages(turn)
    instructions = "".join(part["text"] for part in body.get("systemInstruction", {}).get("parts", ()))
    declared = [one for tool in body.get("tools", ()) for one in tool.get("functionDeclarations", ())]
    last = history[-1]
    return Asked(
        connection=request.connection,
        instructions=instructions,
        voice="",
        tools=tuple({**one, "parameters": one.get("parametersJsonSchema", {})} for one in declared),
        history=tuple(history),
        said=last.text if last.role == "user" else "",
    )


def _messages(turn: dict[str, Any]) -> list[Message]:
    parts = turn["parts"]
    results = [part["functionResponse"] for part in parts if "functionResponse" in part]
    found = [
        Message(role="tool", call_id=one.get("id", ""), name=one["name"], text=one["response"]["result"])
        for one in results
    ]
    text = "".join(part.get("text", "") for part in parts)
    if turn["role"] == "model":
        calls = tuple(
            ToolRequest(call_id=one.get("id", ""), name=one["name"], arguments=one.get("args", {}))
            for part in parts
            if (one := part.get("functionCall"))
        )
        return [Message(role="assistant", text=text, calls=calls)]
    image: dict[str, Any] = {}
    for part in parts:
        if "inlineData" in part:
            data = base64.b64decode(part["inlineData"]["data"], validate=True)
            image = {"mime": part["inlineData"]["mimeType"], "image": data}
    if text or image:
        found.append(Message(role="user", text=text, **image))
    return found


class GeminiAnswer(Answer):
    """One streamed answer."""

    def __init__(self, request: HTTPRequest, server: ScriptedGeminiHTTP, name: str, tokens: tuple[int, int]) -> None:
        super().__init__(request)
        self._server, self._name, self._tokens = server, name, tokens

    def event(self, value: dict[str, Any] | str) -> bytes:
        """Return the event for a piece."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return f"data: {text}\r\n\r\n".encode()

    async def send(self, parts: list[dict[str, Any]], finish: str = "", **fields: Any) -> None:
        """Check a piece by the SDK's type, and send it."""
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        piece = {
            "candidates": [candidate],
            "usageMetadata": self._used(),
            "modelVersion": self._name,
            "responseId": f"response-{self.request.number}",
            **fields,
        }
        types.GenerateContentResponse.model_validate(piece)
        await self.message(piece)

    def _used(self) -> dict[str, Any]:
        prompt, cached = self._tokens
        written, thought = -(-self.said // BYTES_PER_TOKEN), -(-self.thought // BYTES_PER_TOKEN)
        used = {"promptTokenCount": prompt, "totalTokenCount": prompt + written + thought}
        counts = {"cachedContentTokenCount": cached, "candidatesTokenCount": written, "thoughtsTokenCount": thought}
        return {**used, **{name: count for name, count in counts.items() if count}}

    async def text(self, text: str) -> None:
        """Send a piece of text."""
        await self.send([{"text": text}])

    async def think(self, text: str) -> None:
        """Send a thought if the server shows thoughts."""
        if self._server.shows_thoughts:
            await self.send([{"text": text, "thought": True}])

    async def refuse(self, text: str) -> None:
        """Send a refusal: with Gemini it is a text like any other."""
        await self.text(text)

    async def call(self, act: CallTool) -> None:
        """Send a tool call, whole, with a signature."""
        self.said += len(json.dumps(act.arguments))
        signature = base64.b64encode(f"signature {len(self._server.signatures) + 1}".encode()).decode()
        self._server.signatures.append(signature)
        call = {"id": self._server.model.call_id(act), "name": act.name, "args": act.arguments}
        await self.send([{"functionCall": call, "thoughtSignature": signature}])

    async def stop(self, reason: str) -> None:
        """Send the last piece, with the reason of the end."""
        await self.send([{"text": ""}], _FINISH[reason])

    async def fail(self, code: str, message: str) -> None:
        """Send an error in the stream."""
        await self.message({"error": {"code": 500, "message": message, "status": "INTERNAL"}})

    async def reject(self, act: Reject) -> None:
        """Refuse the request."""
        details: list[dict[str, Any]] = []
        if act.retry_after_s is not None:
            delay = f"{act.retry_after_s:g}s"
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
        await error(self.request, act.status, act.message, status=act.code, details=details)


async def error(
    request: HTTPRequest, code: int, message: str, *, status: str = "", details: Sequence[dict[str, Any]] = ()
) -> None:
    """Answer with an error in the provider's form."""
    told = status if status.isupper() else _STATUS.get(code, "UNKNOWN")
    value: dict[str, Any] = {"code": code, "message": message, "status": told}
    if details:
        value["details"] = list(details)
    await request.answer_json(code, {"error": value})
