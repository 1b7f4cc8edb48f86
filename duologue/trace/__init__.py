"""The flight recorder: what happens in a call, on disk while it happens."""

from .reader import Records, read
from .records import PRIVATE, BadTrace, Record
from .store import FolderStore, Store
from .trace import Trace

__all__ = ["PRIVATE", "BadTrace", "FolderStore", "Record", "Records", "Store", "Trace", "read"]
