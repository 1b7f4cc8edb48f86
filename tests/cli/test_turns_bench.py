"""The bench for turn-taking: its scripts, speech, recogniser and figures, and short calls with known results."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from benchmarks.turns.__main__ import compared, tables, tau_voice
from benchmarks.turns.recordings import RECORDINGS, recorded
from duologue.cli.app import app
from duologue.cli.lab.turns.calls import silences
from duologue.cli.lab.turns.echo import EchoResult
from duologue.cli.lab.turns.endpoints import Person, TurnResult, callers, play_endpoints, spoken
from duologue.cli.lab.turns.events import EventResult, play_events
from duologue.cli.lab.turns.figures import (
    echo_figures,
    interruption_figures,
    percentile,
    ratio,
    sound_figures,
    turn_figures,
)
from duologue.cli.lab.turns.lab import is_better
from duologue.cli.lab.turns.noises import SOUNDS, make_sound
from duologue.cli.lab.turns.rooms import CONDITIONS, Room
from duologue.cli.lab.turns.scripts import LANGUAGES, SETS, parse_script, read_script
from duologue.cli.lab.turns.settings import expanded, parse_settings
from duologue.cli.lab.turns.suite import Measured, jobs
from duologue.cli.lab.turns.voices import LONGEST_GAP_S, QUIET_DB, RATE, Samples, Speaker, speakers, speech_of
from duologue.errors import BadInput, ConfigurationError
from duologue.testing.clock import run
from tests.processors.turns.onnx_files import write_mean_model

TURN = "number | Your number? | ~Um [700] one two, [1200] three."
VOICE = Speaker("en-us+f2")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "speech"))


def someone(*lines: str, level_dbfs: float = -24.0) -> Person:
    """Return a caller who says these turns."""
    return Person("dev", "en", VOICE, level_dbfs, 1, parse_script("en", "\n".join(["[turns]", *lines])).turns)


def loud(samples: Samples) -> NDArray[np.bool_]:
    """Return True for each 10 ms that is at most `QUIET_DB` below the loudest."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    levels = np.sqrt((frames**2).mean(axis=1))
    return np.asarray(levels > 0.999 * levels.max() * 10 ** (-QUIET_DB / 20))


# -- scripts -----------------------------------------------------------------------------------------------------------


def test_a_turn_has_its_parts_and_pauses() -> None:
    (turn,) = parse_script("en", f"[turns]\n{TURN}").turns
    assert turn.parts == ("~Um", "one two,", "three.")
    assert turn.pauses_ms == (700, 1200)
    assert (turn.kind, turn.agent) == ("number", "Your number?")


@pytest.mark.parametrize("line", ["number | no turn", "song | la? | la", "number | a? | [300] one", "number | | one"])
def test_a_malformed_turn_is_named(line: str) -> None:
    with pytest.raises(BadInput, match=r"turn is|between words"):
        parse_script("en", f"[turns]\n{line}")


def test_the_sets_share_neither_lines_nor_voices() -> None:
    for language in LANGUAGES:
        dev, held_out = (read_script(which, language) for which in SETS)
        for section in ("turns", "interruptions", "asides"):
            assert not set(getattr(dev, section)) & set(getattr(held_out, section))
        assert not {turn.parts for turn in dev.turns} & {turn.parts for turn in held_out.turns}
        assert not set(speakers("dev", language)) & set(speakers("held-out", language))
    assert not {one.seed for one in callers("dev")} & {one.seed for one in callers("held-out")}


# -- speech ------------------------------------------------------------------------------------------------------------


def test_the_labels_are_those_of_the_sound() -> None:
    """Speech fills the parts, and nothing the pauses."""
    (turn,) = someone(TURN).turns
    made = spoken(turn, VOICE)
    for (_, end), (start, _), pause in zip(made.parts, made.parts[1:], turn.pauses_ms, strict=False):
        assert start - end == pytest.approx(pause / 1000)
        assert not made.samples[round(end * RATE) : round(start * RATE)].any()
    for start, end in made.parts:
        heard = np.flatnonzero(loud(made.samples[round(start * RATE) : round(end * RATE)]))
        assert heard[0] <= 2
        assert heard[-1] >= round((end - start) * 100) - 3
    assert made.end_s == pytest.approx(len(made.samples) / RATE)
    assert [word.text for word in made.words] == ["Um", "one", "two", "three"]
    assert [word.filler for word in made.words] == [True, False, False, False]
    assert all(word.start_s <= word.end_s for word in made.words)


def test_silences_within_a_part_are_shortened() -> None:
    speech = speech_of("Brown. White. Black. Red.", VOICE)
    assert max(silences(loud(speech.samples))) <= LONGEST_GAP_S + 0.02
    assert all(0 <= word.start_s <= word.end_s <= speech.duration_s for word in speech.words)


def test_speech_is_the_same_from_the_cache() -> None:
    made = speech_of("a cup of tea", VOICE)
    speech_of.cache_clear()
    kept = speech_of("a cup of tea", VOICE)
    assert np.array_equal(made.samples, kept.samples)
    assert made.words == kept.words


@pytest.mark.parametrize("name", list(SOUNDS))
def test_sounds_differ_by_their_seed_only(name: str) -> None:
    made = [make_sound(name, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert 0.02 < np.abs(made[0]).max() < 30


@pytest.mark.parametrize("snr_db", [20.0, 10.0])
def test_noise_has_its_ratio(snr_db: float) -> None:
    room = Room(replace(CONDITIONS["10 dB"], snr_db=snr_db), "dev", "en", -26.0, 3)
    noise = np.frombuffer(room.background(), "<i2").astype(float)
    level = 20 * np.log10(np.sqrt((noise**2).mean()) / 32768)
    assert level == pytest.approx(-26.0 - snr_db, abs=0.5)


def test_a_telephone_carries_its_band_only() -> None:
    room = Room(CONDITIONS["telephone"], "dev", "en", -20.0, 3)
    at = np.arange(RATE) / RATE
    low, inside = (np.sin(2 * np.pi * hz * at).astype(np.float32) for hz in (150, 1_000))
    levels = [np.abs(np.frombuffer(room.carried(tone), "<i2")[800:-800]).max() for tone in (low, inside)]
    assert room.sample_rate == 8_000
    assert levels[0] < levels[1] / 5


@pytest.mark.parametrize("echo_db", [-20.0, -30.0])
def test_an_echo_is_late_and_quieter_by_its_level(echo_db: float) -> None:
    path = Room(CONDITIONS["clean"], "dev", "en", -24.0, 3).echo_path(echo_db)
    assert 10 * np.log10((path**2).sum()) == pytest.approx(echo_db)
    first = int(np.flatnonzero(path)[0])
    assert 0.06 * RATE <= first <= 0.25 * RATE
    assert np.abs(path).argmax() == first


# -- turns -------------------------------------------------------------------------------------------------------------


def test_a_short_silence_cuts_each_pause_that_is_longer_and_no_other() -> None:
    results = run(partial(play_endpoints, someone(TURN), parse_settings("silence_ms=900"), "clean", "plain"))
    (result,) = results
    assert [cut for _, cut in result.pauses] == [False, True]
    assert [length for length, _ in result.pauses] == pytest.approx([0.7, 1.2])
    assert result.decision_s == pytest.approx(0.9, abs=0.08)
    assert result.cuts_inside == result.strays == 0
    assert result.talked_over  # the agent begins about 0.5 s after the cut, within the pause of 1.2 s or behind it


def test_the_agent_answers_a_turn_with_the_next_question() -> None:
    lines = "answer | Is it you? | Yes it is.", "answer | And who is there? | Nobody else."
    results = run(partial(play_endpoints, someone(*lines), parse_settings("silence_ms=500"), "clean", "plain"))
    assert len(results) == 2
    for result in results:
        assert result.decision_s == pytest.approx(0.5, abs=0.08)
        assert result.answer_s is not None
        assert 0.5 < result.answer_s < 1.5
        assert not result.talked_over


def test_the_same_seed_gives_the_same_results() -> None:
    play = partial(play_endpoints, someone(TURN), parse_settings("silence_ms=600"), "babble", "shaky")
    assert run(play) == run(play)


def test_the_parts_of_a_recording_are_loud_and_its_pauses_quiet() -> None:
    for name in RECORDINGS:
        turn, sound, room = recorded(name)
        assert sound.end_s == pytest.approx(len(sound.samples) / RATE, abs=0.001)
        assert " ".join(turn.parts).split() == [word.text for word in sound.words]
        assert len(room.background()) >= 2 * RATE
        level = [
            np.sqrt((sound.samples[round(start * RATE) : round(end * RATE)] ** 2).mean()) for start, end in sound.parts
        ]
        pauses = [
            np.sqrt((sound.samples[round(end * RATE) : round(start * RATE)] ** 2).mean())
            for (_, end), (start, _) in pairwise(sound.parts)
        ]
        assert all(pause < 0.2 * min(level) for pause in pauses)


# -- events ------------------------------------------------------------------------------------------------------------


def test_an_interruption_stops_the_agent_and_is_heard_from_its_start() -> None:
    ear = parse_settings("speaking.min_speech_ms=200 speaking.sure_ms=0")
    results = run(partial(play_events, someone(TURN), ("interruption",), ear, "clean"))
    assert len(results) == len(read_script("dev", "en").interruptions)
    assert all(result.interrupted and result.whole for result in results)
    assert all(result.yield_s is not None and 0.15 < result.yield_s < 0.5 for result in results)


def test_nothing_stops_an_agent_that_cannot_be_interrupted() -> None:
    ear = parse_settings("enabled=false")
    results = run(partial(play_events, someone(TURN), ("sound",), ear, "clean"))
    assert len(results) == 2 * len(SOUNDS)
    assert not any(result.interrupted or result.damaged for result in results)
    assert all(result.silent_s < 0.05 for result in results)


# -- figures -----------------------------------------------------------------------------------------------------------


def test_rates_count_events_in_chances() -> None:
    found = ratio([(1, 2), (0, 3), (2, 3)])
    assert found.value == pytest.approx(100 * 3 / 8)
    assert found.low <= found.value <= found.high
    assert str(ratio([])) == str(ratio([(0, 0)])) == "–"


@given(st.lists(st.floats(0, 5_000), min_size=1, max_size=40))
@settings(max_examples=20)
def test_an_interval_has_the_figure_of_equal_values(values: list[float]) -> None:
    found = percentile([values[0]] * len(values), 50)
    assert found.low == found.value == found.high == values[0]
    spread = percentile(values, 50)
    assert min(values) <= spread.low <= spread.high <= max(values)


def turn(**changes: object) -> TurnResult:
    made = TurnResult("en", "answer", ((0.7, True), (0.4, False)), 0, 0.6, 1.1, False, 0)
    return replace(made, **changes)  # type: ignore[arg-type]


def event(kind: str, **changes: object) -> EventResult:
    made = EventResult("en", kind, "x", False, 0.0, False, False)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_figures_of_turns() -> None:
    found = turn_figures(
        [turn(), turn(decision_s=None, answer_s=None, pauses=()), turn(cuts_inside=1, talked_over=True)]
    )
    assert found["cut-offs per 100 pauses"].value == pytest.approx(50)
    assert found["ends missed %"].value == pytest.approx(100 / 3)
    assert found["cuts inside speech"].value == pytest.approx(1)
    assert found["decision p50 ms"].value == pytest.approx(600)
    assert found["response rate %"].value == pytest.approx(200 / 3)
    assert found["interrupts the caller %"].value == pytest.approx(100 / 3)


def test_the_figures_of_events() -> None:
    sounds = [event("sound"), event("sound", silent_s=0.4), event("aside", interrupted=True), event("aside")]
    backchannels = [event("backchannel", silent_s=0.1), event("backchannel", answered=True)]
    found = sound_figures([*sounds, *backchannels])
    assert found["sounds that stop the agent per 100"].value == pytest.approx(50)
    assert found["backchannels that cost the turn per 100"].value == pytest.approx(50)
    assert found["backchannels with an audible seam per 100"].value == pytest.approx(50)
    assert found["not-for-it ignored %"].value == pytest.approx(75)
    assert found["backchannels ignored %"].value == pytest.approx(50)
    meant = [event("interruption", interrupted=True, yield_s=0.2, whole=True), event("interruption")]
    yields = interruption_figures(meant)
    assert yields["yields %"].value == yields["heard from the first sample %"].value == pytest.approx(50)
    assert yields["interruption to silence p95 ms"].value == pytest.approx(200)


def test_the_figures_of_echoes() -> None:
    found = echo_figures([EchoResult("en", -20, 3, 45.0), EchoResult("de", -20, 0, 45.0)])
    assert found["false stops per minute"].value == pytest.approx(2)


def test_the_tables_have_the_metrics_of_tau_voice() -> None:
    results = Measured({"clean": [turn()]}, {"clean": [event("sound"), event("backchannel"), event("interruption")]})
    found = tau_voice(tables(results))
    assert set(found) == {
        "yields %",
        "response rate %",
        "response time ms",
        "backchannels ignored %",
        "not-for-it ignored %",
        "interrupts the caller %",
    }


def test_settings_stand_side_by_side_where_both_were_measured() -> None:
    first = tables(Measured({"clean": [turn()]}, {"clean": [event("sound")]}))
    second = tables(Measured({"clean": [turn(decision_s=0.4)]}))
    found = compared({"defaults": first, "silence_ms=400": second})
    assert list(found["endpoints, settings compared"]) == ["defaults", "silence_ms=400"]
    assert not any(title.startswith("sounds") for title in found)
    assert compared({"defaults": first}) == {}


def test_an_agent_that_was_silent_already_has_no_time_to_silence() -> None:
    found = interruption_figures([event("interruption", interrupted=True, yield_s=None)])
    assert found["yields %"].value == 100
    assert str(found["interruption to silence p50 ms"]) == "–"


def test_the_silences_of_a_voice_are_those_between_its_sounds() -> None:
    assert silences(np.array([0, 1, 0, 0, 1, 1, 0], bool)) == pytest.approx([0.02])


# -- settings and the lab ----------------------------------------------------------------------------------------------


def test_settings_find_their_part() -> None:
    found = parse_settings("silence_ms=400 speaking.min_speech_ms=100 thinking.resume_after_ms=none")
    assert found.given == (
        ("endpointing", "silence_ms", 400),
        ("speaking", "min_speech_ms", 100),
        ("thinking", "resume_after_ms", None),
    )
    assert [one.text for one in expanded(["silence_ms=400,600 stop_ms=200"])] == [
        "silence_ms=400 stop_ms=200",
        "silence_ms=600 stop_ms=200",
    ]


@pytest.mark.parametrize("text", ["silence=400", "silence_ms", "min_speech_ms=100", "vad.silence_ms=3"])
def test_an_unknown_setting_is_named(text: str) -> None:
    with pytest.raises(BadInput, match=text.split("=")[0].rpartition(".")[2]):
        parse_settings(text)


def test_a_setting_out_of_range_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigurationError, match="silence_ms"):
        parse_settings("silence_ms=0")


def test_one_setting_is_better_if_it_is_worse_in_nothing() -> None:
    slow, fast, rash = (
        turn_figures([turn(decision_s=s, pauses=((1.0, cut),))]) for s, cut in ((0.9, False), (0.5, False), (0.3, True))
    )
    assert is_better(fast, slow)
    assert not is_better(slow, fast)
    assert not is_better(rash, fast)
    assert not is_better(fast, rash)
    assert not is_better(fast, fast)


def test_the_jobs_of_a_quick_run_are_fewer() -> None:
    both = [jobs("dev", parse_settings(""), ("endpoints", "echo"), quick=quick) for quick in (True, False)]
    assert 0 < len(both[0]) < len(both[1]) / 2


def test_a_run_on_a_clean_line_has_no_noise_in_any_part() -> None:
    calls = jobs("dev", parse_settings(""), ("endpoints", "sounds", "interruptions"), quick=False, lines=["clean"])
    assert {call.name for call in calls} == {"clean", "under echo"}


def test_the_lab_writes_a_table_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duologue.cli.lab.turns.suite.callers", lambda which, share=1: [someone(TURN)])
    ask = ["lab", "turns", "--settings", "silence_ms=400,1500", "--processes", "1", "--out", str(tmp_path)]
    result = CliRunner(env={"COLUMNS": "140"}).invoke(app, ask)
    assert result.exit_code == 0, result.output
    with (tmp_path / "turns.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["settings"] for row in rows] == ["silence_ms=400", "silence_ms=1500"]
    assert [float(row["cut_offs"]) for row in rows] == [100.0, 0.0]
    assert [row["on_frontier"] for row in rows] == ["True", "True"]
    assert (tmp_path / "turns.png").stat().st_size > 1_000


def test_the_optional_ears_are_settings_too(tmp_path: Path) -> None:
    model = write_mean_model(tmp_path / "model.onnx")
    ear = parse_settings(f"detector=silero echo_cancellation=true noise_db=18 turn_model={model}").ear()
    assert [type(part).__name__ for part in ear[:4]] == ["EchoCancellation", "NoiseSuppression", "Vad", "Endpointing"]
    assert len(parse_settings("detector=webrtc").ear()) == len(ear) - 2
    with pytest.raises(BadInput, match="detector is 'bat'"):
        parse_settings("detector=bat")
