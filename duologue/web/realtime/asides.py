"""`Asides`: responses out of band, which an OpenAI Realtime client asks for beside the conversation."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from ...errors import BadInput, ConfigurationError, ServiceError
from ...frames import Usage, UserImage
from ...frames.text import from_json
from ...images import ready_image
from ...images.limits import DEFAULT_IMAGES
from ...processors.kernel.groups import leaves
from ...processors.kernel.node import Node
from ...processors.kernel.tasks import Stopped
from ...protocols.openai_realtime.refusal import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...services.answering import Aside
from ...services.context import Message, Request, ToolRequest, image_message, messages
from ...services.guardrails import CallerGuardrail, Guardrail
from ...services.llm import LLM
from ...session.usage import add_usage
from .images import image_of
from .tools import AsideWanted, ClientTools, choice_of, tool_spec
from .usage import usage_wire

Role = Literal["system", "user", "assistant"]


class Asides:
    """Asks the model of a cascade for a text beside the call: it is neither spoken nor logged, and no tool runs.

    The tool calls are the client's to run. `tools` is the processor whose session answers.
    """

    def __init__(self, tools: ClientTools) -> None:
        self._tools = tools
        tools.on_aside = self._begin
        self._waiting: dict[str, ServerResponse] = {}
        self._answers: dict[str, Aside] = {}
        self._usage: dict[str, Usage] = {}

    def check(self, asked: dict[str, Any], session: dict[str, Any], *, may_configure: bool) -> None:
        """Raise Refusal for a response that the engine cannot give out of band. `session` has the settings in force."""
        model = self.model()
        if model is None:
            message = "This engine gives no responses out of band."
            raise Refusal("invalid_value", message, "response.conversation")
        if asked.get("output_modalities", session["output_modalities"]) != ["text"]:
            message = "A response out of band is text: its output_modalities are ['text']."
            raise Refusal("invalid_value", message, "response.output_modalities")
        if not may_configure:
            self.check_unguarded("responses out of band", "response.conversation")
        tools = tuple(map(tool_spec, asked.get("tools", session["tools"])))
        choice = choice_of(asked.get("tool_choice", "auto"))
        if choice not in ("", "none") and not model.chooses_tools:
            message = f"This engine cannot obey the tool_choice {choice!r}."
            raise Refusal("invalid_value", message, "response.tool_choice")
        if choice not in ("", "none", "required") and all(tool.name != choice for tool in tools):
            raise Refusal("invalid_value", f"There is no tool {choice!r}.", "response.tool_choice")
        for place, item in enumerate(asked.get("input", ())):
            if not item.was_added:
                _check_item(item, f"response.input[{place}]", may_configure)

    def check_unguarded(self, what: str, where: str) -> None:
        """Raise Refusal if the pipeline has a guardrail, which words beside the conversation would go round."""
        pipeline = self._tools.session.pipeline
        if any(isinstance(part, Guardrail | CallerGuardrail) for part in leaves(pipeline)):
            raise Refusal("invalid_value", f"This server checks what is said: it takes no {what}.", where)

    def respond(self, response: ServerResponse) -> AsideWanted:
        """Return the frame that begins the answer, behind the client's earlier words."""
        self._waiting[response.id] = response
        return AsideWanted(response_id=response.id)

    def cancelled(self, response: ServerResponse) -> dict[str, Any]:
        """Stop the answer. Returns its usage in the wire's form."""
        self._waiting.pop(response.id, None)
        aside = self._answers.get(response.id)
        if aside is not None:
            aside.stop()
        return usage_wire(self._usage.pop(response.id, None))

    def used(self, signal: Usage) -> bool:
        """Count the usage of an answer. Returns False for the usage of other work."""
        if signal.response_id not in self._answers:
            return False
        self._usage[signal.response_id] = add_usage(self._usage.get(signal.response_id, Usage(service="")), signal)
        return True

    # -- the answer ------------------------------------------------------------------------------------------------

    def _begin(self, response_id: str) -> None:
        response = self._waiting.pop(response_id, None)
        if response is not None:
            self._tools.spawn(self._answer, response)

    async def _answer(self, response: ServerResponse) -> None:
        model = self.model()
        aside: Aside | None = None
        try:
            if model is None:
                raise ServiceError("the engine has changed, and gives no responses out of band")
            aside = self._answers[response.id] = Aside(model, response.id, response.say)
            await model.aside(await _with_images(self._request(model, response), model), aside)
        except Stopped:
            response.finish("cancelled", reason="client_cancelled", usage=self._spent(response))
        except Exception as error:
            self._tools.session.report(ServiceError(f"no answer out of band: {error}"), self._tools.name)
            failure = {"type": "server_error", "code": "server_error", "message": "The response has failed."}
            response.finish("failed", error=failure, usage=self._spent(response))
        else:
            for call in aside.calls:
                response.call(call.call_id, call.name, json.dumps(call.arguments))
            response.finish(usage=self._spent(response))
        finally:
            self._answers.pop(response.id, None)

    def _spent(self, response: ServerResponse) -> dict[str, Any]:
        return usage_wire(self._usage.pop(response.id, None))

    def _request(self, model: LLM, response: ServerResponse) -> Request:
        session, settings = self._tools.session, response.settings
        choice = choice_of(settings["tool_choice"])
        told = messages(session.conversation, session.ledger, budget=model.budget)
        return Request(
            instructions=response.own_instructions or model.config.prompt,
            messages=told if response.input is None else tuple(self._told(response.input)),
            tools=tuple(map(tool_spec, settings["tools"])),
            options=model.config.options,
            tool_choice=choice,
        )

    def _told(self, items: Iterable[ServerItem]) -> Iterable[Message]:
        """Yield the items of a response's own input as a model takes them."""
        names = {item.wire["call_id"]: item.wire["name"] for item in items if item.wire["type"] == "function_call"}
        for item in items:
            wire = item.wire
            if wire["type"] == "function_call":
                call = ToolRequest(call_id=wire["call_id"], name=wire["name"], arguments=_arguments(wire["arguments"]))
                yield Message(role="assistant", calls=(call,))
            elif wire["type"] == "function_call_output":
                call_id = wire["call_id"]
                yield Message(role="tool", text=wire["output"], call_id=call_id, name=names.get(call_id, ""))
            else:
                yield from self._message(item)

    def _message(self, item: ServerItem) -> Iterable[Message]:
        role = item.wire["role"]
        if item.was_added:
            yield from self._logged(item, role)
            return
        if item.text:
            yield Message(role=role, text=item.text)
        for part in item.wire["content"]:
            if part["type"] == "input_image":
                image_of(part.get("image_url", ""), "response.input")
                yield Message(role="user", url=part["image_url"])

    def _logged(self, item: ServerItem, role: Role) -> Iterable[Message]:
        """Yield an item of the conversation as the log has it: of the agent's words, those that were heard."""
        session = self._tools.session
        for source in item.sources:
            logged = session.conversation.get(source)
            if logged is None:
                continue
            if logged.name == "image" and logged.data is not None:
                yield image_message(logged)
            elif text := logged.text or session.ledger.text_of(source):
                yield Message(role=role, text=text)

    # -- the engine ------------------------------------------------------------------------------------------------

    def model(self) -> LLM | None:
        """Return the language model of the active engine, None for an engine without one."""
        try:
            engine = self._tools.engine()
        except ConfigurationError:
            return None
        parts = leaves(engine) if isinstance(engine, Node) else ()
        return next((part for part in parts if isinstance(part, LLM)), None)


async def _with_images(request: Request, model: LLM) -> Request:
    """Return the request with the images of its own input made ready. Raises as `images.ready_image` does."""
    told = list(request.messages)
    if model.images is None and any(message.url for message in told):
        raise BadInput(f"{model.name} takes no images")
    limits = model.images or DEFAULT_IMAGES
    for place, message in enumerate(told):
        if message.url:  # that of an item of the log has no address
            frame = UserImage(image=message.image, mime=message.mime, url=message.url)
            ready = await ready_image(frame, limits=limits, rules=model.image_rules)
            told[place] = msgspec.structs.replace(message, image=ready.image, mime=ready.mime, url="")
    return msgspec.structs.replace(request, messages=tuple(told))


def check_author(wire: dict[str, Any], where: str) -> None:
    """Raise Refusal for an item that only a client with `client_may_configure` may add: it is not the caller's."""
    if wire["type"] != "message" or wire["role"] != "user":
        what = f"messages of role {wire['role']!r}" if wire["type"] == "message" else "tool calls of its own"
        raise Refusal("invalid_value", f"A client of this server cannot add {what}.", where)


def _check_item(item: ServerItem, where: str, may_configure: bool) -> None:
    """Raise Refusal for a new item of a response's own input that no model takes."""
    wire = item.wire
    if not may_configure:
        check_author(wire, where)
    if wire["type"] == "function_call":
        _arguments(wire["arguments"], f"{where}.arguments")
    if wire["type"] != "message":
        return
    for place, part in enumerate(wire["content"]):
        if part["type"] == "input_audio" and not part.get("transcript"):
            raise Refusal("invalid_value", "Audio goes into the input audio buffer.", f"{where}.content[{place}]")
        if part["type"] == "input_image":
            image_of(part.get("image_url", ""), f"{where}.content[{place}].image_url")


def image_addresses(items: Iterable[ServerItem]) -> list[str]:
    """Return the address of each image in the new items of a response's own input, "" for a data URL."""
    parts = (part for item in items if not item.was_added for part in item.wire.get("content", ()))
    urls = (part.get("image_url", "") for part in parts if part["type"] == "input_image")
    return ["" if url.startswith("data:") else url for url in urls]


def _arguments(text: str, where: str = "") -> dict[str, Any]:
    try:
        arguments = from_json(text or "{}")
    except msgspec.DecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Refusal("invalid_value", "The arguments are not a JSON object.", where or None)
    return arguments
