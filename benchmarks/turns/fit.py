"""Fit the weights of endpointing by words on the tuning set, and print what they are worth on turns that were left out.

    python -m benchmarks.turns.fit

Each weight adds to the log-odds that the caller goes on: a logistic regression with a penalty on large weights. Below
a limit on the sum the silence is the quick one; from there on it grows with the sum, from the usual to the patient one.
The limit is the lowest one with which the mean silence at the ends of turns is at most `MEAN_S`. It takes 5 seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.turns.moments import Moment, moments
from duologue.processors.turns import weights
from duologue.processors.turns.policy import EndpointingPolicy
from duologue.processors.turns.wording import rule_of

PENALTY, CAUTION = 1.0, 8.0
"""On a weight, and on one of which the set tells little about calls. Its callers pause more often, and after an agent
that asks for nothing they have only questions."""
MEAN_S = 0.57
"""The limit on the mean silence that ends a turn."""
FOLDS, ROUNDS = 5, 6
Numbers = NDArray[np.float64]
SILENCES_S = tuple(EndpointingPolicy().silence_s(patience) for patience in (-1.0, 0.0, 1.0))
ASKED = tuple(weights.ASKED)


@dataclass(frozen=True, slots=True)
class Weights:
    """The fitted weights, in the order of `traits`, with the constant first, and the limit."""

    each: Numbers
    usual_from: float

    def silences(self, table: Numbers) -> Numbers:
        """Return the silence for each row of a table of traits, in seconds."""
        return silences(table @ self.each, self.usual_from)


def silences(scores: Numbers, usual_from: float) -> Numbers:
    """Return the silence for each score, in seconds."""
    quick, usual, patient = SILENCES_S
    patience = np.minimum((scores - usual_from) / weights.PATIENT_FROM, 1.0)
    return np.where(patience < 0, quick, usual + patience * (patient - usual))


def traits(moment: Moment) -> Numbers:
    """Return 1 for each trait that a moment has, 0 for the others, and the number of its words."""
    rule = rule_of(moment.text, moment.lexicon, moment.asked)
    pauses = min(moment.pauses, len(weights.PAUSES) - 1)
    return np.array(
        [
            1.0,
            *(rule == each for each in weights.RULES),
            *(moment.asked == each for each in ASKED),
            *(pauses == each for each in range(len(weights.PAUSES))),
            min(moment.text.count(" ") + 1, weights.MOST_WORDS),
        ],
        dtype=float,
    )


def fitted(table: Numbers, said: Sequence[Moment]) -> Weights:
    """Return the weights for the moments whose traits are the rows of a table."""
    goes_on = np.array([not moment.is_end for moment in said], dtype=float)
    asked = [PENALTY if name else CAUTION for name in ASKED]
    penalty = np.diag([1e-6, *[PENALTY] * len(weights.RULES), *asked, *[CAUTION] * len(weights.PAUSES), PENALTY])
    each = np.zeros(table.shape[1])
    for _ in range(25):  # Newton's method
        chance = 1 / (1 + np.exp(-table @ each))
        slope = table.T @ (chance - goes_on) + penalty @ each
        each -= np.linalg.solve((table.T * (chance * (1 - chance))) @ table + penalty, slope)
    return Weights(each, limit((table @ each)[goes_on == 0]))


def limit(scores: Numbers) -> float:
    """Return the lowest limit with which the silences at ends of turns, of these scores, are not too long."""
    steps = np.unique(scores)
    candidates = (steps[1:] + steps[:-1]) / 2
    return float(next(one for one in candidates if silences(scores, one).mean() <= MEAN_S))


def left_out(table: Numbers, said: Sequence[Moment]) -> list[Numbers]:
    """Return the silences of each round, each of turns that were left out when its weights were fitted."""
    turns = np.array([moment.turn for moment in said])
    found = []
    for number in range(ROUNDS):
        fold = np.random.default_rng(number).integers(0, FOLDS, turns.max() + 1)[turns]
        waits = np.zeros(len(said))
        for each in range(FOLDS):
            known = fold != each
            chosen = fitted(table[known], [one for one, take in zip(said, known, strict=True) if take])
            waits[~known] = chosen.silences(table[~known])
        found.append(waits)
    return found


def line(name: str, rounds: Sequence[Numbers], said: Sequence[Moment], chosen: Callable[[Moment], bool]) -> str:
    """Return a line with the figures of some of the moments, averaged over rounds."""
    picked = [number for number, moment in enumerate(said) if chosen(moment)]
    cuts: list[float] = []
    means: list[float] = []
    medians: list[float] = []
    most: list[float] = []
    for waits in rounds:
        lost = [said[number].cut_off(waits[number]) for number in picked if not said[number].is_end]
        ends = sorted(waits[number] for number in picked if said[number].is_end)
        cuts.append(float(100 * np.mean(lost)) if lost else 0.0)
        means.append(float(1000 * np.mean(ends)))
        medians.append(float(1000 * np.median(ends)))
        most.append(float(1000 * ends[int(0.95 * len(ends))]))
    shown = (np.mean(each) for each in (cuts, medians, means, most))
    return f"{name:<24}  {next(shown):8.1f}  {next(shown):6.0f}  {next(shown):7.0f}  {next(shown):6.0f}"


def main() -> None:
    """Print the figures and the weights."""
    said = list(moments())
    table = np.array([traits(moment) for moment in said])
    whole = fitted(table, said)
    rounds = left_out(table, said)
    print(f"{'':<24}  cut-offs  p50 ms  mean ms  p95 ms")
    print(line("turns that were fitted", [whole.silences(table)], said, lambda one: True))
    print(line("turns left out", rounds, said, lambda one: True))
    for language in dict.fromkeys(moment.lexicon.language for moment in said):
        print(line(f"  {language}", rounds, said, lambda one, of=language: one.lexicon.language == of))  # type: ignore[misc]
    for kind in dict.fromkeys(moment.kind for moment in said):
        print(line(f"  {kind}", rounds, said, lambda one, of=kind: one.kind == of))  # type: ignore[misc]
    print()
    print_weights(whole, table)


def print_weights(found: Weights, table: Numbers) -> None:
    """Print the weights as `duologue.processors.turns.weights` has them, each with the number of its moments.

    Those of the rules are for the first pause after an agent that wants a story. From 0 on the silence is the usual
    one.
    """
    constant, *rest, word = found.each
    rules, asked, pauses = np.split(np.array(rest), [len(weights.RULES), len(weights.RULES) + len(ASKED)])
    story = asked[ASKED.index("story")]
    shown = (*(rules + constant - found.usual_from + story + pauses[0]), *(asked - story), *(pauses - pauses[0]))
    names = (*weights.RULES, *(f"asked {each!r}" for each in ASKED), *(f"pauses {n}" for n in range(len(pauses))))
    for name, weight, count in zip(names, shown, table.sum(axis=0)[1:-1], strict=True):
        print(f"{name:<24}  {weight:6.2f}  ({count:.0f} cases)")
    print(f"WORD = {word:.3f}")


if __name__ == "__main__":
    main()
