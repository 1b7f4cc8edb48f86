"""`SettingsInForce`: the settings of one session of OpenAI Realtime, and their changes."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeAlias

from ...agents.engine import EngineConfig

SETUP_ID = "setup"
"""The id of the first settings."""
MAX_UNANSWERED = 64
"""The most changes that wait for an answer."""

SessionSettings: TypeAlias = tuple[EngineConfig, dict[str, Any]]


class SettingsInForce:
    """The settings that the provider has confirmed, and the changes that it has not answered yet."""

    def __init__(self, settings: SessionSettings) -> None:
        self.applied = self.wanted = settings
        """The settings in force, and those after all changes without an answer."""
        self._unanswered: deque[tuple[str, SessionSettings]] = deque()

    @property
    def input(self) -> dict[str, Any]:
        """The settings of the caller's audio that are in force."""
        settings: dict[str, Any] = self.applied[1]["audio"]["input"]
        return settings

    @property
    def full(self) -> bool:
        """True while no further change can be sent."""
        return len(self._unanswered) >= MAX_UNANSWERED

    def send(self, change_id: str, settings: SessionSettings) -> None:
        """Note a change that is sent."""
        self._unanswered.append((change_id, settings))
        self.wanted = settings

    def confirm(self) -> str:
        """Put the oldest change in force, and return its id. Returns "" if every change has its answer."""
        if not self._unanswered:
            return ""
        change_id, self.applied = self._unanswered.popleft()
        return change_id

    def refuse(self, change_id: str) -> bool:
        """Forget a change that the provider has refused. Returns False if it does not wait for an answer."""
        left = [entry for entry in self._unanswered if entry[0] != change_id]
        if len(left) == len(self._unanswered):
            return False
        self._unanswered = deque(left)
        self.wanted = left[-1][1] if left else self.applied
        return True
