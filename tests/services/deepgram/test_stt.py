"""`DeepgramSTT` over the real SDK, with a scripted Deepgram."""

from __future__ import annotations

import pytest

from tests.services.deepgram.calls import hearing


async def test_utterances_are_transcribed_one_after_the_other_over_one_connection() -> None:
    async with hearing(transcripts=["Hello there.", "And goodbye."]) as caller:
        first = await caller.utters()
        assert await caller.transcribed(1) == ["Hello there."]
        second = await caller.utters(50)
        assert await caller.transcribed(2) == ["Hello there.", "And goodbye."]
        (got,) = caller.server.got
        assert got.utterances == [first, second]
        assert [usage.input_audio_s for usage in caller.usage] == [pytest.approx(0.4), pytest.approx(1.0)]
        said = caller.finals()[1]
        assert [word.text for word in said.words] == ["And ", "goodbye. "]
        assert [word.start_s for word in said.words] == pytest.approx([0.0, 0.5], abs=0.01)
        assert [word.end_s for word in said.words] == pytest.approx([0.5, 1.0], abs=0.01)
        assert said.confidence == 0.9
    assert got.kinds()[-1] == "CloseStream"
