"""The tables of `Reading`: signs, units, currencies and ordinal numbers, as they are written."""

from __future__ import annotations

import re

SIGNS = {
    "ar": ("آت", "دوت", "سلاش", "شرطة", "شرطة سفلية", "زائد"),
    "de": ("at", "Punkt", "Schrägstrich", "Bindestrich", "Unterstrich", "plus"),
    "en": ("at", "dot", "slash", "dash", "underscore", "plus"),
    "es": ("arroba", "punto", "barra", "guion", "guion bajo", "más"),
    "fr": ("arobase", "point", "barre oblique", "tiret", "tiret bas", "plus"),
    "hi": ("ऐट", "डॉट", "स्लैश", "डैश", "अंडरस्कोर", "प्लस"),
    "it": ("chiocciola", "punto", "barra", "trattino", "trattino basso", "più"),
    "ja": ("アット", "ドット", "スラッシュ", "ハイフン", "アンダースコア", "プラス"),
    "ko": ("골뱅이", "점", "슬래시", "하이픈", "밑줄", "플러스"),
    "nl": ("apenstaartje", "punt", "schuine streep", "streepje", "liggend streepje", "plus"),
    "pl": ("małpa", "kropka", "ukośnik", "myślnik", "podkreślnik", "plus"),
    "pt": ("arroba", "ponto", "barra", "hífen", "sublinhado", "mais"),
    "ru": ("собака", "точка", "слэш", "дефис", "нижнее подчёркивание", "плюс"),
    "th": ("แอท", "จุด", "ทับ", "ขีด", "ขีดล่าง", "บวก"),
    "tr": ("et", "nokta", "eğik çizgi", "tire", "alt çizgi", "artı"),
    "zh": ("艾特", "点", "斜杠", "横杠", "下划线", "加"),
}
"""The words for the signs in addresses, by language: at, dot, slash, hyphen, underscore, plus."""
UNITS = {
    "%": "percent",
    "°C": "temperature-celsius",
    "°F": "temperature-fahrenheit",
    "°": "angle-degree",
    "km/h": "speed-kilometer-per-hour",
    "mph": "speed-mile-per-hour",
    "km²": "area-square-kilometer",
    "m²": "area-square-meter",
    "m³": "volume-cubic-meter",
    "km": "length-kilometer",
    "cm": "length-centimeter",
    "mm": "length-millimeter",
    "m": "length-meter",
    "kg": "mass-kilogram",
    "mg": "mass-milligram",
    "µg": "mass-microgram",
    "g": "mass-gram",
    "lb": "mass-pound",
    "lbs": "mass-pound",
    "oz": "mass-ounce",
    "ft": "length-foot",
    "ml": "volume-milliliter",
    "mL": "volume-milliliter",
    "l": "volume-liter",
    "L": "volume-liter",
    "GB": "digital-gigabyte",
    "MB": "digital-megabyte",
    "TB": "digital-terabyte",
    "kB": "digital-kilobyte",
    "KB": "digital-kilobyte",
    "GHz": "frequency-gigahertz",
    "MHz": "frequency-megahertz",
    "kHz": "frequency-kilohertz",
    "Hz": "frequency-hertz",
    "kWh": "energy-kilowatt-hour",
    "kW": "power-kilowatt",
    "ms": "duration-millisecond",
    "min": "duration-minute",
    "h": "duration-hour",
}
"""Abbreviations of the SI and of everyday use, and their names in CLDR."""
CURRENCIES = {
    "$": "USD",
    "US$": "USD",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "₩": "KRW",
    "₽": "RUB",
    "₺": "TRY",
}
CURRENCIES |= {"zł": "PLN", "฿": "THB", "R$": "BRL", "C$": "CAD", "A$": "AUD", "₴": "UAH", "₪": "ILS", "₫": "VND"}
"""The codes (ISO 4217) of the signs of currencies."""
CURRENCY_OF_COUNTRY = {
    ("$", "CA"): "CAD",
    ("$", "AU"): "AUD",
    ("$", "MX"): "MXN",
    ("$", "NZ"): "NZD",
    ("$", "AR"): "ARS",
    ("$", "CL"): "CLP",
    ("$", "CO"): "COP",
    ("¥", "CN"): "CNY",
}
"""The codes of signs that mean another currency in a country (ISO 3166)."""
ORDINALS = {
    "en": re.compile(r"(?<![\w.,])(\d{1,6})(?:st|nd|rd|th)\b"),
    "fr": re.compile(r"(?<![\w.,])(\d{1,6})(?:er|ère|e|ème)\b"),
    "nl": re.compile(r"(?<![\w.,])(\d{1,6})(?:e|ste|de)\b"),
}
"""Ordinal numbers in digits, by language."""
