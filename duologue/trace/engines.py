"""`EngineFacts`: the agent, the engine, the models, the voice and the prompt with which a call is answered."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from ..agents.engine import Engine, EngineConfig
from ..processors.kernel.groups import active_leaves, active_members
from ..processors.kernel.node import Node

_SERVICES = __name__.split(".")[0] + ".services."
_SHARED = frozenset({"fallback", "native", "remote"})


class EngineFacts:
    """Tells the engine at work in a pipeline as plain data."""

    def __init__(self, pipeline: Node) -> None:
        self._pipeline = pipeline
        self._told: dict[str, Any] | None = None
        self._hashed: tuple[EngineConfig, str] | None = None

    def all(self) -> list[dict[str, Any]]:
        """Return all engines at work: one, or none in a pipeline without an engine."""
        found = (self._facts(node) for node in active_members(self._pipeline) if isinstance(node, Engine))
        return [facts for facts in found if facts is not None]

    def change(self) -> dict[str, Any] | None:
        """Return the engine at work if anything about it has changed since the last call, else None."""
        for node in active_members(self._pipeline):
            if isinstance(node, Engine):
                facts = self._facts(node)
                if facts is None or facts == self._told:
                    return None
                self._told = facts
                return facts
        return None

    def _facts(self, engine: Any) -> dict[str, Any] | None:
        try:
            return self._facts_of(engine)
        except Exception:  # of an application's engine
            return None

    def _facts_of(self, engine: Any) -> dict[str, Any]:
        config: EngineConfig = engine.config
        if self._hashed is None or self._hashed[0] is not config:
            self._hashed = config, sha256(config.prompt.encode(errors="replace")).hexdigest()
        return {
            "agent": config.agent,
            "engine": engine.name,
            "model": config.model or str(getattr(engine, "model", "") or ""),
            "voice": config.voice,
            "language": config.language,
            "prompt_sha256": self._hashed[1],
            "tools": [tool.name for tool in config.tools],
            "services": _services(engine),
        }


def _services(engine: Node) -> list[dict[str, str]]:
    found = []
    for node in active_leaves(engine):
        model, provider = getattr(node, "model", None), vendor_of(node)
        if isinstance(model, str) and (model or provider):
            found.append({"service": node.name, "provider": provider, "model": model})
    return found


def vendor_of(service: object) -> str:
    """Return the name of a service's vendor, "" for a service of the application."""
    for base in type(service).__mro__:
        vendor = base.__module__.removeprefix(_SERVICES).split(".")[0]
        if base.__module__.startswith(_SERVICES) and "." in base.__module__.removeprefix(_SERVICES):
            return "" if vendor in _SHARED else vendor
    return ""
