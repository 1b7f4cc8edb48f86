"""Shared by the other examples: a cascade that does not need a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from duologue import Cascade
from duologue.services.local import Dialogue, EspeakTTS, Rule, RulesLLM, SphinxSTT


def offline(rules: Dialogue | Sequence[Rule], voices: Mapping[str, str] | None = None) -> Cascade:
    """Return a cascade that understands the phrases of the rules. `voices` maps other names to espeak-ng's voices."""
    llm = RulesLLM(rules)
    return Cascade(SphinxSTT(phrases=llm.rules.expected_phrases()), llm, EspeakTTS(aliases=voices))
