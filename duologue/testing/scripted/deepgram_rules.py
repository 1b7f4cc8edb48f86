"""The rules of Deepgram's wire, from its SDK's own types: what a connection takes, and what it may send."""

from __future__ import annotations

import inspect
import json
from typing import Any, get_args

from ...errors import BadInput, MissingExtra

try:
    from deepgram.core.pydantic_utilities import UniversalBaseModel
    from deepgram.listen.v1 import client as listen_v1
    from deepgram.listen.v1 import types as heard
    from deepgram.listen.v2 import client as listen_v2
    from deepgram.listen.v2 import types as flux
    from deepgram.speak.v1 import client as speak_v1
    from deepgram.speak.v1 import types as aura
    from deepgram.speak.v2 import client as speak_v2
    from deepgram.speak.v2 import types as turns
    from deepgram.types.listen_v1model import ListenV1Model
    from deepgram.types.listen_v2model import ListenV2Model
    from deepgram.types.speak_v1model import SpeakV1Model
except ImportError as error:
    raise MissingExtra("a scripted Deepgram", "deepgram", str(error)) from error


def _literals(union: Any) -> frozenset[str]:
    """Return the texts of the literals in a union."""
    return frozenset(text for part in get_args(union) for text in get_args(part) if isinstance(text, str))


def _parameters(client: Any) -> frozenset[str]:
    """Return the query parameters of the SDK's `connect`."""
    return frozenset(inspect.signature(client.connect).parameters) - {"self", "authorization", "request_options"}


PARAMETERS = {
    "/v1/listen": _parameters(listen_v1.AsyncV1Client),
    "/v2/listen": _parameters(listen_v2.AsyncV2Client),
    "/v1/speak": _parameters(speak_v1.AsyncV1Client),
    "/v2/speak": _parameters(speak_v2.AsyncV2Client),
}
"""The query parameters of each address."""
MODELS = {
    "/v1/listen": _literals(ListenV1Model),
    "/v2/listen": _literals(ListenV2Model),
    "/v1/speak": _literals(SpeakV1Model),
    "/v2/speak": frozenset({"flux-alexis-en", "flux-haley-en"}),
}
"""The models that the SDK knows; for Flux TTS, which it leaves open, the two of Deepgram's documents."""

_Types = dict[str, type[UniversalBaseModel]]
_TAKEN: dict[str, _Types] = {
    "/v1/listen": {
        "KeepAlive": heard.ListenV1KeepAlive,
        "Finalize": heard.ListenV1Finalize,
        "CloseStream": heard.ListenV1CloseStream,
        "Configure": heard.ListenV1Configure,
    },
    "/v2/listen": {
        "CloseStream": flux.ListenV2CloseStream,
        "Configure": flux.ListenV2Configure,
        "ForceEndTurn": flux.ListenV2ForceEndTurn,
    },
    "/v1/speak": {
        "Speak": aura.SpeakV1Text,
        "Flush": aura.SpeakV1Flush,
        "Clear": aura.SpeakV1Clear,
        "Close": aura.SpeakV1Close,
    },
    "/v2/speak": {
        "Speak": turns.SpeakV2Speak,
        "Flush": turns.SpeakV2Flush,
        "Interrupt": turns.SpeakV2Interrupt,
        "Configure": turns.SpeakV2Configure,
        "Close": turns.SpeakV2Close,
    },
}
_SENT: dict[str, _Types] = {
    "/v1/listen": {
        "Results": heard.ListenV1Results,
        "Metadata": heard.ListenV1Metadata,
        "SpeechStarted": heard.ListenV1SpeechStarted,
        "UtteranceEnd": heard.ListenV1UtteranceEnd,
        "Error": heard.ListenV1Error,
        "ConfigureSuccess": heard.ListenV1ConfigureSuccess,
        "ConfigureFailure": heard.ListenV1ConfigureFailure,
    },
    "/v2/listen": {
        "Connected": flux.ListenV2Connected,
        "TurnInfo": flux.ListenV2TurnInfo,
        "ConfigureSuccess": flux.ListenV2ConfigureSuccess,
        "ConfigureFailure": flux.ListenV2ConfigureFailure,
        "Warning": flux.ListenV2Warning,
        "Error": flux.ListenV2FatalError,
    },
    "/v1/speak": {
        "Metadata": aura.SpeakV1Metadata,
        "Flushed": aura.SpeakV1Flushed,
        "Cleared": aura.SpeakV1Cleared,
        "Warning": aura.SpeakV1Warning,
    },
    "/v2/speak": {
        "Connected": turns.SpeakV2Connected,
        "SpeechStarted": turns.SpeakV2SpeechStarted,
        "SpeechMetadata": turns.SpeakV2SpeechMetadata,
        "Flushed": turns.SpeakV2Flushed,
        "SpeechInterrupted": turns.SpeakV2SpeechInterrupted,
        "ConfigureSuccess": turns.SpeakV2ConfigureSuccess,
        "ConfigureFailure": turns.SpeakV2ConfigureFailure,
        "SessionMetadata": turns.SpeakV2SessionMetadata,
        "Warning": turns.SpeakV2Warning,
        "Error": turns.SpeakV2Error,
    },
}


def read_taken(path: str, text: str) -> dict[str, Any]:
    """Return a message of the client. Raises BadInput unless it is one of the SDK's, without an unknown key."""
    try:
        message = json.loads(text)
    except ValueError as error:
        raise BadInput(f"not JSON: {error}") from error
    _check(_TAKEN[path], path, message)
    assert isinstance(message, dict)
    return message


def check_sent(path: str, message: dict[str, Any]) -> None:
    """Raise BadInput unless a message of the server is one of the SDK's."""
    _check(_SENT[path], path, message)


def _check(types: _Types, path: str, message: Any) -> None:
    kind = types.get(str(message.get("type"))) if isinstance(message, dict) else None
    if kind is None:
        raise BadInput(f"{path} has no such message: {str(message)[:200]}")
    _check_keys(kind, message, message["type"])
    try:
        kind.model_validate(message)
    except ValueError as error:
        raise BadInput(f"{message['type']} on {path}: {error}") from error


def _check_keys(kind: Any, message: dict[str, Any], where: str) -> None:
    """Raise BadInput for a key that the SDK's type does not have, at any depth. The types themselves allow all keys."""
    unknown = message.keys() - kind.model_fields.keys()
    if unknown:
        raise BadInput(f"{where} has unknown fields: {', '.join(sorted(unknown))}")
    for name, value in message.items():
        inner = _model_in(kind.model_fields[name].annotation)
        if inner is not None:
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, dict):
                    _check_keys(inner, part, f"{where}.{name}")


def _model_in(annotation: Any) -> Any:
    """Return the model in an annotation such as `Optional[List[Model]]`, None without one."""
    if isinstance(annotation, type) and issubclass(annotation, UniversalBaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
