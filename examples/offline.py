"""What the other examples share: a cascade that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from duologue import Cascade
from duologue.services.local import Dialogue, EspeakTTS, Rule, RulesLLM, SphinxSTT


def offline(rules: Dialogue | Sequence[Rule], voices: Mapping[str, str] | None = None) -> Cascade:
    """It understands what the rules expect. `voices` are other names for espeak-ng's."""
    llm = RulesLLM(rules)
    return Cascade(SphinxSTT(phrases=llm.rules.expected_phrases()), llm, EspeakTTS(aliases=voices))
