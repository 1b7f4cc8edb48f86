"""The flight recorder: what happens in a call, on disk while it happens."""

from .keys import BadKey, make_key, public_key
from .opening import open_store
from .reader import Records, read
from .records import PRIVATE, BadTrace, Record
from .redaction import Redaction, redact
from .redis import RedisStore
from .resume import CallTaken, Resume
from .sqlite import SqliteStore
from .state import TraceState, state_of
from .store import FolderStore, Store
from .trace import Trace
from .verification import Problem, Verification, verify
from .writer import TakenOver, TraceFailed

__all__ = [
    "PRIVATE",
    "BadKey",
    "BadTrace",
    "CallTaken",
    "FolderStore",
    "Problem",
    "Record",
    "Records",
    "Redaction",
    "RedisStore",
    "Resume",
    "SqliteStore",
    "Store",
    "TakenOver",
    "Trace",
    "TraceFailed",
    "TraceState",
    "Verification",
    "make_key",
    "open_store",
    "public_key",
    "read",
    "redact",
    "state_of",
    "verify",
]
