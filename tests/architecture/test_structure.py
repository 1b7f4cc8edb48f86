"""The structure in figures: one name for one thing, and classes of a readable size."""

from __future__ import annotations

from tools.imports import modules
from tools.structure import classes, defined_twice


def test_few_names_stand_in_several_modules() -> None:
    twice = defined_twice(modules())
    assert len(twice) <= 10, twice


def test_no_class_is_longer_than_250_lines() -> None:
    assert [str(each) for each in classes(modules()) if each.lines > 250] == []
