"""Results as a model receives them, and the ranking of the search."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import types as wire

from duologue.agents.sources import WithImages, named_apart
from duologue.agents.tool import Tool, ToolSpec
from duologue.errors import ToolError
from duologue.mcp.lines import SHOWN, Lines, one_line
from duologue.mcp.results import ERROR_LENGTH, MAX_IMAGES, tool_result
from duologue.mcp.search import Index, search_words


def answer(*blocks: Any, **fields: Any) -> wire.CallToolResult:
    return wire.CallToolResult(content=list(blocks), **fields)


def text(text: str) -> wire.TextContent:
    return wire.TextContent(text=text)


def image(data: bytes = b"\xff\xd8", mime: str = "image/jpeg") -> wire.ImageContent:
    return wire.ImageContent(data=base64.b64encode(data).decode(), mime_type=mime)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (answer(text("one"), text("two")), "one\ntwo"),
        (answer(), ""),
        (answer(text('{"a": 1}'), structured_content={"a": 1}), {"a": 1}),
        (answer(structured_content={"a": None}), {"a": None}),
        (answer(text("5"), structured_content={"result": 5}), 5),
        (answer(text("five"), structured_content={"result": "five"}), "five"),
        (answer(text("1"), text("2"), structured_content={"result": [1, 2]}), [1, 2]),
        (answer(text("All is well."), structured_content={"a": 1}), {"text": "All is well.", "data": {"a": 1}}),
        (
            answer(wire.ResourceLink(name="terms", uri="shop://terms", description="The terms.")),
            "(a resource: terms, shop://terms: The terms.)",
        ),
        (
            answer(wire.EmbeddedResource(resource=wire.TextResourceContents(uri="shop://a", text="inside"))),
            "inside",
        ),
        (
            answer(wire.EmbeddedResource(resource=wire.BlobResourceContents(uri="shop://b", blob="AAAA"))),
            "(shop://b is data, not text)",
        ),
        (
            answer(wire.AudioContent(data="AAAA", mime_type="audio/wav")),
            "(audio of type audio/wav, which cannot be played to you)",
        ),
        (answer(image(mime="image/bmp")), "(an image that cannot be shown: models take no image/bmp)"),
        (answer(image(bytes(5 << 20))), "(an image that cannot be shown: it has 5242880 bytes)"),
        (
            answer(wire.ImageContent(data="?", mime_type="image/png")),
            "(an image that cannot be shown: its data is not base64)",
        ),
    ],
)
def test_the_parts_of_a_result(result: wire.CallToolResult, expected: Any) -> None:
    assert tool_result(result) == expected


def test_the_first_images_are_shown() -> None:
    shown = tool_result(answer(text("Look."), *[image()] * (MAX_IMAGES + 1)))
    assert isinstance(shown, WithImages)
    assert len(shown.images) == MAX_IMAGES
    assert shown.result == f"Look.\n(4 images follow)\n(an image that cannot be shown: only {MAX_IMAGES} are shown)"


@given(st.lists(st.text(max_size=2000), max_size=5))
def test_an_error_is_one_safe_line(texts: list[str]) -> None:
    with pytest.raises(ToolError) as raised:
        tool_result(answer(*map(text, texts), is_error=True))
    message = str(raised.value)
    assert 0 < len(message) <= ERROR_LENGTH
    assert message.isprintable()


@given(st.text())
def test_a_text_becomes_one_line(given: str) -> None:
    line = one_line(given)
    assert len(line) <= SHOWN
    assert line.isprintable()
    assert one_line(line) == line


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_lines_do_not_depend_on_the_pieces(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    lines = Lines(20)
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    found = [line for piece in pieces for line in lines.feed(piece)]
    whole = data.split(b"\n")[:-1]
    assert found == [line if len(line) <= 20 else None for line in whole]


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "x_a", "y_a"]), max_size=4, unique=True), max_size=4))
def test_names_of_sources_never_collide(sources: list[list[str]]) -> None:
    async def run() -> None:
        pass

    tools = [("xyz"[n % 3], [Tool(run, name=name) for name in names]) for n, names in enumerate(sources)]
    found = named_apart(tools, {"a"})
    assert "a" not in found
    assert all(tool.name == tool.spec.name == name for name, tool in found.items())


def test_the_search_finds_by_the_words_of_names_and_descriptions() -> None:
    specs = [
        ToolSpec(name="createInvoice", description="Makes a bill for a customer."),
        ToolSpec(name="cancel_booking", description="Cancels a reservation."),
        ToolSpec(name="list_rooms", description="Lists rooms that are free."),
    ]
    index = Index(specs)
    assert [spec.name for spec in index.find("invoice")] == ["createInvoice"]
    assert [spec.name for spec in index.find("which ROOM is free?")] == ["list_rooms"]
    assert index.find("cancel the customer's booking")[0].name == "cancel_booking"
    assert index.find("") == index.find("zebra") == []
    assert search_words("getHTTPError2 of user_names") == ["get", "http", "error", "2", "of", "user", "name"]
