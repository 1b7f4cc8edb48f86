"""`ServicesAtWork`: the services that a call uses now, as spans and metrics name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..agents.engine import Engine
from ..frames import BotAudio, BotText, UserTranscript
from ..processors.kernel.groups import active_leaves, members
from ..processors.kernel.node import Node

ServiceKind = Literal["stt", "llm", "tts", "engine"]

PROVIDERS = {
    "openai": "openai",
    "google": "gcp.gemini",
    "deepgram": "deepgram",
    "elevenlabs": "elevenlabs",
    "cartesia": "cartesia",
    "assemblyai": "assemblyai",
    "whisper": "whisper",
    "piper": "piper",
    "local": "duologue",
}
"""`gen_ai.provider.name` of the packages of services."""
IN_PROCESS = frozenset({"whisper", "piper", "duologue"})


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """A service: its name in the pipeline, its model, and its provider."""

    kind: ServiceKind
    name: str
    model: str
    provider: str

    @property
    def in_process(self) -> bool:
        """True for a service that runs in this process."""
        return self.provider in IN_PROCESS


class ServicesAtWork:
    """Finds the services of a session, again after each change of engines or services."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._found: dict[ServiceKind, ServiceFacts] | None = None

    def forget(self) -> None:
        """Look again: another engine, service or agent is at work."""
        self._found = None

    def get(self, kind: ServiceKind) -> ServiceFacts | None:
        """Return the service of a kind, None without one."""
        if self._found is None:
            self._found = {}
            for node in active_leaves(self._session.pipeline):
                if isinstance(node, Node) and (found := _facts(node)) is not None:
                    self._found.setdefault(found.kind, found)
        return self._found.get(kind)

    @property
    def model(self) -> ServiceFacts | None:
        """The native engine or the language model."""
        return self.get("engine") or self.get("llm")

    def of(self, name: str) -> ServiceFacts | None:
        """Return the service with this name in the pipeline, None without one."""
        kinds: tuple[ServiceKind, ...] = ("stt", "llm", "tts", "engine")
        return next((found for kind in kinds if (found := self.get(kind)) is not None and found.name == name), None)

    def knows_tool(self, name: str) -> bool:
        """Return True for the name of a tool that a model has, False for one that it has invented."""
        engines = (node for node in members(self._session.pipeline) if isinstance(node, Engine))
        return any(tool.name == name for engine in engines for tool in engine.config.tools)


def _facts(node: Node) -> ServiceFacts | None:
    gives, kind = type(node).gives, None
    if BotAudio in gives:
        kind = "engine" if UserTranscript in gives else "tts"
    elif BotText in gives:
        kind = "llm"
    elif UserTranscript in gives:
        kind = "stt"
    if kind is None or not hasattr(node, "model"):
        return None
    working = getattr(node, "at_work", node)
    model = getattr(getattr(node, "config", None), "model", "") or working.model
    return ServiceFacts(kind, node.name, str(model or ""), provider_of(working))  # type: ignore[arg-type]


def provider_of(service: object) -> str:
    """Return the provider of a service: its attribute `provider`, that of its package, or the name of its class."""
    if isinstance(named := getattr(service, "provider", None), str) and named:
        return named
    for base in type(service).__mro__:
        place = base.__module__.split(".")
        if place[:2] == ["duologue", "services"] and len(place) > 2 and place[2] in PROVIDERS:
            return PROVIDERS[place[2]]
    return type(service).__name__
