"""Offline services: speech recognition, speech synthesis and a rule-based dialogue. They need the extra `local`."""

from .dialogue import Dialogue, Rule, RuleBook, Rules, ToolUse
from .llm import RulesLLM
from .stt import SphinxSTT
from .tts import EspeakTTS

__all__ = ["Dialogue", "EspeakTTS", "Rule", "RuleBook", "Rules", "RulesLLM", "SphinxSTT", "ToolUse"]
