"""The import graph: no circles, and no import against the layers."""

from __future__ import annotations

import pytest

from tools.imports import circles, graph, modules, wrong_way


def test_no_modules_import_each_other() -> None:
    assert circles(graph()) == []


def test_every_import_goes_down() -> None:
    assert wrong_way(graph()) == []


def test_services_and_transports_do_not_import_each_other() -> None:
    imports = graph()
    for name, targets in imports.items():
        for one, other in (("services", "transports"), ("transports", "services")):
            if name.startswith(f"duologue.{one}"):
                assert not [target for target in targets if target.startswith(f"duologue.{other}")], name


def test_frames_import_errors_and_types_and_nothing_else_of_ours() -> None:
    assert graph()["duologue._arrays"] == set()
    for name, targets in graph().items():
        if name.startswith("duologue.frames"):
            others = {target for target in targets if not target.startswith("duologue.frames")}
            assert others <= {"duologue.errors", "duologue._arrays"}, name


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"d"}}, [["a", "b", "c"], ["d"]]),
    ],
)
def test_circles_are_found(imports: dict[str, set[str]], expected: list[list[str]]) -> None:
    assert circles(imports) == expected


@pytest.mark.parametrize(
    ("module", "target", "allowed"),
    [
        ("duologue.session.session", "duologue.processors.kernel.lane", True),
        ("duologue.processors.kernel.lane", "duologue.session.session", False),
        ("duologue.services.llm", "duologue.transports.base", False),
        ("duologue.services.llm", "duologue.services.native.engine", False),
        ("duologue.services.native.engine", "duologue.services.remote.dialect", True),
        ("duologue.services.openai.wire", "duologue.services.google.wire", False),
        ("duologue.cli.app", "duologue", True),
        ("duologue.session.session", "duologue", False),
    ],
)
def test_the_layers(module: str, target: str, allowed: bool) -> None:
    assert (wrong_way({module: {target}}) == []) is allowed


def test_every_module_is_read() -> None:
    assert {"duologue", "duologue.frames.base", "duologue.cli.app"} <= modules().keys()
