"""The weights of `judge`: the log-odds that a caller goes on after a pause.

`python -m benchmarks.turns.fit` has fitted them on the tuning set, with four languages in one. Those with
few cases there are set by hand: "answer", "full number" and "open, but punctuated".
"""

from __future__ import annotations

RULES = {
    "answer": -1.0,
    "bare answer": 2.39,
    "clause begun": 2.0,
    "closed": -0.85,
    "detail": -0.25,
    "filler": 3.24,
    "fragment": 1.23,
    "full number": -1.0,
    "number": 1.92,
    "open": 3.81,
    "open, but punctuated": 0.7,
    "question": -0.12,
    "short statement": 1.56,
    "spelling": 1.72,
    "statement": -0.01,
}
"""By the rule that the end of the text falls under."""
ASKED = {"": -0.61, "yes_no": -0.36, "detail": 0.37, "digits": 0.28, "story": 0.0, "dictation": 2.96}
"""By what the agent has asked for; a story is what is asked for at the beginning of a call."""
PAUSES = (0.0, -1.33, -1.91, -2.21)
"""By the number of pauses that the turn has had before this one; the last one is for more."""
PATIENT_FROM = 0.88
"""The sum from which the silence is the patient one; from 0 on it is the usual one, below 0 the quick one."""
NEVER_PATIENT = frozenset({"bare answer", "open, but punctuated"})
"""Rules with the usual silence at most, set by hand: in calls a "yes" is all more often than in the tuning set."""
