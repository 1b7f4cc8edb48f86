"""The way of the agent's echo: once it is known, moments that are less like what was played are echoes too."""

from __future__ import annotations

import pytest

from duologue.processors.turns.echo_path import EchoPath


def known() -> EchoPath:
    """A path that has been heard plainly three times: 98 ms long, with a loss of 20 dB."""
    path = EchoPath()
    assert all(path.explains(0.7, 0.098, 20.0, 0.4) for _ in range(3))
    return path


@pytest.mark.parametrize(
    ("alike", "delay_s", "loss_db", "echo"),
    [
        (0.33, 0.1, 19.0, True),
        (0.33, 0.1, 26.0, True),
        (0.19, 0.1, 20.0, False),  # hardly alike
        (0.33, 0.3, 20.0, False),  # at another delay
        (0.33, 0.1, 12.0, False),  # louder than the echo: the caller speaks over it
        (0.41, 0.3, 12.0, True),  # plain enough by itself
    ],
)
def test_a_known_path_explains_unlike_moments(alike: float, delay_s: float, loss_db: float, echo: bool) -> None:
    assert known().explains(alike, delay_s, loss_db, 0.4) == echo


def test_an_unknown_path_explains_nothing() -> None:
    path = EchoPath()
    assert not path.explains(0.33, 0.1, 20.0, 0.4)
    assert path.explains(0.5, 0.1, 20.0, 0.4)
    assert not path.explains(0.33, 0.1, 20.0, 0.4)
