"""Print what each rule of endpointing by words brings: the figures of the tuning set with the rule left out.

    python -m benchmarks.turns.rules

Only the words of the set are looked at, as they are known half a second after they were spoken: no sound, no detector,
no recogniser. A rule that is left out gives no verdict, and the plain silence holds. It takes a second.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator

from duologue.cli.lab.turns.scripts import LANGUAGES, ScriptTurn, read_script
from duologue.processors.turns.lexicon import Lexicon, lexicon, words
from duologue.processors.turns.policy import EndpointingPolicy
from duologue.processors.turns.turn_words import MANY_PAUSES, REGRET_S
from duologue.processors.turns.wording import PAUSING, Asked, Verdict, asked_for, judge

NOTICED_S = 0.02
"""Seconds by which a pause is longer than the silence that ends a turn in it."""


def verdicts(
    turn: ScriptTurn, asked: Asked, found: Lexicon, policy: EndpointingPolicy
) -> Iterator[tuple[float, Verdict | None]]:
    """Yield the length of each pause and the verdict on the words before it; an infinite pause follows the turn."""
    said: list[str] = []
    pauses = 0
    for part, pause_ms in zip(turn.parts, (*turn.pauses_ms, None), strict=True):
        said += [token for token in part.replace("~", "").split() if words(token)]
        verdict = judge(" ".join(" ".join(words(token)) for token in said), found, asked)
        if verdict is not None and verdict.weak and pauses >= MANY_PAUSES:
            verdict = PAUSING
        pause_s = float("inf") if pause_ms is None else pause_ms / 1000
        yield pause_s, verdict
        pauses += 1
        if pause_s - policy.silence_s(None if verdict is None else verdict.wait) > REGRET_S:
            said, pauses = [], 0  # what comes later is another turn


def figures(without: Collection[str] = (), which: str = "dev") -> tuple[float, list[float], set[str]]:
    """Return the cut-offs in 100 pauses, the silences that end the turns in seconds, in order, and the rules used."""
    policy = EndpointingPolicy()
    cuts, pauses, ends, rules = 0, 0, [], set()
    for language in LANGUAGES:
        found = lexicon(language)
        assert found is not None
        asked: Asked = ""
        for turn in read_script(which, language).turns:
            asked = asked_for(turn.agent, found) or asked
            for pause_s, verdict in verdicts(turn, asked, found, policy):
                known = verdict is not None and verdict.rule not in without
                silence_s = policy.silence_s(verdict.wait if known and verdict is not None else None)
                if verdict is not None:
                    rules.add(verdict.rule)
                if pause_s == float("inf"):
                    ends.append(silence_s)
                else:
                    pauses += 1
                    cuts += silence_s < pause_s - NOTICED_S
    return 100 * cuts / pauses, sorted(ends), rules


def row(name: str, cut_offs: float, ends: list[float]) -> str:
    """Return a line of the table."""
    half, mean, most = statistics.median(ends), statistics.mean(ends), ends[int(0.95 * len(ends))]
    return f"{name:<24}  {cut_offs:8.1f}  {1000 * half:6.0f}  {1000 * mean:7.0f}  {1000 * most:6.0f}"


def main() -> None:
    """Print the table."""
    print(f"{'without':<24}  cut-offs  p50 ms  mean ms  p95 ms")
    cut_offs, ends, rules = figures()
    print(row("(all rules)", cut_offs, ends))
    for rule in sorted(rules):
        print(row(rule, *figures({rule})[:2]))
    print(row("(no words)", *figures(rules)[:2]))


if __name__ == "__main__":
    main()
