"""The test kit: a virtual clock, a call with a simulated caller, mock services, scripted vendors.

`duologue.testing.conformance` holds an engine to the engine contract. Nothing in the test kit needs a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from .call import BareCall as BareCall
    from .call import Call as Call
    from .call import Probe as Probe
    from .caller import Line as Line
    from .caller import SimulatedCaller as SimulatedCaller
    from .chatting import Chat as Chat
    from .chatting import chat as chat
    from .clock import Deadlock as Deadlock
    from .clock import run as run
    from .clock import sweep as sweep
    from .mocks import MockLLM as MockLLM
    from .mocks import MockSTT as MockSTT
    from .mocks import MockTTS as MockTTS
    from .one_processor import Ran as Ran
    from .one_processor import Upstream as Upstream
    from .one_processor import run_processor as run_processor
    from .replaying.run import Replay as Replay
    from .replaying.run import replay as replay
    from .replaying.script import CannotReplay as CannotReplay
    from .reply import Reply as Reply
    from .reply import ReplyCall as ReplyCall
    from .scripted.elevenlabs import ScriptedElevenLabs as ScriptedElevenLabs
    from .scripted.elevenlabs_http import ScriptedElevenLabsHTTP as ScriptedElevenLabsHTTP
    from .scripted.google import ScriptedGemini as ScriptedGemini
    from .scripted.manners import FAULTS as FAULTS
    from .scripted.manners import Manners as Manners
    from .scripted.openai import ScriptedOpenAI as ScriptedOpenAI
    from .scripted_llm import ScriptedLLM as ScriptedLLM
    from .scripted_llm import calls as calls
    from .scripted_llm import hands_off as hands_off

_HOMES = {
    "call": "BareCall Call Probe",
    "caller": "Line SimulatedCaller",
    "chatting": "Chat chat",
    "clock": "Deadlock run sweep",
    "mocks": "MockLLM MockSTT MockTTS",
    "one_processor": "Ran Upstream run_processor",
    "replaying.run": "Replay replay",
    "replaying.script": "CannotReplay",
    "reply": "Reply ReplyCall",
    "scripted.elevenlabs": "ScriptedElevenLabs",
    "scripted.elevenlabs_http": "ScriptedElevenLabsHTTP",
    "scripted.google": "ScriptedGemini",
    "scripted.manners": "FAULTS Manners",
    "scripted.openai": "ScriptedOpenAI",
    "scripted_llm": "ScriptedLLM calls hands_off",
}

__all__, __getattr__ = lazily(__name__, _HOMES, globals())
