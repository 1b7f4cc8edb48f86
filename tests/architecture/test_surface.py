"""The public names: what users import from `duologue`, and that asking for them is cheap."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import duologue
from duologue import frames
from duologue.frames import frame_types

PUBLIC = """
    Agent BadInput CallLimit CallerGuardrail Capabilities Cascade ConfigurationError Conversation Correction
    DeadlineExceeded Deadlines DuologueError Ear EchoCancellation Endpointing EndpointingPolicy Engine Fallback Feed
    Flow Frustration FrustrationPolicy Guardrail Handoff IdlePrompts IllegalState Interruption InterruptionPolicy
    Item LLM LocalAudioTransport Memory MemoryTransport MissingExtra ModelCheck ModelNotes NoiseSuppression Outcome
    Passage Pipeline Processor Profile Reading Recorder Retrieval STT ServiceError Session SileroVad Skill SmartTurn
    SpeechToSpeech Stage Switch TTS Tee Term Tool ToolError Tools TurnPolicy Vad VadPolicy Verdict Vocabulary
    WavTransport WebRTCTransport WebSocketTransport __version__ handles run
"""


def test_the_public_names() -> None:
    assert sorted(duologue.__all__) == sorted(PUBLIC.split())
    assert set(duologue.__all__) <= set(dir(duologue))


@pytest.mark.parametrize("name", sorted(PUBLIC.split()))
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(duologue, name)
    assert name == "__version__" or value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(duologue.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        (node.module, alias.asname): alias.name
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name for _, name in imported} == set(duologue.__all__) - {"__version__"}
    for (module, name), original in imported.items():
        assert name == original
        assert name in duologue._HOMES[str(module)].split()


def test_an_unknown_name_is_named_in_the_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = duologue.Nonsense


def test_the_import_loads_none_of_the_modules_behind_the_names() -> None:
    program = "import sys, duologue; print([name for name in sys.modules if name.startswith('duologue.')])"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "['duologue._lazy']"


TAGS = """
    AccessChanged Affect ApprovalGiven ApprovalWanted AudioLevel BotAudio BotPaused BotResumed BotStartedSpeaking
    BotStoppedSpeaking BotText CallResumed CallerStartedSpeaking CallerStoppedSpeaking ClientChanged Configure
    ConnectionChanged Dismissed Dtmf EagerEndOfTurn End EndOfTurn ErrorRaised FrustrationChanged GuardrailActed
    HandoffCompleted HandoffFailed HandoffStarted Idle Interrupted Respond ResponseEnded ResponseStarted
    ResumptionHandle Say ServiceChanged SessionEnding SessionStarted SpeechStarted SpeechStopped StateChanged ToolBegan
    ToolCall ToolCalled ToolResult Transcribed Transfer TurnResumed Usage UserAudio UserImage UserText UserTranscript
    WordTimes
"""


def test_the_wire_tags_of_frames_are_written_out_and_do_not_change() -> None:
    ours = [frame_type for frame_type in frame_types() if frame_type.__module__.startswith("duologue.frames.")]
    assert sorted(str(frame_type.__struct_config__.tag) for frame_type in ours) == sorted(TAGS.split())
    sources = "".join(path.read_text() for path in Path(frames.__file__).parent.glob("*.py"))
    written = re.findall(r'tag="(\w+)"', sources)
    assert sorted(written) == sorted(TAGS.split())
