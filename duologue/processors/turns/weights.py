"""The weights of `judge`: the log-odds that a caller goes on after a pause.

`python -m benchmarks.turns.fit` has fitted them on the tuning set, with four languages in one. Those that it has no cases
for are set by hand.
"""

from __future__ import annotations

RULES = {
    "answer": -0.5,
    "bare answer": 1.6,
    "clause begun": 1.4,
    "closed": -0.6,
    "detail": -0.9,
    "filler": 2.1,
    "fragment": 0.5,
    "full number": 0.4,
    "number": 0.8,
    "open": 3.1,
    "open, but punctuated": 0.0,
    "question": -0.7,
    "short statement": 1.7,
    "spelling": 0.7,
    "statement": -0.7,
}
"""By the rule that the end of the text falls under."""
ASKED = {"": 0.0, "yes_no": -0.2, "detail": 0.5, "digits": 0.7, "story": 0.0, "dictation": 2.6}
"""By what the agent has asked for; a story is what is asked for at the beginning of a call."""
PAUSES = (0.0, -1.1, -1.4, -1.5)
"""By the number of pauses that the turn has had before this one; the last one is for more."""
PATIENT_FROM = 0.81
"""The sum from which the silence is the patient one; from 0 on it is the usual one, below 0 the quick one."""
