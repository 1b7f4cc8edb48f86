"""The weights of `judge`: the log-odds that a caller goes on after a pause.

`python -m benchmarks.turns.fit` has fitted them on the tuning set, with four languages in one. Those with
few cases there are set by hand: "answer", "full number" and "open, but punctuated". So is "closed": in calls thanks are
all more often than in the tuning set. So is "marked question": the set has no punctuation, and a recogniser that writes
a question mark has also heard the melody.
"""

from __future__ import annotations

RULES = {
    "answer": -0.5,
    "bare answer": 4.12,
    "clause begun": 4.07,
    "closed": 0.1,
    "detail": 2.59,
    "filler": 5.77,
    "fragment": 2.79,
    "full number": 0.3,
    "marked question": 0.6,
    "number": 4.11,
    "open": 5.79,
    "open, but punctuated": 1.8,
    "question": 2.30,
    "short statement": 3.55,
    "spelling": 4.28,
    "statement": 3.07,
}
"""By the rule that the end of the text falls under."""
ASKED = {"": -0.07, "yes_no": -0.52, "detail": 0.19, "digits": 0.06, "story": 0.00, "dictation": 3.56}
"""By what the agent has asked for; a story is what is asked for at the beginning of a call."""
PAUSES = (0.0, -0.54, -1.64, -1.64)
"""By the number of pauses that the turn has had before this one; the last one is for more. They never grow."""
WORD, MOST_WORDS = -0.306, 12
"""The weight of each word of the turn, and the number of words that count."""
PATIENT_FROM = 3.5
"""The sum from which the silence is the patient one. At 0 it is the usual one, below 0 the quick one."""
BRIEF, BRIEF_PATIENCE = frozenset({"bare answer", "detail", "open, but punctuated"}), 0.15
"""Rules with little patience, and its most, set by hand: in calls a "yes" is all more often than in the tuning set."""
