"""One call: the conversation, the playout ledger, the floor, usage, deadlines and tasks."""

from ..processors.kernel.lifecycle import Deadlines
from .conversation import Conversation, Item
from .floor import Floor
from .ledger import Heard, Ledger
from .session import Outcome, Session, State, end_on_fatal
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
