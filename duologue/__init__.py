"""Duologue: real-time voice agents as a pipeline of typed frames.

    session = Session(Pipeline([transport.input(), VadProcessor(), Endpointing(), Interruption(),
                                Cascade(stt, llm, tts), Tools(), transport.output()]))
    outcome = await session.run()

Frames are in `duologue.frames`, processors in `duologue.processors`, services in `duologue.services`, transports in
`duologue.transports`, and the test kit in `duologue.testing`.
"""

from .agents.agent import Agent
from .agents.flow import Flow, Stage
from .agents.tool import Tool
from .errors import (
    BadInput,
    ConfigurationError,
    DeadlineExceeded,
    DuologueError,
    IllegalState,
    MissingExtra,
    ServiceError,
    ToolError,
)
from .processors.handoff.handoff import Handoff
from .processors.pipeline import Pipeline
from .processors.processor import Processor, handles
from .processors.switch import Switch
from .processors.tee import Tee
from .processors.tools import Tools
from .services.cascade import Cascade
from .session import Deadlines, Outcome, Session

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "BadInput",
    "Cascade",
    "ConfigurationError",
    "DeadlineExceeded",
    "Deadlines",
    "DuologueError",
    "Flow",
    "Handoff",
    "IllegalState",
    "MissingExtra",
    "Outcome",
    "Pipeline",
    "Processor",
    "ServiceError",
    "Session",
    "Stage",
    "Switch",
    "Tee",
    "Tool",
    "ToolError",
    "Tools",
    "__version__",
    "handles",
]
