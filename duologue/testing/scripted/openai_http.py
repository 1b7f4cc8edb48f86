"""`OpenAIServer`: the part of a scripted OpenAI that all its HTTP routes share: keys, models, refusals, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ConfigurationError
from .http import HTTPRequest, ScriptedHTTP
from .manners import Manners
from .server import Model
from .text_model import Reject, TextAct, TextModel


class OpenAIServer(ScriptedHTTP):
    """OpenAI's HTTP API without routes, or that of a server that is compatible with it.

    Other keys than `key` are refused; with an empty `key` none is asked for, and one that is sent is refused. `models`
    are those that the server has, empty for any. `unknown` are fields of a request that the server refuses, as some
    compatible servers do.
    """

    def __init__(
        self,
        model: Model | Sequence[Sequence[TextAct]] = (),
        *,
        key: str = "test",
        models: frozenset[str] = frozenset(),
        unknown: frozenset[str] = frozenset(),
        manners: Manners | None = None,
    ) -> None:
        super().__init__()
        self.model = TextModel(model, manners)
        self.manners = manners
        self.key = key
        self.models = models
        self.unknown = unknown
        self.refuse = 0
        """The number of requests to refuse from now on, as an overloaded server does."""

    @property
    def url(self) -> str:
        """The SDK's `base_url`. Raises IllegalState outside of the `async with`."""
        return f"http://{self.address}/v1"

    async def admit(self, request: HTTPRequest) -> bool:
        """Refuse other keys, and as many requests as `refuse` says."""
        if self.refuse > 0:
            self.refuse -= 1
            await error(request, 503, "The engine is currently overloaded, please try again later", "server_error")
        elif request.headers.get("authorization", "") != (f"Bearer {self.key}" if self.key else ""):
            message = "Incorrect API key provided: te**st. You can find your API key at https://platform.openai.com."
            await error(request, 401, message, "invalid_request_error", "invalid_api_key")
        else:
            return True
        return False

    async def check(self, request: HTTPRequest, body: dict[str, Any]) -> bool:
        """Refuse unknown models and fields. Returns True if the request goes on."""
        for name in body:
            if name in self.unknown:
                message = f"Unrecognized request argument supplied: {name}"
                await error(request, 400, message, "invalid_request_error", "unknown_parameter", name)
                return False
        if self.models and body.get("model") not in self.models:
            message = f"The model `{body.get('model')}` does not exist or you do not have access to it."
            await error(request, 404, message, "invalid_request_error", "model_not_found")
            return False
        return True


def plain_fields(value: Any, known: Any) -> None:
    """Check a message that the server is about to send by a type of the SDK. Raises ConfigurationError.

    The SDK's types accept any field: one that `known` does not declare is an error here.
    """
    made = known.model_validate(value)
    unknown = _undeclared(made, type(made).__name__)
    if unknown:
        raise ConfigurationError(f"the SDK's types have no field {', '.join(unknown)}")


def _undeclared(value: Any, where: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, list):
        for one in value:
            found += _undeclared(one, where)
    elif hasattr(value, "model_extra"):
        found += [f"{where}.{name}" for name in value.model_extra or ()]
        for name in type(value).model_fields:
            found += _undeclared(getattr(value, name, None), f"{where}.{name}")
    return found


async def error(
    request: HTTPRequest,
    status: int,
    message: str,
    kind: str,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> None:
    """Answer with an error in the provider's form."""
    value = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    await request.answer_json(status, value, headers)


async def reject(request: HTTPRequest, act: Reject) -> None:
    """Refuse a request as the script has it."""
    headers = {} if act.retry_after_s is None else {"Retry-After": f"{act.retry_after_s:g}"}
    kind = {429: "requests", 401: "authentication_error"}.get(act.status, "invalid_request_error")
    kind = "server_error" if act.status >= 500 else kind
    await error(request, act.status, act.message, kind, act.code or None, headers=headers)
