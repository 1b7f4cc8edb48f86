"""`Consent`: nothing of a call's audio is kept, or even heard, before the caller has agreed to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from ..audio.pcm import BYTES_PER_SAMPLE
from ..errors import BadInput, ConfigurationError
from .boundary import enters
from .host import SessionHost

Needed = Literal["nothing", "recording", "listening"]
MAX_BY = 200
"""Characters of the origin of a consent."""


class Consent:
    """The caller's consent: `session.audio.consent`.

    `require("recording")`: a `Recorder` and the audio of a trace keep nothing of either side until `give`.
    `require("listening")`, for an agent that listens to a room: besides, the pipeline gets silence for the caller's
    audio. `withdraw` ends both from that moment on, also in a call that required nothing. Each change is a note in the
    log, and thus in the rows and in the trace; the model is not told.
    """

    __slots__ = ("_changed", "_host", "given", "needed", "since")

    def __init__(self, host: SessionHost, changed: Callable[[], None]) -> None:
        self.needed: Needed = "nothing"
        """The acts that need the consent."""
        self.given = True
        """True if the audio may be kept: the consent was given, or none is needed."""
        self.since = 0.0
        """Session time of the last change of `given`, in seconds."""
        self._host = host
        self._changed = changed

    def __repr__(self) -> str:
        return f"<Consent to {self.needed}: {'given' if self.given else 'not given'}>"

    @property
    def hears(self) -> bool:
        """True if the pipeline may get the caller's audio."""
        return self.given or self.needed != "listening"

    def require(self, needed: Needed) -> None:
        """Require the consent from now on, for "recording" or "listening"; "nothing" for none.

        Call it before the session runs, or later: nothing is kept then until the caller agrees. Raises
        ConfigurationError for another value.
        """
        if needed not in get_args(Needed):
            raise ConfigurationError(f"a consent is to {', '.join(get_args(Needed))}, not {needed!r}")
        self.needed = needed
        self._set(needed == "nothing")

    def give(self, *, by: str = "caller") -> None:
        """The caller agrees. `by` names the origin, such as "caller" or the button. Does nothing if they have already.

        Raises BadInput unless `by` is a text of 1 to 200 characters.
        """
        self._change(True, by)

    def withdraw(self, *, by: str = "caller") -> None:
        """The caller does not agree any longer: nothing is kept of the audio that is heard from now on.

        Raises BadInput unless `by` is a text of 1 to 200 characters.
        """
        self._change(False, by)

    def kept(self, pcm: bytes, sample_rate: int, at: float) -> tuple[bytes, float]:
        """Return the part of mono s16le audio that may be kept, and the session time of its first sample in seconds."""
        if not self.given:
            return b"", at
        if at >= self.since or not self.since:
            return pcm, at
        early = min(round((self.since - at) * sample_rate), len(pcm) // BYTES_PER_SAMPLE)
        return pcm[BYTES_PER_SAMPLE * early :], at + early / sample_rate

    def _change(self, given: bool, by: str) -> None:
        if not isinstance(by, str) or not 1 <= len(by) <= MAX_BY:
            raise BadInput(f"the origin of a consent is a text of 1 to {MAX_BY} characters, not {by!r:.60}")
        if given == self.given:
            return
        if self.needed == "nothing":
            self.needed = "recording"  # withdrawn in a call that did not ask
        self._set(given)
        data = {"consent": "given" if given else "withdrawn", "to": self.needed, "by": by}
        self._host.session.conversation.add("note", "system", name="consent", data=data)

    def _set(self, given: bool) -> None:
        self.given, self.since = given, self._host.now()
        self._changed()


enters(Consent, "give", "require", "withdraw")
