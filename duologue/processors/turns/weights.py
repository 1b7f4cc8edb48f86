"""The weights of `judge`: the log-odds that a caller goes on after a pause.

`python -m benchmarks.turns.fit` has fitted them on the tuning set, with four languages in one. Those with
few cases there are set by hand: the rules "full number" and "open, but punctuated", and no question of the agent.
"""

from __future__ import annotations

RULES = {
    "answer": -0.31,
    "bare answer": 1.94,
    "clause begun": 1.71,
    "closed": -1.29,
    "detail": -0.77,
    "filler": 2.83,
    "fragment": 0.89,
    "full number": -1.0,
    "number": 1.36,
    "open": 3.46,
    "open, but punctuated": 0.0,
    "question": -0.49,
    "short statement": 1.49,
    "spelling": 1.17,
    "statement": -0.2,
}
"""By the rule that the end of the text falls under."""
ASKED = {"": 0.0, "yes_no": 0.08, "detail": 0.77, "digits": 0.79, "story": 0.0, "dictation": 3.2}
"""By what the agent has asked for; a story is what is asked for at the beginning of a call."""
PAUSES = (0.0, -1.33, -1.95, -2.28)
"""By the number of pauses that the turn has had before this one; the last one is for more."""
PATIENT_FROM = 0.77
"""The sum from which the silence is the patient one; from 0 on it is the usual one, below 0 the quick one."""
NEVER_PATIENT = frozenset({"bare answer"})
"""Rules with the usual silence at most, set by hand: in calls a "yes" is all more often than in the tuning set."""
