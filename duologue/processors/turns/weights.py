"""The weights of `judge`: the log-odds that a caller goes on after a pause.

`python -m benchmarks.turns.fit` has fitted them on the tuning set, with four languages in one. Those with
few cases there are set by hand: "answer", "full number" and "open, but punctuated". So is "closed": in calls thanks are
all more often than in the tuning set. So is "marked question": the set has no punctuation, and a recogniser that writes
a question mark has also heard the melody.
"""

from __future__ import annotations

RULES = {
    "answer": -0.5,
    "bare answer": 3.77,
    "clause begun": 3.73,
    "closed": 0.1,
    "detail": 2.14,
    "filler": 5.32,
    "fragment": 2.43,
    "full number": 0.3,
    "marked question": 0.6,
    "number": 4.1,
    "open": 5.79,
    "open, but punctuated": 1.8,
    "question": 2.05,
    "short statement": 3.45,
    "spelling": 4.16,
    "statement": 2.93,
}
"""By the rule that the end of the text falls under."""
ASKED = {"": -0.17, "yes_no": -0.03, "detail": 0.46, "digits": 0.13, "story": 0.0, "dictation": 3.52}
"""By what the agent has asked for; a story is what is asked for at the beginning of a call."""
PAUSES = (0.0, -0.98, -1.68, -1.85)
"""By the number of pauses that the turn has had before this one; the last one is for more."""
WORD, MOST_WORDS = -0.269, 12
"""The weight of each word of the turn, and the number of words that count."""
PATIENT_FROM = 2.0
"""The sum from which the silence is the patient one. At 0 it is the usual one, below 0 the quick one."""
HALF_PATIENT = frozenset({"bare answer", "detail", "open, but punctuated"})
"""Rules with half of that at most, set by hand: in calls a "yes" is all more often than in the tuning set."""
