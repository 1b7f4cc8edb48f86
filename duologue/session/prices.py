"""`Price` and `Prices`: the prices of models and services as dated data, and the cost of a consumption."""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from ..errors import ConfigurationError
from ..frames import Usage

MILLION = 1_000_000
MAX_PRICE = 1_000_000
"""The highest price of a unit in US dollars: a dollar for each token. A higher one is a mistake."""
TABLE = Path(__file__).with_name("prices.toml")
"""The package's own table. Its entries name their sources and dates."""
_VERSION = re.compile(
    r"([-@:](\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|\d{8}|\d{6}|\d{4}|\d{3}|latest|preview|exp|experimental))+"
)
"""The end of a model's name that tells its version: "-2025-08-28", "-preview-09-2025", "-001"."""
_PER_MINUTE = frozenset({"input_minute", "output_minute", "connection_minute"})
_NO_MONEY = frozenset({"input_tokens_per_s", "output_tokens_per_s"})


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The prices of a model or of a service in US dollars.

    `text_*`, `audio_*`, `image_*` and their `cached_*` are per million tokens; a `cached_*` of None is like the price
    of a token that is not cached. `input_minute` and `output_minute` are per minute of the caller's and the agent's
    audio, `connection_minute` per minute of the open connection; `characters` is per million characters.
    `*_tokens_per_s` are the tokens of a second of audio, for estimates. With `family`, the price is also that of every
    model whose name goes on with "-", "_", "." or ":". `source` and `date` say where the price is from.
    """

    text_input: float = 0.0
    cached_text_input: float | None = None
    audio_input: float = 0.0
    cached_audio_input: float | None = None
    image_input: float | None = None
    """None is like text."""
    cached_image_input: float | None = None
    text_output: float = 0.0
    audio_output: float = 0.0
    input_minute: float = 0.0
    output_minute: float = 0.0
    connection_minute: float = 0.0
    characters: float = 0.0
    input_tokens_per_s: float = 0.0
    output_tokens_per_s: float = 0.0
    family: bool = False
    source: str = ""
    date: datetime.date | None = None
    verified: bool = False
    unit: tuple[str, ...] = ()

    def of(self, used: Usage) -> float:
        """Return the cost of a consumption in US dollars.

        Parts that are larger than their whole count as the whole. If the vendor does not say which of the cached
        tokens are audio or images, they are text first, which is cheaper.
        """
        audio = min(used.input_audio_tokens, used.input_tokens)
        image = min(used.input_image_tokens, used.input_tokens - audio)
        text = used.input_tokens - audio - image
        cached = min(used.cached_tokens, used.input_tokens)
        cached_audio = min(used.cached_audio_tokens, audio, cached)
        cached_image = min(used.cached_image_tokens, image, cached - cached_audio)
        cached_text = min(cached - cached_audio - cached_image, text)
        rest = cached - cached_audio - cached_image - cached_text
        more = min(rest, audio - cached_audio)
        cached_audio, cached_image = cached_audio + more, cached_image + rest - more
        spoken = min(used.output_audio_tokens, used.output_tokens)
        image_price = self.text_input if self.image_input is None else self.image_input
        tokens = (
            _input(text, cached_text, self.text_input, self.cached_text_input)
            + _input(audio, cached_audio, self.audio_input, self.cached_audio_input)
            + _input(image, cached_image, image_price, self.cached_image_input)
            + (used.output_tokens - spoken) * self.text_output
            + spoken * self.audio_output
        )
        minutes = (
            used.input_audio_s * self.input_minute
            + used.output_audio_s * self.output_minute
            + used.connection_s * self.connection_minute
        )
        return (tokens + used.characters * self.characters) / MILLION + minutes / 60

    @property
    def units(self) -> frozenset[str]:
        """The units of the prices that are given."""
        units = set()
        for name in _amounts():
            if getattr(self, name):
                per_minute, characters = name in _PER_MINUTE, name == "characters"
                units.add("minute" if per_minute else "million characters" if characters else "million tokens")
        return frozenset(units)


def _input(tokens: int, cached: int, price: float, cached_price: float | None) -> float:
    return (tokens - cached) * price + cached * (price if cached_price is None else cached_price)


@cache
def _amounts() -> tuple[str, ...]:
    """Return the fields of `Price` that are dollars."""
    fields = Price.__struct_fields__
    return fields[: fields.index("input_tokens_per_s")]


PriceGiven: TypeAlias = "Price | Mapping[str, Any]"


class Prices:
    """A table of prices, by the names of models, and of services that have only one model.

    `Prices.of(given)` is the package's table with other entries on top of it.
    """

    def __init__(
        self, entries: Mapping[str, PriceGiven], date: datetime.date | None = None, *, units: bool = False
    ) -> None:
        self.entries = {name: _price_of(name, given, units=units) for name, given in entries.items()}
        self.date = date
        """The day of the table."""
        self._found: dict[tuple[str, str], Price | None] = {}

    @classmethod
    def of(cls, given: Prices | Mapping[str, PriceGiven] | str | Path | None) -> Prices:
        """Return the package's table, with the entries of a mapping or of a TOML file on top.

        A `Prices` is returned as it is. Raises ConfigurationError, naming the entry, for a price that is not a number
        between 0 and `MAX_PRICE`, and for a file that cannot be read.
        """
        if isinstance(given, Prices):
            return given
        own = _own()
        if given is None:
            return own
        if isinstance(given, Mapping):
            return cls({**own.entries, **given}, own.date)
        if not isinstance(given, str | Path):
            raise ConfigurationError(f"prices are a mapping, a file or Prices, not {type(given).__name__}")
        table = cls.read(given)
        return cls({**own.entries, **table.entries}, table.date or own.date)

    @classmethod
    def read(cls, file: str | Path) -> Prices:
        """Return the table of a TOML file, which has the form of the package's own `prices.toml`.

        Raises ConfigurationError for a file that cannot be read, and for an entry that is malformed.
        """
        try:
            content = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"prices of {file}: {error}") from error
        unknown = sorted(content.keys() - {"date", "models"})
        day, models = content.get("date"), content.get("models", {})
        if unknown or not isinstance(models, dict) or not (day is None or type(day) is datetime.date):
            wrong = f"unknown keys {', '.join(unknown)}" if unknown else "date is a day, and models are tables"
            raise ConfigurationError(f"prices of {file}: {wrong}")
        return cls(models, day, units=True)

    def __iter__(self) -> Iterator[tuple[str, Price]]:
        return iter(self.entries.items())

    def find(self, model: str, service: str = "") -> Price | None:
        """Return the price of a model, or else of the service; None if there is neither.

        The longest name in the table wins of which `model` is a version, such as "gpt-realtime" for
        "gpt-realtime-2025-08-28", or, for an entry that is a `family`, any longer name.
        """
        key = (model, service)
        if key not in self._found:
            if len(self._found) > 1_000:
                self._found.clear()
            self._found[key] = self._look_up(model) or self.entries.get(service)
        return self._found[key]

    def _look_up(self, model: str) -> Price | None:
        # Gateways and Google's SDK put a path before the name: "models/gemini-…", "openai/gpt-…".
        for name in dict.fromkeys((model, model.rpartition("/")[2])):
            for end in range(len(name), 0, -1):
                price = self.entries.get(name[:end])
                if price is not None and _is_version(name, end, price):
                    return price
        return None

    def cost(self, used: Usage) -> float | None:
        """Return the cost of a consumption in US dollars, None for a model without a price."""
        price = self.find(used.model, used.service)
        return None if price is None else price.of(used)

    def total(self, usages: Iterable[Usage]) -> float:
        """Return the cost of several consumptions in US dollars. Models without a price count as 0."""
        return math.fsum(self.cost(used) or 0.0 for used in usages)


def _is_version(name: str, end: int, price: Price) -> bool:
    if end == len(name) or _VERSION.fullmatch(name, end):
        return True
    return price.family and name[end] in "-_.:"


def _price_of(name: str, given: PriceGiven, *, units: bool) -> Price:
    what = f"the price of {name!r}"
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{what}: its key is not the name of a model or a service")
    try:
        price = given if isinstance(given, Price) else msgspec.convert(given, Price)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{what}: {error}") from None
    for field in (*_amounts(), *_NO_MONEY):
        value = getattr(price, field)
        if value is None and field.startswith(("cached_", "image_")):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigurationError(f"{what}: {field} is {value!r}, not a number")
        if not 0 <= value <= MAX_PRICE:
            raise ConfigurationError(f"{what}: {field} is {shown_number(value)}: it is between 0 and {MAX_PRICE:,}")
    if not isinstance(price.family, bool):
        raise ConfigurationError(f"{what}: family is {price.family!r}, not True or False")
    if units and set(price.unit) != price.units:
        raise ConfigurationError(f"{what}: its unit is {list(price.unit)}, its prices are per {sorted(price.units)}")
    return price


def shown_number(value: object) -> str:
    """Return a number for an error's message. Python does not print an integer of more than 4,300 digits."""
    return "a huge integer" if isinstance(value, int) and abs(value) > 1e18 else repr(value)


@cache
def _own() -> Prices:
    return Prices.read(TABLE)
