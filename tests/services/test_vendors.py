"""The table of services by name agrees with the services."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from pathlib import Path

import pytest

from duologue.errors import ConfigurationError
from duologue.services.llm import LLM
from duologue.services.native.engine import SpeechToSpeech
from duologue.services.stt import STT
from duologue.services.tts import TTS
from duologue.services.vendors import OFFERS, Kind, Offer, find, offered
from duologue.testing.scripted.vendors import EARS, MODELS, MOUTHS

ROOT = Path(__file__).parents[2]
BASES = {"stt": STT, "llm": LLM, "tts": TTS, "engine": SpeechToSpeech}
NAMES = [f"{offer.kind}-{offer.name}" for offer in OFFERS]


def test_every_name_stands_for_one_service() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert len({offer.home for offer in OFFERS}) == len(OFFERS)


@pytest.mark.parametrize("offer", OFFERS, ids=NAMES)
def test_a_service_is_of_its_kind_and_asks_for_what_the_table_says(
    offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = offer.load()
    assert issubclass(made, BASES[offer.kind])
    parameters = inspect.signature(made).parameters.values()
    required = [one for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    assert bool(required) == bool(offer.needs)
    for key in offer.keys:
        monkeypatch.delenv(key, raising=False)
    assert offer.key == ""
    if offer.keys:
        monkeypatch.setenv(offer.keys[-1], "secret")
        assert offer.key == offer.keys[-1]
        made()


@pytest.mark.parametrize("kind", ["stt", "tts"])
def test_a_key_that_is_missing_is_named_as_in_the_table(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for offer in (one for one in OFFERS if one.kind == kind and one.keys):
        for key in offer.keys:
            monkeypatch.delenv(key, raising=False)
        with pytest.raises(ConfigurationError, match=offer.keys[0]):
            offer.load()()


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"there is no tts 'kazoo': there are elevenlabs, elevenlabs-http, "):
        find("tts", "kazoo")


def test_every_paid_service_has_a_scripted_server() -> None:
    scripted: dict[Kind, Collection[str]] = {"stt": EARS, "llm": MODELS, "tts": MOUTHS}
    for kind, servers in scripted.items():
        assert set(servers) == {name for name, offer in offered(kind).items() if offer.keys}


def test_every_service_of_the_package_is_in_the_table() -> None:
    folders = {offer.home.partition(":")[0] for offer in OFFERS}
    found = set()
    for folder in folders:
        names = vars(__import__(f"duologue.services.{folder}", fromlist=["*"]))
        found |= {
            f"{folder}:{name}"
            for name, value in names.items()
            if inspect.isclass(value) and issubclass(value, tuple(BASES.values()))
        }
    assert found - {"local:RulesLLM"} == {offer.home for offer in OFFERS}


def test_the_table_of_the_document_has_every_service_by_name() -> None:
    page = (ROOT / "docs" / "services.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (stt|llm|tts) (\S+) \| `(\w+)(?:\(\w+\))?`.*? \| (\w+) \|", page, re.MULTILINE)
    offers = [(one.kind, one.name, one.class_name, one.extra) for one in OFFERS if one.kind != "engine"]
    assert rows == offers


def test_the_table_of_the_readme_has_every_class_of_a_vendor_with_its_extra_and_key() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| vendor | speech-to-text") :].partition("\n\n")[0].splitlines()[2:]
    told = set()
    for row in table:
        _, stt, llm, tts, extras, keys = (cell.strip() for cell in row.strip("|").split("|"))
        for kind, cell in (("stt", stt), ("llm", llm), ("tts", tts)):
            for name in re.findall(r"`(\w+)`", cell):
                offer = next(one for one in OFFERS if one.kind == kind and one.class_name == name)
                assert offer.extra in extras.split(", ")
                assert offer.keys == tuple(key for key in keys.split(" or ") if key)
                told.add(offer)
    assert told == {one for one in OFFERS if one.kind != "engine" and one.extra != "local"}
