"""Print what each rule and weight of endpointing by words brings: the figures of the tuning set without it.

    python -m benchmarks.turns.rules

Only the words of the set are looked at, as they are known half a second after they were spoken: no sound, no detector,
no recogniser. A rule that is left out gives no verdict, and the plain silence holds. `python -m benchmarks.turns.fit`
prints the figures of turns that were left out of the fit. It takes a second.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection

from benchmarks.turns.moments import moments
from duologue.processors.turns import weights
from duologue.processors.turns.policy import EndpointingPolicy
from duologue.processors.turns.wording import judge

QUESTION, PAUSES = "(the agent's question)", "(pauses)"


def figures(without: Collection[str] = (), which: str = "dev") -> tuple[float, list[float], set[str]]:
    """Return the cut-offs in 100 pauses, the silences that end the turns in seconds, in order, and the rules used.

    Without `QUESTION` the agent has asked for nothing, without `PAUSES` each pause is the second one.
    """
    policy = EndpointingPolicy()
    cuts, ends, rules = [], [], set()
    for moment in moments(which):
        asked = "" if QUESTION in without else moment.asked
        verdict = judge(moment.text, moment.lexicon, asked, 1 if PAUSES in without else moment.pauses)
        assert verdict is not None
        rules.add(verdict.rule)
        silence_s = policy.silence_s(None if verdict.rule in without else verdict.patience)
        if moment.is_end:
            ends.append(silence_s)
        else:
            cuts.append(moment.cut_off(silence_s))
    return 100 * statistics.mean(cuts), sorted(ends), rules


def row(name: str, cut_offs: float, ends: list[float]) -> str:
    """Return a line of the table."""
    half, mean, most = statistics.median(ends), statistics.mean(ends), ends[int(0.95 * len(ends))]
    return f"{name:<24}  {cut_offs:8.1f}  {1000 * half:6.0f}  {1000 * mean:7.0f}  {1000 * most:6.0f}"


def main() -> None:
    """Print the table."""
    print(f"{'without':<24}  cut-offs  p50 ms  mean ms  p95 ms")
    cut_offs, ends, rules = figures()
    print(row("(nothing)", cut_offs, ends))
    for name in (*sorted(rules), QUESTION, PAUSES):
        print(row(name, *figures({name})[:2]))
    print(row("(no words)", *figures(weights.RULES)[:2]))


if __name__ == "__main__":
    main()
