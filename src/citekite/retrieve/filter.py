"""A filter in plain terms (sources, path globs, metadata, dates), as a Milvus expression that no value can change.

Milvus' `like` is not used: the embedded database reads `\\%` in a pattern as a wildcard as soon as the same expression
looks into metadata. Globs are therefore matched here against the stored sources, and prefixes are ranges.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import groupby
from pathlib import PurePath

from citekite.errors import FilterError

Value = str | int | float | bool | date

_INT64 = range(-(1 << 63), 1 << 63)
# Milvus Lite knows these escapes alone; any other character, also a control character, stands for itself.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_NOTHING = 'source == ""'
_QUOTED = re.compile(r"""(["'])(?:\\.|(?!\1)[^\\])*\1""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which documents a search may find; every condition that is given has to hold.

    `sources`: a document, or anything below a folder or in an archive. `paths`: globs (see `matches_glob`). `where`:
    front matter or columns by key; a value equals the stored one or is one of a stored list, and of several values
    any will do. `after` (inclusive) and `before` (exclusive) bound the ISO date in the metadata under `date_key`; a
    document without one is not found. `expression` is Milvus' own language.

    >>> Filter(where={"lang": "en"}, before=date(2024, 5, 1)).to_expression(list).count(" and ")
    2
    """

    sources: str | PurePath | Sequence[str | PurePath] = ()
    paths: str | Sequence[str] = ()
    where: Mapping[str, Value | Sequence[Value]] = field(default_factory=dict)
    after: date | None = None
    before: date | None = None
    date_key: str = "date"
    expression: str = ""

    def to_expression(self, stored: Callable[[], Iterable[str]]) -> str:
        """The Milvus expression, empty where nothing is filtered.

        `sources` have to be canonical. `stored` gives the sources in the collection and is called only for `paths`.
        Raises `FilterError` for a value that no document can have.
        """
        expression = self.expression.strip()
        parts = [self._sources(), self._paths(stored), *self._where(), self._dates()]
        given = [part for part in parts if part]
        if not given:
            return expression
        if expression:
            given.insert(0, whole(expression))
        return " and ".join(f"({part})" for part in given) if len(given) > 1 else given[0]

    def _sources(self) -> str:
        return " or ".join(_is_under(source) for source in texts(self.sources))

    def _paths(self, stored: Callable[[], Iterable[str]]) -> str:
        globs = texts(self.paths)
        if not globs:
            return ""
        if not all(globs):
            raise FilterError("a path glob cannot be empty: it is one such as '*.md' or 'docs/**'")
        return _runs(tuple(sorted(set(stored()))), globs)

    def _where(self) -> list[str]:
        return [_metadata_has(key, values) for key, values in self.where.items()]

    def _dates(self) -> str:
        if self.after is None and self.before is None:
            return ""
        # ISO dates sort as text. The outer bounds keep out text that starts with no digit, such as "soon".
        low = '"0"' if self.after is None else _literal(_date(self.after))
        high = '":"' if self.before is None else _literal(_date(self.before))
        stored = _metadata(self.date_key)
        return f"{stored} >= {low} and {stored} < {high}"


def matches_glob(source: str, glob: str) -> bool:
    """Whether a glob fits all of a source: `*` and `?` stay within a name, `**` is any number of folders.

    A glob that starts with neither `/` nor a scheme may begin at any folder; one that ends with `/` means all below.

    >>> matches_glob("/x/docs/faq/a.md", "docs/*.md"), matches_glob("/x/docs/faq/a.md", "docs/**/*.md")
    (False, True)
    """
    if not glob.startswith("/") and "://" not in glob:
        glob = f"**/{glob.removeprefix('./')}"
    patterns = (f"{glob}**" if glob.endswith("/") else glob).replace("[", "[[]").split("/")
    if patterns[-1] == "**":
        patterns.append("*")  # what is below a folder, not the folder
    return _fits(source.split("/"), patterns)


def quote(text: str) -> str:
    r"""A string as a literal of a Milvus expression; raises `FilterError` for a string that is no Unicode.

    >>> print(quote('say "hi"'))
    "say \"hi\""
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise FilterError(f"{text!r} cannot be looked for: it is no text that can be stored") from None
    return f'"{text.translate(_ESCAPES)}"'


def whole(expression: str) -> str:
    """An expression that stays one between brackets; raises `FilterError` where it does not.

    With `page > 3) or (page > 0` the conditions beside it would not hold.
    """
    bare = _QUOTED.sub("", expression)
    depth = 0
    for bracket in re.findall(r"[()]", bare):
        depth += 1 if bracket == "(" else -1
        if depth < 0:
            break
    if depth or '"' in bare or "'" in bare:
        raise FilterError(f"brackets or quotation marks do not match in the filter {expression!r}")
    return expression


def texts(values: str | PurePath | Sequence[str | PurePath]) -> tuple[str, ...]:
    """The texts of a list, or the one that stands alone."""
    return (str(values),) if isinstance(values, str | PurePath) else tuple(map(str, values))


def parse_where(conditions: Iterable[str]) -> dict[str, list[Value]]:
    """`where` of conditions such as `lang=en`; a value that reads as a number or as true or false means that too.

    >>> parse_where(["lang=en", "lang=de", "year=2024"])
    {'lang': ['en', 'de'], 'year': ['2024', 2024]}
    """
    where: dict[str, list[Value]] = {}
    for condition in conditions:
        key, equals, text = condition.partition("=")
        if not key or not equals:
            raise FilterError(f"{condition!r} is no condition: write KEY=VALUE, such as lang=en")
        where.setdefault(key, []).extend(_readings(text))
    return where


def parse_date(text: str) -> date:
    """A date as ISO writes it, such as 2024-05-31; raises `FilterError`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise FilterError(f"{text!r} is no date: write it as YEAR-MONTH-DAY, such as 2024-05-31") from None


def _is_under(source: str) -> str:
    """The source itself, or what lies in it as folder, archive or table; each range is that of one prefix."""
    prefixes = (f"{source.rstrip('/')}/", f"{source}!/", f"{source}#")
    ranges = (f"source >= {quote(prefix)} and source < {quote(_after(prefix))}" for prefix in prefixes)
    return " or ".join([f"source == {quote(source)}", *(f"({each})" for each in ranges)])


@lru_cache(maxsize=16)
def _runs(ordered: tuple[str, ...], globs: tuple[str, ...]) -> str:
    """Those of the ordered sources that fit a glob, as ranges of neighbours: short also where many do.

    A list of 2,000 sources makes Milvus Lite build a set of them for each of its rows. Remembered, because matching
    20,000 sources takes as long as ten searches.
    """

    def wanted(source: str) -> bool:
        return any(matches_glob(source, glob) for glob in globs)

    parts, single = [], []
    for is_wanted, group in groupby(ordered, key=wanted):
        run = list(group)
        if is_wanted and len(run) == 1:
            single.append(quote(run[0]))
        elif is_wanted:
            parts.append(f"(source >= {quote(run[0])} and source <= {quote(run[-1])})")
    if single:
        parts.append(f"source in [{', '.join(single)}]")
    return " or ".join(parts) or _NOTHING


def _after(prefix: str) -> str:
    """The first string in order that is after all that start with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _metadata(key: str) -> str:
    return f"metadata[{quote(key)}]"


def _metadata_has(key: str, wanted: Value | Sequence[Value]) -> str:
    values = (wanted,) if isinstance(wanted, str) or not isinstance(wanted, Sequence) else wanted
    if not values:
        raise FilterError(f"where names no value for {key!r}: leave the key out, or give one")
    stored, literals = _metadata(key), [_literal(value) for value in values]
    equal = " or ".join(f"{stored} == {literal}" for literal in literals)
    # not json_contains: Milvus Lite takes a negative number only as an element of a list
    return f"{equal} or json_contains_any({stored}, [{', '.join(literals)}])"


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, date):
        return quote(value.isoformat())
    if _is_number(value):
        return repr(value)
    raise FilterError(f"no metadata has the value {value!r}: it is text, a number of 64 bits, true or false, or a date")


def _date(value: object) -> date:
    if isinstance(value, datetime) and value.time() == time():
        return value.date()  # so that it bounds days that are stored without a time as well
    if isinstance(value, date):
        return value
    raise FilterError(f"after and before are dates, not {value!r}")


def _readings(text: str) -> list[Value]:
    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    return [text, value] if _is_number(value) else [text]


def _is_number(value: object) -> bool:
    return value in _INT64 if isinstance(value, int) else isinstance(value, float) and math.isfinite(value)


def _fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Match name by name; after a mismatch only the last `**` takes one name more, so the time stays bounded."""
    name = pattern = resume = 0
    folders = -1  # where the last `**` stands among the patterns
    while name < len(names):
        if pattern < len(patterns) and patterns[pattern] == "**":
            folders, resume, pattern = pattern, name, pattern + 1
        elif pattern < len(patterns) and fnmatchcase(names[name], patterns[pattern]):
            name, pattern = name + 1, pattern + 1
        elif folders >= 0:
            resume += 1
            name, pattern = resume, folders + 1
        else:
            return False
    return all(each == "**" for each in patterns[pattern:])
