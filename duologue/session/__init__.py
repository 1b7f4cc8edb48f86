"""One call: the conversation, the playout ledger, the floor, usage, deadlines and tasks."""

from ..processors.kernel.host import Deadlines
from .conversation import Conversation
from .error_desk import end_on_fatal
from .floor import Floor
from .item import Item
from .ledger import Heard, Ledger
from .life import Outcome, State
from .session import Session
from .usage import UsageTotals

__all__ = [
    "Conversation",
    "Deadlines",
    "Floor",
    "Heard",
    "Item",
    "Ledger",
    "Outcome",
    "Session",
    "State",
    "UsageTotals",
    "end_on_fatal",
]
