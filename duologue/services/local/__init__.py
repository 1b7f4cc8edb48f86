"""Offline services: real speech both ways and a rule-based dialogue, from wheels alone (extra `local`)."""

from .dialogue import Dialogue, Rule, RuleBook, Rules, ToolUse
from .llm import RulesLLM
from .stt import SphinxSTT
from .tts import EspeakTTS

__all__ = ["Dialogue", "EspeakTTS", "Rule", "RuleBook", "Rules", "RulesLLM", "SphinxSTT", "ToolUse"]
