"""Laws of splitting: nothing lost, nothing over budget, offsets exact, ids that follow content and not position."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from citekite.errors import SettingsError
from citekite.ingest.sections import plain_heading, scan, sections
from citekite.ingest.split import (
    MAX_CHARACTERS,
    TOKEN_MARGIN,
    SectionSplitter,
    SeparatorSplitter,
    content_hash,
    content_of,
    document_id,
    make_splitter,
)
from citekite.settings import Settings
from citekite.tokens import estimate_tokens
from citekite.types import Chunk, Document, Format

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
DOCS = DATA / "milvus_docs" / "en"
needs_data = pytest.mark.skipif(not DOCS.is_dir(), reason="no documentation files beside the checkout")

few = settings(max_examples=60)


def document(text: str, format: Format = "markdown", title: str = "", **fields: object) -> Document:
    return Document("/docs/guide.md", title, text, "digest", format, **fields)  # type: ignore[arg-type]


def documentation() -> list[Document]:
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    return [Document(path.as_posix(), path.stem, text, "", "markdown", body=body(text)) for path, text in texts.items()]


def body(text: str) -> int:
    return text.index("\n---\n") + 5 if text.startswith("---\n") else 0


def squeezed(text: str) -> str:
    return "".join(text.split())


def ids(chunks: list[Chunk]) -> set[str]:
    return {chunk.id for chunk in chunks}


def texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


def check(splitter: SectionSplitter, source: Document) -> list[Chunk]:
    """The laws that hold for every document; returns its chunks."""
    chunks = splitter.split(source)
    assert all(source.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert all(chunk.text == chunk.text.strip() != "" for chunk in chunks)
    assert squeezed("".join(texts(chunks))) == squeezed(source.text[source.body :])
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(before.end <= after.start for before, after in pairwise(chunks))
    assert all(len(chunk.text) <= splitter.chunk_characters for chunk in chunks)
    assert all(estimate_tokens(chunk.indexed_text) <= TOKEN_MARGIN * splitter.max_tokens for chunk in chunks)
    assert all(chunk.line == source.text.count("\n", 0, chunk.start) + 1 for chunk in chunks)
    assert len(ids(chunks)) == len(chunks)
    assert all(chunk.document_id == document_id(source.source) for chunk in chunks)
    assert all(content_of(chunk.id) == content_hash(chunk.indexed_text) for chunk in chunks)
    assert splitter.split(source) == chunks
    return chunks


# Generated Markdown: sections with a level, a heading and blocks; the blocks hold what could be taken for headings.

words = st.lists(
    st.sampled_from(["Milvus", "stores", "vectors.", "数据库系统。", "größer", "😀👩‍👩‍👧", "`a # b`", "été", "x" * 30]),
    min_size=1,
    max_size=40,
).map(" ".join)
fence_lines = st.lists(st.sampled_from(["# comment", "x = 1", "", "| a | b |", "  ```x", "---", "搜索"]), max_size=12)
fences = st.tuples(st.sampled_from(["```", "~~~~", "``````"]), fence_lines).map(
    lambda parts: f"{parts[0]}python\n" + "".join(f"{line}\n" for line in parts[1]) + parts[0]
)
tables = st.lists(words, min_size=1, max_size=8).map(
    lambda cells: "| key | value |\n|---|---|\n" + "\n".join(f"| {n} | {cell} |" for n, cell in enumerate(cells))
)
lists = st.lists(words, min_size=1, max_size=6).map(lambda items: "\n".join(f"- {item}" for item in items))
blocks = st.lists(words | fences | tables | lists, max_size=5).map(lambda parts: "".join(f"{p}\n\n" for p in parts))
headings = st.sampled_from(["Alpha", "Beta", "Gamma", "索引", "Delta `d_1`"])


def rendered(parts: list[tuple[int, str, str]]) -> str:
    return "".join(f"{'#' * level} {heading}\n\n{content}" for level, heading, content in parts)


outlines = st.lists(st.tuples(st.integers(1, 4), headings, blocks), min_size=1, max_size=6)
noise = st.text("#`~-=|> \n\t.a1)漢é😀[]*_<!\u2028\x1c", max_size=300)
splitters = st.builds(SectionSplitter, st.sampled_from([1, 40, 200, 1600]), st.sampled_from([64, 256, 8192]))


@few
@given(splitters, blocks, outlines, st.sampled_from(["", "Alpha", "How " * 80]))
def test_markdown_is_cut_within_budget_with_exact_offsets_and_nothing_lost(splitter, intro, parts, title):
    check(splitter, document(intro + rendered(parts), title=title))


def test_few_bytes_do_not_hide_many_tokens():
    """A text of fewer bytes than the cap on characters is still cut where the embedder cannot read it whole."""
    text = "# Alpha\n\n" + "Milvus " * 16 + "数据库系统。 数据库系统。 " + "x" * 30
    assert len(text.encode()) < 200
    assert len(check(SectionSplitter(200, 64), document(text))) > 1


@few
@given(splitters, noise, st.sampled_from(["markdown", "html", "office", "row", "text", "pdf"]), st.data())
@example(SectionSplitter(1, 64), "𠀀𠀁 " * 40 + "\n# " + "漢" * 400 + "\n### b\n" + "é" * 99, "markdown", None)
def test_any_text_keeps_the_laws(splitter, text, format, data):
    pages = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=4))) if data and format == "pdf" else []
    start = data.draw(st.integers(0, len(text))) if data else 0
    check(splitter, document(text, format, title="Title", pages=tuple(pages), body=start))


@few
@given(outlines)
def test_every_heading_starts_a_chunk_and_sections_are_never_merged(parts):
    chunks = SectionSplitter(200).split(document(rendered(parts)))
    starts = [chunk for chunk in chunks if chunk.text.startswith("#") and " comment" not in chunk.text[:9]]
    assert [chunk.text.split("\n")[0] for chunk in starts] == [f"{'#' * level} {text}" for level, text, _ in parts]
    assert all(chunk.headings[-1] == plain_heading(chunk.text.split("\n")[0].lstrip("# ")) for chunk in starts)


@few
@given(outlines, st.sampled_from([120, 400]))
def test_fences_and_table_rows_that_fit_are_never_cut(parts, limit):
    text = rendered(parts)
    pieces = texts(SectionSplitter(limit).split(document(text)))
    whole = [text[mark.start : mark.end] for mark in scan(text) if not mark.level]
    outside = text
    for fence in whole:
        outside = outside.replace(fence, "")
    whole += [line for line in outside.split("\n") if line.startswith("|")]
    for block, count in Counter(block.strip() for block in whole if len(block.strip()) <= limit).items():
        assert sum(piece.count(block) for piece in pieces) >= count


@few
@given(outlines, st.data())
def test_an_edit_in_one_section_changes_only_ids_under_its_heading_path(parts, data):
    at = data.draw(st.integers(0, len(parts) - 1))
    level, heading, _ = parts[at]
    edited = [*parts[:at], (level, heading, data.draw(blocks)), *parts[at + 1 :]]
    splitter = SectionSplitter(200)
    before, after = (splitter.split(document(rendered(state), title="Guide")) for state in (parts, edited))
    path = [section.path for section in sections(rendered(parts))][at]
    changed = ids(before) ^ ids(after)
    assert {chunk.headings for chunk in before + after if chunk.id in changed} <= {("Guide", *path)}


@few
@given(outlines, st.randoms(use_true_random=False))
def test_moving_sections_keeps_every_id(parts, random):
    siblings = [(2, heading, content) for _, heading, content in parts]
    moved = random.sample(siblings, len(siblings))
    splitter = SectionSplitter(200)
    assert ids(splitter.split(document(rendered(siblings)))) == ids(splitter.split(document(rendered(moved))))


def test_equal_sections_are_told_apart_by_occurrence_and_sources_by_document_id():
    twice = document("# A\nsame\n# A\nsame\n")
    first, second = SectionSplitter().split(twice)
    assert (first.id[-2:], second.id[-2:]) == ("-0", "-1")
    assert content_of(first.id) == content_of(second.id)
    other = SectionSplitter().split(replace(twice, source="/docs/other.md"))[0]
    assert other.document_id != first.document_id
    assert content_of(other.id) == content_of(first.id)


def test_an_id_depends_on_title_headings_and_text_but_not_on_place_metadata_or_digest():
    text = "# A\n\nwords\n"
    (chunk,) = SectionSplitter().split(document(text, title="Guide"))
    moved = replace(document("\n\n\n" + text, title="Guide"), digest="other", metadata={"tag": 1})
    assert ids(SectionSplitter().split(moved)) == {chunk.id}
    assert ids(SectionSplitter().split(document(text, title="Manual"))).isdisjoint({chunk.id})


def test_heading_path_runs_from_title_to_own_heading_and_the_title_is_not_doubled():
    text = (
        "intro\n\n# **The** Guide\na\n## Install `x`\nb\n### From [source](http://a.b/c_(d)) {#src}\nc\n## Use ##\nd\n"
    )
    assert [chunk.headings for chunk in SectionSplitter().split(document(text, title="the  guide"))] == [
        ("the guide",),
        ("the guide",),
        ("the guide", "Install x"),
        ("the guide", "Install x", "From source"),
        ("the guide", "Use"),
    ]


def test_without_title_and_headings_the_path_is_empty_and_what_is_indexed_is_the_text():
    (chunk,) = SectionSplitter().split(document("Just words.\n"))
    assert (chunk.headings, chunk.indexed_text) == ((), "Just words.")


def test_a_heading_is_clipped_and_one_without_words_only_cuts():
    first, second = SectionSplitter().split(document(f"# {'long ' * 100}\na\n##\nb\n"))
    assert first.headings == second.headings == ((("long " * 40).strip()),)


@pytest.mark.parametrize(
    ("heading", "plain"),
    [
        ("**bold** and _italic_ and ~~gone~~", "bold and italic and gone"),
        ("`create_index()` for max_length_of_key", "create_index() for max_length_of_key"),
        ("[![badge](a.svg) Title](b.html)", "badge Title"),
        ("[text][ref] <a id='x'></a>", "text"),
        (r"C\# & 2 * 3 \* 4 &lt;5&gt;", "C# & 2 * 3 * 4 <5>"),
        ("`Vec<T>` [x]", "Vec<T> [x]"),
        ("***both***", "both"),
    ],
)
def test_a_heading_reads_as_its_reader_sees_it(heading, plain):
    assert plain_heading(heading) == plain


@pytest.mark.parametrize(
    "text",
    [
        "#### A\n##### B\n###### C\n####### no\n#no\n#\tD\n   # E\n    # code\n\\# no\n",
        "# A #\n## B ##########\n### C ### b\n# D#\n#\n## ##\n",
        "A\n===\nB\n---\n\n---\n\n- item\n---\n> quote\n---\n\nC\n   =\n\n***\n---\n",
        "```\n# a\n~~~\n# b\n````\n# A\n",
        "~~~~ info ``` x\n# a\n~~~\n# b\n~~~~~  \n# A\n",
        "``` a`b\n# A\n```\n# never closed\n# so code\n",
        "- ```sh\n  # a\n  ```\n# A\n\n1. x\n\n   ```\n   # b\n   ```\n\n# B\n",
        "    ```\n    # code\n\n# A\n\n    A\n---\n",
        "> ```\n> # quoted\n\n# A\n",
        "- item\n\n  ## A\n\n  words\n\n- ## no\n\n> # no\n",
        "| a | b |\n|---|---|\n| # c | d |\n\n# A\n<!--\n\n-->\n\n# B\n",
    ],
)
def test_headings_are_those_of_commonmark(text):
    assert found_headings(text) == commonmark_headings(text)


OPEN_HEADING = re.compile(r" {0,3}#")


def found_headings(text: str) -> list[tuple[int, int]]:
    return [(text.count("\n", 0, mark.start), mark.level) for mark in scan(text) if mark.level]


def commonmark_headings(text: str) -> list[tuple[int, int]]:
    """All but those inside a list item or quotation; of these, the ones that look like any other in the source."""
    lines = text.split("\n")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [
        (token.map[0], int(token.tag[1]))
        for token in tokens
        if token.type == "heading_open" and token.map and (token.level == 0 or OPEN_HEADING.match(lines[token.map[0]]))
    ]


@needs_data
def test_headings_of_real_documentation_are_those_of_commonmark():
    bodies = [source.text[source.body :] for source in documentation()]
    assert sum(len(found_headings(text)) for text in bodies) > 1000
    assert all(found_headings(text) == commonmark_headings(text) for text in bodies)


def test_fenced_code_indented_under_a_list_item_is_one_block():
    text = "1. Run:\n\n      ```bash\n# not a heading\n      ```\n\n# A\n"
    assert [mark.level for mark in scan(text)] == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "    ```x\n" * 50_000,
        "# " + "**a_b " * 50_000,
        "# a" + " " * 300_000 + "b",
        "# " + "<!--" * 75_000,
        "a_b *c " * 40_000 + "\n---",
        "a|" * 150_000,
        "a|b\n" + "-|" * 150_000 + "x",
    ],
    ids=["fences", "emphasis", "spaces", "comments", "underlined", "bars", "delimiters"],
)
def test_no_text_takes_quadratic_time(text):
    """What takes milliseconds in linear time would take minutes; the bound between them is wide."""
    started = perf_counter()
    check(SectionSplitter(), document(text + "\n"))
    assert perf_counter() - started < 10


def test_a_heading_is_not_left_alone_above_a_paragraph_that_can_be_cut():
    paragraph = "One sentence of it. " * 30
    first, second = SectionSplitter(600).split(document(f"## Heading\n\n{paragraph}\n"))
    assert first.text.startswith("## Heading\n\nOne sentence")
    assert min(len(first.text), len(second.text)) > 200


def test_a_table_that_fits_is_moved_whole_and_one_that_does_not_is_cut_between_rows():
    row = "| key | " + "value " * 10 + "|\n"
    table = "| a | b |\n|---|---|\n" + row * 5
    whole = texts(SectionSplitter(600).split(document(f"# A\n\n{'Words here. ' * 30}\n\n{table}")))
    assert whole[1] == table.strip()
    cut = texts(SectionSplitter(200).split(document(table)))
    assert [piece.count("value") % 10 for piece in cut] == [0] * len(cut)
    assert cut[0].startswith("| a | b |\n|---|---|\n| key |")


def test_a_fence_over_the_budget_is_cut_between_lines():
    lines = [f"line_{number} = compute(number, 'a b. C d')" for number in range(40)]
    chunks = SectionSplitter(300).split(document("```\n" + "\n".join(lines) + "\n```\n"))
    assert len(chunks) > 1
    assert [line for text in texts(chunks) for line in text.split("\n") if line.startswith("line_")] == lines


def test_plain_text_is_cut_between_paragraphs_and_has_no_headings():
    paragraphs = [f"# {number} " + "Words and words. " * 8 for number in range(10)]
    chunks = check(SectionSplitter(400), document("\n\n".join(paragraphs), "text", title="Notes"))
    assert all(chunk.headings == ("Notes",) for chunk in chunks)
    assert all(chunk.text.startswith("# ") and chunk.text.endswith("words.") for chunk in chunks)
    assert len(chunks) == 5


def test_a_page_break_always_cuts_and_chunks_know_their_page():
    pages = ["First page. " * 3, "  \n", "Third page. " * 40, "Fourth."]
    starts = tuple(sum(map(len, pages[:number])) for number in range(4))
    chunks = check(SectionSplitter(300), document("".join(pages), "pdf", title="Paper", pages=starts))
    assert [chunk.page for chunk in chunks] == [1, 3, 3, 4]


def test_front_matter_is_not_split_but_counts_for_offsets_and_lines():
    text = "---\ntitle: T\n---\n# A\nwords\n"
    (chunk,) = SectionSplitter().split(document(text, body=body(text)))
    assert (chunk.start, chunk.line, chunk.text) == (17, 4, "# A\nwords")


@pytest.mark.parametrize("text", ["", " \n\n\t\n"])
def test_a_blank_document_has_no_chunks(text):
    assert SectionSplitter().split(document(text)) == SeparatorSplitter().split(document(text)) == []


def test_the_token_limit_holds_for_scripts_without_spaces():
    chunks = check(SectionSplitter(1600, 256), document("# 数据\n\n" + "向量数据库存储数据。" * 200, title="数据库"))
    assert max(estimate_tokens(chunk.indexed_text) for chunk in chunks) > 150


def test_a_heading_path_too_long_for_the_embedder_leaves_half_of_the_budget_to_the_text():
    path = "".join(f"{'#' * level} {'wide heading ' * 15}\n" for level in range(1, 7))
    last = check(SectionSplitter(1600, 256), document(path + "Words. " * 400, title="Title " * 40))[-2]
    assert estimate_tokens(last.text) >= 80


@needs_data
def test_real_documentation_keeps_the_laws():
    sources = documentation()
    chunks = [chunk for source in sources for chunk in check(SectionSplitter(), source)]
    assert len(sources) == 196
    assert len(ids(chunks)) == len(chunks) > 1500


def test_the_separator_is_left_out_and_pieces_keep_their_whitespace():
    source = document("---\ntitle: T\n---\n# A\n\na\n## B\n# ", body=17, title="T")
    chunks = SeparatorSplitter().split(source)
    assert texts(chunks) == ["---\ntitle: T\n---\n", "A\n\na\n#", "B\n"]
    assert all(source.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert [(chunk.headings, chunk.line, chunk.ordinal) for chunk in chunks] == [((), 1, 0), ((), 4, 1), ((), 7, 2)]


@few
@given(st.text("#- \na漢", max_size=80), st.text("#- a", min_size=1, max_size=3))
def test_separator_pieces_are_those_of_str_split(text, separator):
    chunks = SeparatorSplitter(separator).split(document(text))
    assert texts(chunks) == [piece for piece in text.split(separator) if piece.strip()]
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert len(ids(chunks)) == len(chunks)


@pytest.mark.parametrize("letter", ["word ", "漢字。", "\U00020000", "é"])
def test_a_piece_longer_than_can_be_stored_or_read_is_cut_without_loss(letter):
    text = letter * 30_000
    chunks = SeparatorSplitter("# ").split(document(text, "text"))
    assert "".join(texts(chunks)) == text
    assert all(len(chunk.text) <= MAX_CHARACTERS and len(chunk.text.encode()) <= 60_000 for chunk in chunks)
    assert all(estimate_tokens(chunk.text) <= TOKEN_MARGIN * 8192 for chunk in chunks)


@needs_data
def test_the_separator_gives_the_tutorials_72_pieces():
    files = sorted((DOCS / "faq").glob("*.md"))
    pieces = [piece for path in files for piece in path.read_text(encoding="utf-8").split("# ")]
    chunks = [chunk for source in documentation() if "/faq/" in source.source for chunk in make("# ").split(source)]
    assert texts(chunks) == pieces
    assert len(chunks) == 72


def make(separator: str):
    return make_splitter(Settings(splitter="separator", separator=separator), 8192)


def test_settings_choose_the_splitter_and_its_fingerprint_tells_settings_apart():
    chosen = [
        make_splitter(Settings(), 8192),
        make_splitter(Settings(chunk_characters=800), 8192),
        make_splitter(Settings(), 256),
        make("# "),
        make("## "),
    ]
    assert [type(splitter) for splitter in chosen] == [SectionSplitter] * 3 + [SeparatorSplitter] * 2
    assert len({splitter.fingerprint for splitter in chosen}) == 5


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: SectionSplitter(0), "0"),
        (lambda: SectionSplitter(1600, 5), "5"),
        (lambda: SeparatorSplitter(""), "''"),
    ],
)
def test_a_splitter_that_cannot_work_is_refused_with_the_value(make, value):
    with pytest.raises(SettingsError, match=value):
        make()
