"""`ListeningFlux`: a connection to a scripted Deepgram's `/v2/listen`, which finds the caller's turns."""

from __future__ import annotations

from itertools import count
from typing import Any, Literal, TypeAlias

from ..tones import TurnFinder
from .deepgram_connection import REQUEST_ID
from .deepgram_listen import CONFIDENCE, Listening

FluxEvent: TypeAlias = Literal["Update", "StartOfTurn", "EagerEndOfTurn", "TurnResumed", "EndOfTurn"]
THRESHOLDS = {"eot_threshold": (0.5, 1.0), "eager_eot_threshold": (0.3, 0.9), "eot_timeout_ms": (500, 60_000)}


class ListeningFlux(Listening):
    """Tells the caller's turns, as they are found in the audio or as a test calls `tell`."""

    unimportant = ("languages",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._numbers = count()
        self._finder = TurnFinder(self.rate, min(self.behaviour.eager_ms, self.behaviour.silence_ms))
        self._eager_wanted = "eager_eot_threshold" in self.got.query
        self.turn = 0
        """The index of the turn."""
        self._in_turn = False
        self._silent_s: float | None = None  # seconds of audio at which the caller fell silent
        self._eager = False

    def opened(self) -> None:
        """Confirm the connection."""
        self.send("Connected", request_id=REQUEST_ID, sequence_id=next(self._numbers))

    # -- turns -------------------------------------------------------------------------------------------------------

    def tell(self, event: FluxEvent, text: str = "", trigger: str = "model") -> None:
        """Send a `TurnInfo` with the text that the turn has by now."""
        if event == "StartOfTurn":
            self._in_turn, self._interims = True, 0
        timed = self.spread(text.split(), self.began_s, self._silent_s or self.heard_s)
        told: dict[str, Any] = {"trigger": trigger} if event == "EndOfTurn" else {}
        if self.got.query["model"] == ["flux-general-multi"]:
            told["languages"] = self.got.query.get("language_hint", ["en"])
        confidence = {"EndOfTurn": 0.9, "EagerEndOfTurn": 0.6}.get(event, 0.1)
        fields = {
            "request_id": REQUEST_ID,
            "event": event,
            "turn_index": self.turn,
            "audio_window_start": round(self.began_s, 3),
            "audio_window_end": round(self.heard_s, 3),
            "transcript": text,
            "words": [{"word": w, "confidence": CONFIDENCE, "start": b, "end": e} for w, b, e in timed],
            "end_of_turn_confidence": confidence,
            **told,
        }
        times = self.behaviour.answers if event == "EndOfTurn" else 1
        times += event == "EndOfTurn" and self.manners.draw("repeated-end", self.part, text)
        for _ in range(times):
            self.send("TurnInfo", sequence_id=next(self._numbers), **fields)
        if event == "EndOfTurn":
            if self.manners.draw("late-pieces", self.part, text):
                self.send(
                    "TurnInfo", sequence_id=next(self._numbers), **{**fields, "event": "Update"} | {"trigger": None}
                )
            self.got.utterances.append(self.spoken)
            self._in_turn, self._silent_s, self._eager = False, None, False
            self.turn += 1

    def take_audio(self, pcm: bytes) -> None:
        """Take audio, and tell what has become of the turn."""
        self.got.audio += pcm
        if self.behaviour.turn_detection == "told":
            return
        for found in self._finder.feed(pcm):
            at_s = found.at / self.rate
            if not found.begun:
                self._silent_s = at_s
                self._may_end()
            elif not self._in_turn:
                self._from = found.at * 2
                self.tell("StartOfTurn")
            else:
                self._silent_s = None
                if self._eager:
                    self._eager = False
                    self.tell("TurnResumed", self._so_far())
        silent_s = 0.0 if self._silent_s is None else self.heard_s - self._silent_s
        if self._in_turn and silent_s >= self.behaviour.silence_ms / 1000:
            self._end("model")
        elif self._in_turn and self._silent_s is None:
            self._update()

    def _update(self) -> None:
        if self.due():
            self.tell("Update", self._so_far())

    def _so_far(self) -> str:
        return self.understood(self.spoken, whole=False, words=self._interims)

    def _may_end(self) -> None:
        if not self._eager_wanted or self.behaviour.silence_ms <= self.behaviour.eager_ms:
            return
        texts = self.behaviour.eager_texts
        pcm = self.spoken
        text = texts.pop(0) if texts else self.understood(pcm, whole=False, words=10_000)
        if text:
            self._eager = True
            self.tell("EagerEndOfTurn", text)

    def _end(self, trigger: str) -> None:
        manners, where = self.manners, f"turn {self.turn}"
        if trigger == "model" and manners.draw("missing-end", self.part, where):
            self._silent_s = float("inf")  # until the client forces it
            return
        self.wait(self.behaviour.answer_delay_s)
        if manners.draw("stall-before", self.part, where):
            self.wait(manners.stall_s())
        self.tell("EndOfTurn", self.understood(self.spoken, whole=True), trigger)
        self._from = len(self.got.audio)

    # -- messages ----------------------------------------------------------------------------------------------------

    def take(self, message: dict[str, Any]) -> None:
        """End the turn, or change the configuration."""
        if message["type"] == "ForceEndTurn":
            if self._in_turn:
                self._silent_s = None
                self._end("manual")
        elif message["type"] == "Configure":
            self._configure(message)

    def _configure(self, message: dict[str, Any]) -> None:
        thresholds = message.get("thresholds") or {}
        wrong = [name for name, value in thresholds.items() if not _within(value, *THRESHOLDS[name])]
        if message.get("language_hints") and self.got.query["model"] != ["flux-general-multi"]:
            wrong.append("language_hints")
        told: dict[str, Any] = {"request_id": REQUEST_ID, "sequence_id": next(self._numbers)}
        if wrong:
            text = f"invalid: {', '.join(wrong)}"
            self.send("ConfigureFailure", code="INVALID_CONFIGURATION", description=text, **told)
            return
        self._eager_wanted = self._eager_wanted or "eager_eot_threshold" in thresholds
        told |= {name: message[name] for name in ("language_hints", "numerals") if message.get(name) is not None}
        self.send("ConfigureSuccess", thresholds=thresholds, keyterms=message.get("keyterms") or [], **told)

    async def refuse(self, message: str, reason: str) -> None:
        """Send an error, and close the connection."""
        number = next(self._numbers)
        self.send("Error", sequence_id=number, code="UNPARSABLE_CLIENT_MESSAGE", description=reason)
        await self.written()
        await self.close(1008, "UNPARSABLE_CLIENT_MESSAGE")


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low <= value <= high
