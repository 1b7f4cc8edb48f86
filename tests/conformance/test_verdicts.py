"""The command that plays engines under faults, and the part of the page that keeps its verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue.testing.conformance.__main__ import main
from duologue.testing.conformance.rigs import all_rigs
from duologue.testing.conformance.trials import Played
from duologue.testing.conformance.verdicts import BEGIN, END, ENGINE, FAULT, kept, parsed, updated
from duologue.testing.scripted.manners import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
EMPTY = f"# Page\n\n{BEGIN}\n\n{END}\n\nThe end.\n"


def played(rig: str, seed: int, verdict: str, *shown: str, details: str = "") -> Played:
    return Played(rig, "E1.x", seed, verdict, "", frozenset(shown), details)


def test_no_engine_on_the_page_has_failed() -> None:
    _, verdicts, _ = kept(PAGE.read_text(encoding="utf-8"))
    table, faults = parsed(verdicts, ENGINE), parsed(verdicts, FAULT)
    assert list(table) == [rig.name for rig in all_rigs() if rig.name in table]
    assert list(faults) == [f"`{name}`" for name in FAULTS]
    for engine, row in table.items():
        assert int(row["seeds"]) >= 200, engine
        assert row["FAIL"] == "0", engine
        assert sum(int(row[verdict]) for verdict in ("holds", "weakened", "cannot")) == int(row["seeds"]), engine
    for rig in (rig for rig in all_rigs() if rig.name in table):
        shown = {name for name, fault in FAULTS.items() if fault.parts & set(rig.parts)} - rig.unseen
        assert {name for name in FAULTS if faults[f"`{name}`"][rig.name]} == shown, rig.name


def test_a_run_replaces_the_verdicts_of_its_engines_and_keeps_the_others() -> None:
    first = [played("B", 0, "holds", "nulls"), played("B", 1, "weakened", "nulls", "pause")]
    page = updated(EMPTY, first, ["A", "B"])
    page = updated(page, [played("A", 0, "boom", details="boom"), played("A", 1, "cannot")], ["A", "B"])
    page = updated(page, [played("B", 0, "weakened", "nulls")], ["A", "B"])
    before, verdicts, after = kept(page)
    assert (before, after) == ("# Page\n\n", "\n\nThe end.\n")
    assert parsed(verdicts, ENGINE) == {
        "A": {"seeds": "2", "holds": "0", "weakened": "0", "cannot": "1", "FAIL": "1"},
        "B": {"seeds": "1", "holds": "0", "weakened": "1", "cannot": "0", "FAIL": "0"},
    }
    assert parsed(verdicts, FAULT)["`nulls`"] == {"A": "", "B": "1, 1 weakened"}
    assert parsed(verdicts, FAULT)["`pause`"] == {"A": "", "B": ""}


def test_the_command_plays_in_several_processes_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(EMPTY, encoding="utf-8")
    assert main(["--faults", "--engine", "Cascade", "--seeds", "2", "--jobs", "2", "--write", str(page)]) == 0
    _, verdicts, _ = kept(page.read_text(encoding="utf-8"))
    assert parsed(verdicts, ENGINE)["Cascade"]["seeds"] == "2"
    assert verdicts.strip() == capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--engine", "Parrot"],
        ["--faults=tides"],
        ["--faults=nulls", "--write"],
        ["E4", "--faults", "--write"],
        ["E77", "--faults"],
        ["E77"],
        ["E8.a-drop", "--engine", "Cascade"],
    ],
)
def test_what_the_command_cannot_do_it_says(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
