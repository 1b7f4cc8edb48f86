"""The names of `duologue.testing.scripted`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from duologue.testing import scripted


@pytest.mark.parametrize("name", scripted.__all__)
def test_a_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(scripted, name).__doc__


def test_the_import_loads_no_sdk() -> None:
    program = "import sys, duologue.testing.scripted; print([name for name in sys.modules if '.scripted.' in name])"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"
