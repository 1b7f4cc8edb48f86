"""The voices and limits of OpenAI's realtime and transcription models, and the options that they refuse, as data.

Sources: the model pages and the Realtime guide of platform.openai.com and the types of the `openai` package, as of
November 2026. For a model that is not listed, no option is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

DEFAULT_MODEL = "gpt-realtime-2.1"
DEFAULT_VOICE = "marin"
OPENAI_IMAGE_TYPES = ("image/jpeg", "image/png")
SAMPLE_RATE = 24_000
"""The sample rate of the audio in both directions, in Hz: the only rate of the API's PCM."""


class ModelFamily(msgspec.Struct, frozen=True, kw_only=True):
    """The models that refuse the same options."""

    models: str
    """A regular expression for the model ids."""
    refuses: dict[str, str]
    """Options that these models refuse at any value, with the reasons."""


_ONLY_FAMILY_2 = "it is for the models of the family gpt-realtime-2"
_NO_KEYWORDS = "gpt-transcribe and gpt-live-transcribe have keywords"

REALTIME_FAMILIES = (
    ModelFamily(
        models=r"gpt-realtime((-1\.5|-mini)(-.*)?|-\d{4}-\d\d-\d\d)?|gpt-4o(-mini)?-realtime.*|gpt-audio.*",
        refuses={"reasoning": _ONLY_FAMILY_2, "parallel_tool_calls": _ONLY_FAMILY_2},
    ),
)
TRANSCRIPTION_FAMILIES = (
    ModelFamily(
        models=r"gpt-realtime-whisper.*",
        refuses={"keywords": _NO_KEYWORDS, "prompt": "the model has no prompt"},
    ),
    ModelFamily(models=r"whisper-1.*|gpt-4o-.*", refuses={"keywords": _NO_KEYWORDS}),
)


def refused_options(model: str, families: Iterable[ModelFamily]) -> dict[str, str]:
    """Return the options that a model refuses, with the reasons."""
    return next((family.refuses for family in families if re.fullmatch(family.models, model)), {})
