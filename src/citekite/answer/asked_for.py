"""The kind of thing that a question asks for (a year, a share, a number of votes), and whether a text holds one."""

from __future__ import annotations

import regex

from citekite.retrieve.lexical import word_terms

_WORD = regex.compile(r"[\p{L}\p{N}\p{M}]+(?:[.,]\p{N}+)*")
_YEAR = r"(?<!\d)(?:1\d|20)\d{2}s?(?!\d)|\b\d{3}(?= (?:AD|CE|BC))|\d{2,4}\s?年"
_MONTHS = r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b|\b(?:märz|mai|oktober|dezember)\b"
_DATE = (
    rf"{_YEAR}|{_MONTHS}|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\bcentur|\bdecade|\bjahrhundert|\d\.|[月日]|世纪"
    r"|\bago\b|\b(?:spring|summer|autumn|winter)\b|\d{1,2}:\d{2}|\b\d{1,4}\s?(?:BC|AD|CE)\b"
)
_NUMBER = (
    r"\d|[½¼¾]|\b(?:no|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|dozens?|hundreds?"
    r"|thousands?|half|third|quarter|twice|once|percent|single|couple|several|both|pair|ein\w*|zwei|drei|vier|fünf|sechs"
    r"|sieben|acht|neun|zehn|elf|zwölf|\w+zig|hundert\w*|tausend\w*|[mb]illion\w*|milliard\w*|hälfte|drittel)\b"
    r"|[一二三四五六七八九十百千万亿两半]"
)
_KINDS = tuple(
    (regex.compile(asks, regex.IGNORECASE), regex.compile(holds, regex.IGNORECASE))
    for asks, holds in (
        (r"\b(?:what|which) years?\b|\bin welche[mn] jahr|哪一?年", _YEAR),
        (
            r"\b(?:what|which) (?:month|date|day|century|decade)s?\b|\bwhen\b|\bwann\b"
            r"|\bwelche[mnrs]? (?:monat|tag|datum)|\bquand\b|\bcuándo\b|什么时候|何时|哪一?[月天日]|几月|いつ",
            _DATE,
        ),
        (
            r"\b(?:what|which|how many) (?:percent(?:age)?|proportion|fraction)\b|prozent|百分",
            r"[%％]|\bper ?cent|prozent|百分|\bfraction|\bhalf\b|\bthirds?\b|\bquarter|\bone in\b",
        ),
        (
            r"\bhow much\b.*\b(?:cost|pay|paid|spen[dt]|earn\w*|price|worth|money|s[eo]ld|donat\w+|charged?)\b"
            r"|\bwhat price\b",
            r"[$€£¥]|\b(?:dollars?|euros?|pounds?|cents?|francs?|yen|usd|eur|[mb]illion)\b|[美欧]元|英镑",
        ),
        (
            r"\bhow (?:many|much|long|old|far|tall|high|large|big|often|fast|deep|wide|heavy)\b|\bwie ?viele?\b"
            r"|\b(?:what|which) (?:number|amount|size|score|speed|distance|population|average|rate|age|ratio)\b"
            r"|\bwie (?:lange|alt|hoch|oft|weit|groß)\b|\bcombien\b|\bcuánt[oa]s?\b|多少|几个|多[长久大高]",
            _NUMBER,
        ),
    )
)
# A capital that does not begin the sentence.
_NAME = regex.compile(r"""(?<=[\p{L}\p{N},;:)%] ['"“(]?)\p{Lu}[\p{L}.]+""")
_ASKS_FOR_NAME = regex.compile(
    r"\bwho(?:m|se)?\b|\b(?:what|which) (?:city|country|person|team|company)\b", regex.IGNORECASE
)
_HOW_MANY = regex.compile(
    r"\bhow many (?:(?:more|of|the|other|total|different|new)\s)*([\p{L}-]+)(?:\s([\p{L}-]+))?", regex.IGNORECASE
)
_HAS_NUMBER = regex.compile(_NUMBER, regex.IGNORECASE)
_BESIDE = 4


def holds_kind(question: str, text: str) -> bool | None:
    """Whether a text holds a thing of the kind asked for that the question does not name; None where no kind is asked.

    >>> holds_kind("When was it built?", "It was built in 1932."), holds_kind("When was it built?", "It was built.")
    (True, False)
    >>> holds_kind("Why was it built?", "It was built.") is None
    True
    """
    asked = set(_WORD.findall(question.casefold()))
    for asks, holds in (*_KINDS, (_ASKS_FOR_NAME, _NAME)):
        if asks.search(question):
            found = (_WORD.findall(match[0].casefold()) for match in holds.finditer(text))
            return any(not words or not asked.issuperset(words) for words in found)
    return None


def holds_unit(question: str, text: str) -> bool | None:
    """Whether a text has a number of what "how many" asks for close before it; None for another question.

    >>> holds_unit("How many votes did he get?", "He got 12 of the votes."), holds_unit("How many votes?", "In 1932.")
    (True, False)
    """
    asks = _HOW_MANY.search(question)
    if asks is None:
        return None
    stems = {word_terms(noun.lower())[:1] for noun in asks.groups() if noun} - {()}
    words = _WORD.findall(text)
    return any(
        word_terms(word.lower())[:1] in stems and any(map(_HAS_NUMBER.search, words[max(0, place - _BESIDE) : place]))
        for place, word in enumerate(words)
    )
