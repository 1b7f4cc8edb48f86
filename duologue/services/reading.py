"""`Reading`: numbers, money, dates, addresses and names of a text in the words of a language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from ..errors import ConfigurationError, MissingExtra
from .reading_tables import CURRENCIES, CURRENCY_OF_COUNTRY, ORDINALS, SIGNS, UNITS
from .spoken_text import Marked

_LEAST_PHONE_DIGITS = 7
_MOST_DIGITS = 15
"""Digits of the longest number that is said as one. A longer number is said digit by digit."""

# A character of a word, but not of the scripts from Thai on, which have no spaces around a number.
_WORD = r"[^\W\u0e00-\uffff]"

_IN_ADDRESS = r"[^\s<>\"'()\[\]{}\u0e00-\uffff]"
_URL = re.compile(
    rf"(?:(?i:https?)://|(?<!{_WORD}|[@.])(?i:www)\.){_IN_ADDRESS}+"
    rf"|(?<!{_WORD}|[@./-])(?:{_WORD}|-)+(?:\.(?:{_WORD}|-)+)*\.(?i:com|org|net|io|dev|ai)(?!{_WORD})(?:/{_IN_ADDRESS}*)?"
)
_EMAIL = re.compile(rf"(?<!{_WORD}|[.+-])(?:{_WORD}|[.+-])+@(?:{_WORD}|-)+(?:\.(?:{_WORD}|-)+)*\.{_WORD}{{2,}}")
_ISO_DATE = re.compile(rf"(?<!{_WORD}|[./-])([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}})(?!{_WORD}|[/-]|\.\d)")
_DATE = re.compile(rf"(?<!{_WORD}|[./-])[0-9]{{1,2}}([./-])[0-9]{{1,2}}\1[0-9]{{4}}(?!{_WORD}|[/-]|\.\d)")
_TIME = re.compile(r"(?<![\w.:/-])([01]?\d|2[0-3]):([0-5]\d)(?![\w:]|\.\d)")
_VERSION = re.compile(r"(?<![\w.,])v?\d+(?:\.\d+){2,}(?![\w])")
_HINT = re.compile(r"[\d@]|://|www\.|\.[a-z]{2,3}\b", re.IGNORECASE)


class Reading:
    """Says numbers, units, money, dates, times, phone numbers, URLs and e-mail addresses in words.

    For voices that do not read these well, or not all alike. Where the libraries have no words, the text stays as it
    is written, for the voice to read: numbers in Arabic, Hindi and Chinese, and decimals in Italian and Russian.

    `locale` is a language, or a language and a country: "en_GB". With "" it is the language of the agent, else English.
    `replace` has words and what is said for each: `{"SQL": "sequel"}`. A word counts only as a whole, in this case.

    Needs `pip install 'duologue[text]'`. The first one of a process imports its libraries, which takes about 0.3 s.
    Raises MissingExtra without the extra, ConfigurationError for an unknown locale or an empty word.
    """

    def __init__(self, locale: str = "", *, replace: Mapping[str, str] | None = None) -> None:
        _library("num2words"), _library("phonenumbers")
        self._locale = locale
        self._replace = dict(replace or {})
        if not all(isinstance(part, str) and word.strip() for word, part in self._replace.items()):
            raise ConfigurationError("replace: each word has one letter or more, and a text that is said for it")
        words = sorted(map(re.escape, self._replace), key=len, reverse=True)
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)") if words else None
        self._words_together = max((len(word.split()) for word in self._replace), default=1)
        _rules(locale or "en")

    @property
    def words_together(self) -> int:
        """The most words that `replace` says in another way together."""
        return self._words_together

    def read(self, text: str, marked: Marked, language: str) -> None:
        """Mark the parts of a text that are said in other words. An unknown language is read as English."""
        if self._words is not None:
            marked.mark(self._words, lambda word: self._replace[word[0]])
        if _HINT.search(text) is not None:
            self._rules_of(language).read(text, marked)

    def _rules_of(self, language: str) -> _LocaleWords:
        if not self._locale and language:
            try:
                return _rules(language)
            except ConfigurationError:
                return _rules("en")
        return _rules(self._locale or "en")


class _LocaleWords:
    """The words of one locale."""

    def __init__(self, name: str) -> None:
        babel = _library("babel")
        try:
            self.locale: Any = babel.Locale.parse(name.replace("-", "_"))
        except (ValueError, TypeError, babel.UnknownLocaleError) as error:
            raise ConfigurationError(
                f"unknown locale {name!r}: name a language, or a language and a country"
            ) from error
        self.language: str = self.locale.language
        self.region: str = self.locale.territory or _country_of(babel, self.language)
        self._phonenumbers = _library("phonenumbers")
        self.signs = SIGNS.get(self.language, SIGNS["en"])
        self._converter: Any = _converter(self.language, self.region)
        symbols = self.locale.number_symbols.get("latn") or next(iter(self.locale.number_symbols.values()))
        self._decimal, group = symbols["decimal"], symbols["group"]
        point = getattr(self._converter, "pointword", None)
        self._point: str = point if isinstance(point, str) and point.isalpha() else ""
        groups = re.escape(group) + ("" if not group.isspace() and group not in "\u202f\xa0" else " \xa0\u202f")
        self._groups = re.compile(f"[{groups}]")
        whole = rf"(?:[0-9]{{1,3}}(?:[{groups}][0-9]{{3}})+|[0-9]+)"
        number = rf"{whole}(?:{re.escape(self._decimal)}[0-9]+)?"
        ends = rf"(?!{_WORD}|[.,:/．-]\d)"
        begins = rf"(?<!{_WORD}|[.,:/．])(?<!\d[-–])"
        units = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
        signed = rf"(?:(?<![^\s\u0e00-\uffff])[-−])?{number}"
        self._number = re.compile(rf"{begins}{signed}{ends}")
        self._measure = re.compile(
            rf"{begins}({signed})[ \xa0\u202f]?({units})(?!{_WORD}|[/²³])|(?<!{_WORD})%([0-9]+){ends}"
        )
        signs = "|".join(sorted(map(re.escape, CURRENCIES), key=len, reverse=True))
        codes = "[A-Z]{3}"
        scales = self._scale_words()
        scale = rf"(?:[ \xa0](?P<scale>{'|'.join(scales)})\b)?" if scales else "(?P<scale>)"
        before = rf"(?<!{_WORD}|[.,])(?P<before>{signs}|{codes}(?=[ \xa0]))[ \xa0]?(?P<first>{number}){ends}{scale}"
        after = rf"{begins}(?P<second>{number})[ \xa0\u202f]?(?P<after>{signs}|{codes})(?!{_WORD})"
        self._money = re.compile(f"{before}|{after}")

    # -- the parts of a text -----------------------------------------------------------------------------------------

    def read(self, text: str, marked: Marked) -> None:
        """Mark the parts of a text that are said in other words."""
        if "@" in text:
            marked.mark(_EMAIL, lambda match: self._address(match[0]))
        marked.mark(_URL, self._url)
        marked.mark(_ISO_DATE, lambda match: self._date(match[1], match[2], match[3]))
        marked.mark(_DATE, self._local_date)
        self._read_phone_numbers(text, marked)
        marked.mark(self._money, self._sum)
        if self._converter is not None and self.language == "en":
            marked.mark(_TIME, self._time)
        marked.mark(self._measure, self._quantity)
        if self._converter is not None:
            if pattern := ORDINALS.get(self.language):
                marked.mark(pattern, lambda match: self._words(int(match[1]), "ordinal"))
            marked.mark(_VERSION, self._version)
            marked.mark(self._number, lambda match: self._say(match[0], year=True))

    def _address(self, text: str) -> str:
        at, dot, slash, hyphen, underscore, plus = self.signs
        words = {"@": at, ".": dot, "/": slash, "-": hyphen, "_": underscore, "+": plus}
        return " ".join(words.get(part, part) for part in re.findall(r"[^\W_]+|[@./+_-]", text))

    def _url(self, match: re.Match[str]) -> str:
        whole = match[0]
        address = whole.rstrip(".,;:!?…")
        host = re.sub(r"^(?:https?://)?(?:www\.)?", "", address, flags=re.IGNORECASE)
        host = re.split(r"[?#]", host)[0].rstrip("/")
        return self._address(host) + whole[len(address) :]

    def _date(self, year: str, month: str, day: str) -> str | None:
        try:
            when = date(int(year), int(month), int(day))
        except ValueError:
            return None
        said: str = _library("babel.dates").format_date(when, "long", locale=self.locale)
        if self.language != "en":
            return said
        said = re.sub(r"^(\d{1,2}) ", r"\1 of ", said)  # "12 May 2026", as in Britain
        said = re.sub(r"\b\d{4}\b", lambda found: self._words(int(found[0]), "year"), said)
        return re.sub(r"\b\d{1,2}\b", lambda found: self._words(int(found[0]), "ordinal"), said)

    def _local_date(self, match: re.Match[str]) -> str | None:
        try:
            when = _library("babel.dates").parse_date(match[0], locale=self.locale)
        except (ValueError, IndexError):
            return None
        return self._date(str(when.year), str(when.month), str(when.day))

    def _time(self, match: re.Match[str]) -> str:
        hour, minute = int(match[1]), int(match[2])
        if not minute:
            return self._words(hour)
        return f"{self._words(hour)} {'oh ' if minute < 10 else ''}{self._words(minute)}"

    def _read_phone_numbers(self, text: str, marked: Marked) -> None:
        phonenumbers = self._phonenumbers
        possible = phonenumbers.Leniency.POSSIBLE
        for found in phonenumbers.PhoneNumberMatcher(text, self.region, leniency=possible):
            raw = found.raw_string
            groups = re.findall(r"\d+", raw)
            if sum(map(len, groups)) < _LEAST_PHONE_DIGITS:
                continue
            # Without a plus or groups it may be any number; with one sign between, a sum or a range.
            if raw.startswith("+") or (len(groups) > 1 and not re.search(r"[.,/:]", raw) and not self._is_sum(raw)):
                plus = f"{self.signs[5]} " if raw.startswith("+") else ""
                marked.put(found.start, found.end, plus + ", ".join(map(self._digits, groups)))

    def _is_sum(self, raw: str) -> bool:
        return self._number.fullmatch(raw) is not None

    def _sum(self, match: re.Match[str]) -> str | None:
        sign = match["before"] or match["after"]
        code = CURRENCY_OF_COUNTRY.get((sign, self.region)) or CURRENCIES.get(sign, sign)
        if code not in self.locale.currencies:
            return None
        amount, scale = match["first"] or match["second"], match["scale"]
        plain = self._plain(amount)
        whole, _, part = plain.partition(".")
        forms = getattr(self._converter, "CURRENCY_FORMS", {}).get(code)
        if scale:
            return f"{self._say(amount)} {scale} {forms[0][-1] if forms else self._currency(code, '1000000')}"
        if self._is_one(plain):
            return f"{amount} {self._currency(code, plain)}"
        if forms is None or len(part) not in (0, 2) or len(whole) > _MOST_DIGITS:
            return f"{self._say(amount)} {self._currency(code, plain)}"
        if part.strip("0"):
            return self._library_sum(plain, code) or f"{self._say(amount)} {self._currency(code, plain)}"
        try:
            name = self._converter.pluralize(int(whole), forms[0])
        except (NotImplementedError, TypeError, IndexError):
            name = self._currency(code, whole)
        return f"{self._words(int(whole))} {name}"

    def _library_sum(self, plain: str, code: str) -> str:
        try:
            said: str = self._converter.to_currency(float(plain), currency=code)
        except (NotImplementedError, TypeError, ValueError, IndexError):
            return ""
        return said

    def _currency(self, code: str, count: str) -> str:
        name: str = _library("babel.numbers").get_currency_name(code, count=float(count), locale=self.locale)
        return name

    def _quantity(self, match: re.Match[str]) -> str:
        amount, unit = match[1] or match[3], UNITS[match[2] or "%"]
        plain = self._plain(amount)
        count: float | int = float(plain) if "." in plain else int(plain)
        units = _library("babel.units")
        pattern = units.format_unit(count, unit, "long", locale=self.locale)
        written = _library("babel.numbers").format_decimal(count, locale=self.locale)
        # The library knows the unit's form for this count, and its place before or behind the number.
        number = written if self._is_one(plain) else self._say(amount)
        said: str = pattern.replace(written, number, 1) if written in pattern else pattern
        return said

    def _is_one(self, plain: str) -> bool:
        """Return True for the number one of a thing, whose word depends on the thing's gender."""
        return plain == "1" and self.language != "en"

    def _version(self, match: re.Match[str]) -> str:
        parts = match[0].lstrip("v").split(".")
        said = f" {self.signs[1]} ".join(self._say(part) for part in parts)
        return f"{self._words_of_v()}{said}" if match[0][0] == "v" else said

    def _words_of_v(self) -> str:
        return "version " if self.language in ("en", "fr", "de") else "v "

    # -- numbers -----------------------------------------------------------------------------------------------------

    def _plain(self, amount: str) -> str:
        return self._groups.sub("", amount).replace(self._decimal, ".").replace("−", "-")

    def _say(self, amount: str, *, year: bool = False) -> str:
        """Return the words of a number as it is written, or the number if there are none."""
        if self._converter is None:
            return amount
        whole, _, part = self._plain(amount).partition(".")
        digits = whole.lstrip("-")
        if part and not self._point:
            return amount
        if (
            len(digits) > _MOST_DIGITS
            or (len(digits) > 1 and digits[0] == "0")
            or (len(digits) > 6 and whole == amount)
        ):
            return self._digits(amount)
        if self._phonenumbers.is_emergency_number(amount, self.region):
            return self._digits(amount)
        is_year = (
            year and self.language == "en" and len(amount) == 4 and amount.isdigit() and 1100 <= int(amount) < 2100
        )
        said = self._words(int(whole), "year" if is_year else "cardinal")
        if whole.startswith("-") and not int(whole):
            said = f"{self._words(-1).split()[0]} {said}"
        return (
            f"{said} {self._point.lower() if self.language == 'en' else self._point} {self._digits(part)}"
            if part
            else said
        )

    def _words(self, number: int, kind: str = "cardinal") -> str:
        if self._converter is None:
            return str(number)
        try:
            said: str = getattr(self._converter, f"to_{kind}")(number)
        except (NotImplementedError, OverflowError, TypeError, ValueError, IndexError, KeyError):
            return str(number)
        return said.strip()

    def _digits(self, text: str) -> str:
        return " ".join(self._words(int(digit)) for digit in text if digit.isdigit())

    def _scale_words(self) -> list[str]:
        """Return the words for a million and beyond, in singular and plural, where they stand behind a number."""
        if self.language not in ("de", "en", "es", "fr", "it", "nl", "pt"):
            return []
        said = [self._words(count * 10**power).split()[-1] for power in (6, 9, 12) for count in (1, 2)]
        return sorted({word for word in said if word.isalpha()}, key=len, reverse=True)


@cache
def _rules(name: str) -> _LocaleWords:
    return _LocaleWords(name)


def _library(name: str) -> ModuleType:
    """Return a module of the extra. Raises MissingExtra."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra("Reading", "text", str(error)) from error


def _converter(language: str, region: str) -> Any:
    """Return the library's words for the numbers of a language, None if it has none that are right."""
    if language == "ar":  # its words depend on the gender of what is counted
        return None
    converters = _library("num2words").CONVERTER_CLASSES
    return converters.get(f"{language}_{region}") or converters.get(language)


def _country_of(babel: ModuleType, language: str) -> str:
    likely = babel.core.get_global("likely_subtags").get(language, "")
    return str(likely).rpartition("_")[2] or "US"
