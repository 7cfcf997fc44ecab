"""Numbers of a text in one written form: 1,000 and 1 000 are 1000, "three" is 3, 1.5 million is 1500000."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from decimal import Decimal

import regex

_WORDS = {
    word: str(value)
    for value, words in {
        0: "zero null",
        1: "eins",
        2: "two zwei deux dos",
        3: "three drei trois tres",
        4: "four vier quatre cuatro",
        5: "five fünf cinq cinco",
        6: "six sechs",
        7: "seven sieben sept siete",
        8: "eight acht huit ocho",
        9: "nine neun neuf nueve",
        10: "ten zehn dix diez",
        11: "eleven elf",
        12: "twelve zwölf dozen",
        13: "thirteen dreizehn",
        14: "fourteen vierzehn",
        15: "fifteen fünfzehn",
        16: "sixteen sechzehn",
        17: "seventeen siebzehn",
        18: "eighteen achtzehn",
        19: "nineteen neunzehn",
        20: "twenty zwanzig",
        30: "thirty dreißig",
        40: "forty vierzig",
        50: "fifty fünfzig half",
        60: "sixty sechzig",
        70: "seventy siebzig",
        80: "eighty achtzig",
        90: "ninety neunzig",
    }.items()
    for word in words.split()
}
_HAN_DIGITS = dict(zip("二三四五六七八九", "23456789", strict=True))
_SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "tausend": 10**3,
    "millionen": 10**6,
    "milliarden": 10**9,
    "万": 10**4,
    "亿": 10**8,
}
_NUMBER = regex.compile(
    r"(?:(?<![\w.])|(?<=[\p{Han}\p{Hiragana}\p{Katakana}]))v?(?P<digits>\d+(?:[.,' \u00a0\u202f]\d+)*)"
    rf"|\b(?P<word>{'|'.join(_WORDS)})\b|(?<!\p{{Han}}{{4}})(?P<han>[二三四五六七八九])(?=[个年月日名次种位条万亿])",
    regex.IGNORECASE,
)
_SCALE = regex.compile(rf"[\s-]*(?P<scale>{'|'.join(_SCALES)})", regex.IGNORECASE)
_GROUPS = regex.compile(r"\d{1,3}(?:[.,' \u00a0\u202f]\d{3})+")
_PARTS = regex.compile(r"[' \u00a0\u202f]")


# Units of which one cannot stand for another; the first word of a row names it.
_UNIT_ROWS = """
metres metre meters meter m; kilometres kilometre kilometers kilometer km; centimetres centimeters cm;
millimetres millimeters mm; feet foot ft; miles mile mi; inches inch; yards yard; grams gram; kilograms kilogram kg;
tonnes tons tonnen; seconds second sekunden; minutes minute minuten; hours hour stunden stunde; days day tage tagen;
weeks week wochen woche; months month monate monaten; years year jahre jahren; dollars dollar usd; euros euro eur;
percent prozent; kilobytes kb; megabytes mb; gigabytes gb; terabytes tb; celsius; fahrenheit
"""
_UNITS = {name: row.split()[0] for row in _UNIT_ROWS.split(";") for name in row.split()}
_UNIT = regex.compile(r"[\s-]?(?:\p{Lu}?[\p{Ll}]+|[A-Z]+)\b")


def measures(text: str) -> Iterator[tuple[str, frozenset[str], str]]:
    """The numbers of a text as in `quantities`, with the unit that follows; an empty one where none is known.

    >>> [(shown, unit) for shown, _, unit in measures("120 metres and 3 euros for two")]
    [('120', 'metres'), ('3', 'euros'), ('two', '')]
    """
    text = unicodedata.normalize("NFKC", text)
    position = 0
    for shown, forms in quantities(text):
        at = text.find(shown, position)
        position = at + len(shown) if at >= 0 else position
        follows = _UNIT.match(text, position) if at >= 0 else None
        yield shown, forms, _UNITS.get(follows[0].strip(" -").lower(), "") if follows else ""


def quantities(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The numbers of a text as they stand there, each with the forms by which it may be compared.

    >>> [(shown, sorted(forms)) for shown, forms in quantities("1,000 of three, v2.4.1, 1.5 million")]
    [('1,000', ['1000']), ('three', ['3']), ('v2.4.1', ['2.4.1']), ('1.5 million', ['1.5', '1500000'])]
    """
    text = unicodedata.normalize("NFKC", text)
    for found in _NUMBER.finditer(text):
        if found["digits"]:
            values = _values(found["digits"])
        else:
            values = [_WORDS[found["word"].lower()] if found["word"] else _HAN_DIGITS[found["han"]]]
        scale = _SCALE.match(text, found.end())
        shown = text[found.start() : scale.end() if scale else found.end()]
        for value in values:
            forms = {value}
            if scale and value.count(".") < 2:
                forms.add(_plain(Decimal(value) * _SCALES[scale["scale"].lower()]))
            yield shown if len(values) == 1 else value, frozenset(forms)


def _values(digits: str) -> list[str]:
    """One number, or several that a space or quotation mark alone holds together."""
    if _GROUPS.fullmatch(digits):
        return [regex.sub(r"\D", "", digits)]
    parts = _PARTS.split(digits)
    return [value for part in parts for value in _number(part)]


def _number(part: str) -> list[str]:
    if _GROUPS.fullmatch(part):
        return [regex.sub(r"\D", "", part)]
    if part.count(".") + part.count(",") > 1:
        return [part] if "," not in part else [_plain(Decimal(piece)) for piece in regex.split(r"[.,]", part)]
    return [_plain(Decimal(part.replace(",", ".")))]


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
