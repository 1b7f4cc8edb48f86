"""The listening connections of a scripted Deepgram: Nova, whose client ends the utterances, and Flux."""

from __future__ import annotations

from typing import Any

from .deepgram_connection import REQUEST_ID, DeepgramConnection
from .deepgram_script import DeepgramBehaviour, DeepgramGot
from .hearing import HearingConnection, Utterance

CONFIDENCE = 0.9
METADATA = {
    "request_id": REQUEST_ID,
    "model_info": {"name": "scripted", "version": "2026-11-01.0", "arch": "scripted"},
    "model_uuid": REQUEST_ID,
}


class Listening(DeepgramConnection, HearingConnection[DeepgramBehaviour, DeepgramGot]):
    """The base of Nova and Flux."""

    ending = "CloseStream"
    listens = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rate = int(self.got.query["sample_rate"][0])

    def spread(self, words: list[str], start_s: float, end_s: float) -> list[tuple[str, float, float]]:
        """Return words that share the time from `start_s` to `end_s`."""
        each_s = (end_s - start_s) / max(1, len(words))
        return [
            (word, round(start_s + n * each_s, 3), round(start_s + (n + 1) * each_s, 3)) for n, word in enumerate(words)
        ]


class ListeningNova(Listening):
    """`/v1/listen`: `Finalize` is answered with the rest of the utterance's text."""

    unimportant = ("speech_final", "entities")
    splits = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._final = 0
        """The number of words of the utterance that are final."""
        self._final_s = 0.0
        """Seconds of audio whose text is final."""

    def take_audio(self, pcm: bytes) -> None:
        """Take audio, and send an interim text if one is due."""
        self.got.audio += pcm
        final_words = self.behaviour.final_words
        if not (due := self.due()):
            return
        words = self.understood(self.spoken, whole=False, words=due).split()[self._final :]
        if words and self.got.query.get("interim_results") == ["true"]:
            self.result(words, final=False)
        if final_words and len(words) >= final_words:
            self.result(words, final=True)
            self._final += len(words)

    def take(self, message: dict[str, Any]) -> None:
        """Answer `Finalize` and `Configure`."""
        if message["type"] == "Finalize":
            said = self.ended()
            words = said.text.split()[self._final :]
            start_s = max(self._final_s, said.start_s)
            answers = bool(words) or not self._final or self.behaviour.answers_empty
            self._final, self._final_s = 0, said.end_s
            if answers:
                self.start(self.answer(Utterance(" ".join(words), start_s, said.end_s)))
        elif message["type"] == "Configure":
            self._configure(message)

    def _configure(self, message: dict[str, Any]) -> None:
        told = {"keyterms": message["keyterms"]} if message.get("keyterms") is not None else {}
        if told and not self.got.query["model"][0].startswith("nova-3"):
            code, text = "CONFIGURE_KEYTERMS_NOT_SUPPORTED", "The model has no keyterms."
            self.send("ConfigureFailure", request_id=REQUEST_ID, code=code, description=text)
        else:
            self.send("ConfigureSuccess", request_id=REQUEST_ID, **told)

    async def tell_final(self, said: Utterance, *, ends: bool, split: bool) -> None:
        """Send the text of an utterance, in one final segment for each word if it is `split`."""
        words, start_s, end_s = said.text.split(), said.start_s, said.end_s
        if not ends:
            self.result(words, final=True, start_s=start_s, end_s=end_s - 0.1)
        elif split or self.behaviour.split_answer:
            for word, begin_s, stop_s in self.spread(words, start_s, end_s - 0.05):
                self.result([word], final=True, start_s=begin_s, end_s=stop_s)
            self.result([], final=True, finalized=True, start_s=end_s - 0.05, end_s=end_s)
        else:
            self.result(words, final=True, finalized=True, start_s=start_s, end_s=end_s)

    async def tell_late(self, said: Utterance) -> None:
        """Send the text once more, without the answer to a `Finalize`."""
        self.result(said.text.split(), final=True, start_s=said.start_s, end_s=said.end_s)

    def result(
        self,
        words: list[str],
        *,
        final: bool,
        finalized: bool = False,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> None:
        """Send text for the audio from `start_s`, by default the end of the final text, to `end_s`, by default now."""
        start_s = max(self._final_s, self.began_s) if start_s is None else start_s
        end_s = self.heard_s if end_s is None else end_s
        if final and not finalized:
            self._final_s = max(self._final_s, end_s)
        timed = [
            {"word": w.strip(".,!?").lower(), "start": b, "end": e, "confidence": CONFIDENCE, "punctuated_word": w}
            for w, b, e in self.spread(words, start_s, end_s)
        ]
        alternative = {"transcript": " ".join(words), "confidence": CONFIDENCE if words else 0.0, "words": timed}
        self.send(
            "Results",
            channel_index=[0, 1],
            start=round(start_s, 3),
            duration=round(end_s - start_s, 3),
            is_final=final,
            speech_final=False,
            from_finalize=finalized,
            channel={"alternatives": [alternative]},
            metadata=METADATA,
        )

    async def refuse(self, message: str, reason: str) -> None:
        """Send an error: the connection stays open."""
        self.send("Error", variant="SchemaError", description=reason, message=message[:1000])

    async def ends(self) -> None:
        """Send the metadata."""
        self.send(
            "Metadata",
            transaction_key="deprecated",
            request_id=REQUEST_ID,
            sha256="",
            created="2026-11-01T00:00:00.000Z",
            duration=round(self.heard_s, 3),
            channels=1,
        )
        await self.written()
