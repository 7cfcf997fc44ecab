"""Near-duplicates: the same text in several places is one hit with all its places; another figure is another text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.retrieve.duplicates import collapse
from passages import make_hit, make_hits

LONG = " ".join(
    f"The {adjective} kite circles above the {place}."
    for adjective in ("red", "black", "brahminy", "white")
    for place in ("valley", "harbour", "marsh", "village", "forest", "orchard", "ridge", "delta")
)
CHINESE = "红鸢在山谷上空盘旋，寻找田鼠和小鸟。它的尾巴分叉，翅膀狭长，很容易同别的猛禽区分开来。冬天它们成群过夜。"


def test_the_same_text_is_one_hit_that_lists_the_other_places() -> None:
    first, other, copy, spaced = make_hits("A kite soars.", "An owl hunts.", "A kite soars.", "a KITE\n soars.")
    kept = collapse([first, other, copy, spaced])
    assert [(hit.chunk, hit.rank, hit.others) for hit in kept] == [
        (first.chunk, 1, (copy.chunk, spaced.chunk)),
        (other.chunk, 2, ()),
    ]
    assert (kept[0].score, kept[0].legs) == (first.score, first.legs)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (LONG, LONG.replace("marsh", "moor"), False),
        (LONG, f"{LONG} Amen.", True),
        (LONG, f"## {LONG}", True),
        (LONG, f"{LONG} In 2023.", False),
        (f"{LONG} Version 2.3.", f"{LONG} Version 2.4.", False),
        (f"{LONG} Version 2.3.", f"{LONG} Version 2.3", True),
        (LONG, LONG[: len(LONG) // 2], False),
        ("It is supported.", "It is not supported.", False),
        (CHINESE, f"{CHINESE}完", True),
        ("鸢在山谷上空盘旋。", "鸢在山谷上空盘旋。完", False),
    ],
)
def test_what_counts_as_the_same_text(one: str, other: str, same: bool) -> None:
    assert (len(collapse(make_hits(one, other))) == 1) is same


def test_a_text_of_few_words_is_the_same_only_under_the_same_headings() -> None:
    first = make_hit("None.", headings=["Lite", "Limits"])
    assert len(collapse([first, make_hit("None.", rank=2, source="/b.md", headings=["Server", "Limits"])])) == 2
    assert len(collapse([first, make_hit("None.", rank=2, source="/b.md", headings=["Lite", "Limits"])])) == 1


TEXTS = st.lists(
    st.sampled_from(["a b c d e f", "A b c d e f", "a b 1", "a b 2", LONG, f"{LONG} Amen.", ""]), max_size=8
)


@given(TEXTS)
def test_no_chunk_is_lost_or_doubled_and_nothing_changes_the_second_time(texts: list[str]) -> None:
    hits = make_hits(*texts)
    kept = collapse(hits)
    chunks = [chunk for hit in kept for chunk in (hit.chunk, *hit.others)]
    assert sorted(chunk.source for chunk in chunks) == sorted(hit.chunk.source for hit in hits)
    assert [hit.rank for hit in kept] == list(range(1, len(kept) + 1))
    assert collapse(kept) == kept
    assert [hit.chunk for hit in kept] == [hit.chunk for hit in hits if hit.chunk in [one.chunk for one in kept]]
