"""Loading: every format, every encoding, and files that cannot be loaded."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citekite.errors import DocumentError
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.load import digest_of, load
from citekite.reports import Failure
from citekite.types import Document
from sample_files import make_docx, make_epub, make_pdf, make_pptx, make_xlsx, zipped

OPTIONS = LoadOptions()


def everything(
    name: str, data: bytes, options: LoadOptions = OPTIONS, content_type: str | None = None
) -> tuple[list[Document | Failure], list[Failure]]:
    """All that loading gives, and all of which it warns."""
    warnings: list[Failure] = []
    file = SourceFile(f"/docs/{name}", name, lambda: data, content_type)
    return list(load(file, options, warnings.append)), warnings


def one(name: str, data: bytes | str, content_type: str | None = None) -> Document:
    """The document of a file that loads without a warning."""
    loaded, warnings = everything(name, data.encode() if isinstance(data, str) else data, content_type=content_type)
    assert not warnings
    [document] = loaded
    assert isinstance(document, Document)
    return document


def rows(name: str, data: str, options: LoadOptions = OPTIONS) -> list[Document]:
    return [row for row in everything(name, data.encode(), options)[0] if isinstance(row, Document)]


def failures(name: str, data: str, options: LoadOptions = OPTIONS) -> list[Failure]:
    return [row for row in everything(name, data.encode(), options)[0] if isinstance(row, Failure)]


# Markdown and text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n\r")))
def test_text_is_the_file_with_newlines_normalised(content: str) -> None:
    data = f"A line.\n{content}".encode()
    expected = data.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert one("a.txt", data).text == one("a.md", data).text == expected


def test_front_matter_stays_in_the_text_and_gives_title_and_metadata() -> None:
    source = "---\ntitle: FAQ\ntags: [a, b]\ndate: 2024-05-01\n---\n# Other\nText"
    document = one("a.md", source)
    assert (document.title, document.text, document.format) == ("FAQ", source, "markdown")
    assert document.text[document.body :] == "# Other\nText"
    assert document.metadata == {"title": "FAQ", "tags": ["a", "b"], "date": "2024-05-01"}


def test_broken_front_matter_is_a_warning_and_the_document_is_kept() -> None:
    [document], [warning] = everything("a.md", b"---\ntitle: [\n---\n# T\n")
    assert isinstance(document, Document)
    assert (document.title, document.body) == ("T", 0)
    assert "front matter" in warning.reason
    assert warning.source == "/docs/a.md"


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("```\n# no\n```\n\n# Yes `x` #\n", "Yes x"),
        ("Above\n=====\n", "Above"),
        ("## Second level only\n", "my file"),
        ("~~~\n# no\n", "my file"),
    ],
)
def test_the_title_is_the_first_heading_of_level_one_else_the_name(source: str, title: str) -> None:
    assert one("my_file.md", source).title == title


@pytest.mark.parametrize("mark", ["`", "*a ", "[", "<a", " ", "\t#"])
def test_a_heading_without_end_takes_no_time(mark: str) -> None:
    start = time.monotonic()
    assert len(one("a.md", "# " + mark * 100_000 + "end").title) <= 500
    assert time.monotonic() - start < 2


def test_metadata_over_64_kb_fails_the_file() -> None:
    with pytest.raises(DocumentError, match="65536"):
        everything("a.md", b"---\nlong: " + b"x" * 65_530 + b"\n---\ntext")


def test_a_notebook_gives_its_markdown_and_code() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "secret"}]},
    ]
    document = one("a.ipynb", json.dumps({"cells": cells, "metadata": {}}))
    assert (document.title, document.text) == ("Title", "# Title\ntext\n\n```python\nx = 1\n```")


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings_are_known_by_their_mark(encoding: str) -> None:
    assert one("a.txt", "Ünïcödé 漢字\r\n".encode(encoding)).text == "Ünïcödé 漢字\n"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_an_encoding_that_was_guessed_is_a_warning(encoding: str) -> None:
    [document], [warning] = everything("a.txt", "Crème brûlée, très bonne".encode(encoding))
    assert isinstance(document, Document)
    assert document.text == "Crème brûlée, très bonne"
    assert "read as" in warning.reason


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv", "a.html", "noname"])
def test_a_binary_file_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="binary"):
        everything(name, bytes(range(256)) * 20)


@pytest.mark.parametrize(("name", "data"), [("a.txt", b""), ("a.md", b" \n\t\n"), ("a.csv", b"\n"), ("a.html", b"<p>")])
def test_a_file_without_text_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"empty|no text|no rows"):
        everything(name, data)


def test_an_image_that_is_named_itself_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"\.svg"):
        everything("a.svg", b"<svg><text>T</text></svg>")


# HTML


def test_html_gives_the_main_content_as_markdown() -> None:
    document = one(
        "a.html",
        """<!doctype html><html><head><title>Install Milvus | Docs</title><meta name="description" content="How to">
        <script>no()</script></head><body><nav>menu</nav><main>
        <h2 id=x><button><svg><path/></svg></button>Install <a href="#x">Milvus</a><a class=headerlink>¶</a></h2>
        <p>Run&nbsp;<code>pip</code> &amp; <b>wait</b>.<br>Then<!-- no --> go<span hidden>no</span>.</p>
        <ol><li>One<ul><li>Deep</li></ul><li>Two</ol>
        <table><tr><th>k<th>v</tr><tr><td>a|b<td>1</tr></table>
        <pre><code class="language-python">if x:
            y()
</code></pre><blockquote><p>Quoted</p></blockquote></main><footer>legal</footer></body></html>""",
    )
    assert document.text.split("\n\n") == [
        "## Install Milvus",
        "Run `pip` & wait.\nThen go.",
        "1. One\n   - Deep\n2. Two",
        "| k | v |\n| --- | --- |\n| a\\|b | 1 |",
        "```python\nif x:\n            y()\n```",
        "> Quoted",
    ]
    assert (document.title, document.format) == ("Install Milvus | Docs", "html")
    assert document.metadata == {"description": "How to"}


def test_html_without_a_main_part_gives_the_body_without_what_is_around() -> None:
    page = "<body><header>h</header><aside>a</aside><div>Text<style>p{}</style> here</div><footer>f</footer></body>"
    assert one("a.html", page).text == "Text here"


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        ("<p>é".encode("cp1252"), "text/html; charset=iso-8859-1"),
        ("<meta charset=windows-1252><p>é".encode("cp1252"), None),
        ('<?xml version="1.0" encoding="ISO-8859-15"?><html><p>é</p></html>'.encode("iso-8859-15"), None),
        ("<meta charset=latin1><p>é".encode("utf-16"), None),
    ],
)
def test_html_is_read_in_the_encoding_that_it_declares(data: bytes, content_type: str | None) -> None:
    assert one("a.html", data, content_type).text == "é"


@pytest.mark.parametrize("page", ["<ul><li>{}", "<h1>{}</h1><main>text</main>"])
def test_html_nested_too_deeply_is_refused(page: str) -> None:
    with pytest.raises(DocumentError, match="nested"):
        everything("a.html", page.format("<b>" * 5000 + "text").encode())


@pytest.mark.parametrize("filler", [" ", "<?xml ", "<meta "])
def test_html_that_repeats_itself_takes_no_time(filler: str) -> None:
    start = time.monotonic()
    assert one("a.html", "<p>text" + filler * 50_000 + "<p>end").text.startswith("text")
    assert time.monotonic() - start < 2


# PDF


def test_pdf_pages_start_where_pages_says() -> None:
    document = one("a.pdf", make_pdf("First page\nmore", "Second", info="/Title (My Paper) /Author (A. Bird)"))
    assert document.text == "First page\nmore\n\nSecond"
    assert [document.text[start:][:6] for start in document.pages] == ["First ", "Second"]
    assert (document.title, document.metadata, document.format) == ("My Paper", {"author": "A. Bird"}, "pdf")


def test_a_word_broken_at_the_end_of_a_line_is_joined() -> None:
    assert (
        one("a.pdf", make_pdf("a long re-\ntrieval of well-known words")).text == "a long retrieval of well-known words"
    )


@pytest.mark.parametrize("title", ["paper_final.docx", "untitled", "Microsoft Word - x", ""])
def test_a_pdf_title_that_is_none_gives_way_to_the_name(title: str) -> None:
    assert one("my_paper.pdf", make_pdf("text", info=f"/Title ({title})")).title == "my paper"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4 and no more", "damaged"),
        (make_pdf(""), "OCR"),
        (
            make_pdf(
                "locked",
                trailer=f"/ID [<{'00' * 16}> <{'00' * 16}>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 "
                f"/O <{'11' * 32}> /U <{'22' * 32}> >>",
            ),
            "encrypted",
        ),
    ],
)
def test_a_pdf_that_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        everything("a.pdf", data)


# Tables


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_a_csv_row_is_a_document(name: str, mark: str) -> None:
    lines = ["id|title|text|tag", 'x7|A title|"two\nlines"|red', "x8||other, text; here|"]
    table = "\r\n".join(lines).replace(", text;", " text").replace("|", mark)
    first, second = rows(name, table)
    assert (first.source, first.title, first.text) == (f"/docs/{name}#x7", "A title", "two\nlines")
    assert first.metadata == {"id": "x7", "tag": "red"}
    assert (second.source, second.title, second.format) == (f"/docs/{name}#x8", "", "row")


def test_csv_without_a_known_text_column_gives_all_columns() -> None:
    [row] = rows("a.csv", "name,price\nkite,3\n")
    assert (row.source, row.text) == ("/docs/a.csv#1", "name: kite\nprice: 3")
    assert row.metadata == {"name": "kite", "price": "3"}


def test_the_text_column_is_a_setting() -> None:
    options = replace(OPTIONS, text_column="summary")
    assert [row.text for row in rows("a.csv", "text,summary\nlong,short\n", options)] == ["short"]
    for name, data in (("a.csv", "text,other\nlong,x\n"), ("a.jsonl", '{"text": "long", "other": 1}')):
        with pytest.raises(DocumentError, match=r"'summary'.*text, other"):
            everything(name, data.encode(), options)


def test_a_long_csv_field_is_read() -> None:
    [row] = rows("a.csv", f"text,n\n{'word ' * 50_000},1\n")
    assert len(row.text) == 250_000


def test_rows_that_fail_are_reported_and_the_rest_goes_on() -> None:
    lines = ['{"_id": "a", "text": "one", "n": 1}', "{broken", "", "[1]", '{"id": 70, "text": "two"}', '{"text": ""}']
    lines += ['{"_id": "a", "text": "again"}', '{"text": "last"}']
    table = "\n".join(lines)
    assert [row.text for row in rows("a.jsonl", table)] == ["one", "two", "last"]
    failed = {failure.source: failure.reason for failure in failures("a.jsonl", table)}
    assert [key.partition("#")[2] for key in failed] == ["2", "3", "5", "a"]
    assert "JSON" in failed["/docs/a.jsonl#2"]
    assert "earlier row" in failed["/docs/a.jsonl#a"]


def test_csv_rows_that_fail_are_reported_and_the_rest_goes_on() -> None:
    table = 'id,text\n1,one\n2,two,three\n3,"a"b\n4,four\n'
    assert [row.text for row in rows("a.csv", table)] == ["one", "four"]
    assert [failure.source for failure in failures("a.csv", table)] == ["/docs/a.csv#2", "/docs/a.csv#3"]


def test_the_digest_of_a_row_is_its_own() -> None:
    before = rows("a.csv", "id,text\n1,one\n2,two\n")
    after = rows("a.csv", "id,text\n0,new\n1,one\n2,changed\n")
    assert before[0].digest == after[1].digest
    assert before[1].digest != after[2].digest


def test_rows_are_read_one_at_a_time() -> None:
    file = SourceFile("/docs/a.jsonl", "a.jsonl", lambda: b'{"text": "one"}\n{broken')
    assert isinstance(next(load(file, OPTIONS, print)), Document)


# Office


def test_docx_gives_headings_lists_and_tables() -> None:
    document = one("a.docx", make_docx())
    table = "| a | b |\n| --- | --- |\n| c | d |"
    assert document.text == f"## Install\n\nRun it.\n\n- first\n- second\n\n{table}\n\nThe end."
    assert (document.title, document.metadata["author"], document.format) == ("Guide", "A. Bird", "office")


def test_pptx_gives_a_page_with_a_heading_a_slide() -> None:
    document = one("a.pptx", make_pptx())
    assert [document.text[start:][:8] for start in document.pages] == ["# Slide ", "# Slide "]
    assert document.text == "# Slide 1: Goals\n\nFast\nSmall\n\n# Slide 2: Plan\n\nLater\n\nSay why."


def test_xlsx_gives_a_table_a_sheet() -> None:
    text = one("a.xlsx", make_xlsx()).text
    assert text == (
        "# Sheet\n\n| name | price |\n| --- | --- |\n| kite | 3 |\n\n# Two\n\n| x\\|y | 1 | 2.5 |\n| --- | --- | --- |"
    )


def test_epub_gives_its_chapters_in_reading_order() -> None:
    document = one("a.epub", make_epub())
    assert (document.text, document.title) == ("# Red\n\nÉ\n\n# Black", "The Kites")
    assert document.metadata == {"author": "A. Bird"}


@pytest.mark.parametrize("suffix", ["docx", "pptx", "xlsx", "epub"])
def test_a_bomb_in_an_office_file_is_refused_before_it_is_unpacked(suffix: str) -> None:
    with pytest.raises(DocumentError, match="bomb"):
        everything(f"a.{suffix}", zipped({"word/document.xml": " " * 5_000_000}))


def test_a_locked_or_old_office_file_says_so() -> None:
    with pytest.raises(DocumentError, match="encrypted"):
        everything("a.docx", b"\xd0\xcf\x11\xe0" + b"x" * 600)


@pytest.mark.parametrize(("suffix", "module"), [("docx", "docx"), ("pptx", "pptx"), ("xlsx", "openpyxl")])
def test_without_the_extra_the_error_names_the_command(suffix: str, module: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None
from citekite.errors import DocumentError
from citekite.ingest.load import LoadOptions, SourceFile, load
try:
    list(load(SourceFile("/a.{suffix}", "a.{suffix}", lambda: b"PK"), LoadOptions(), print))
except DocumentError as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == f"reading 'a.{suffix}' needs an optional dependency: pip install 'citekite[office]'\n"


# Laws of all formats

SAMPLES: dict[str, Callable[[], bytes]] = {
    "md": lambda: b"---\ntitle: T\n---\n# H\n\ntext",
    "html": lambda: b"<meta charset=utf-8><main><h1>T</h1><ul><li>x<table><tr><td>a<td>b</table></ul><pre>c</pre>",
    "ipynb": lambda: json.dumps({"cells": [{"cell_type": "code", "source": "x"}]}).encode(),
    "csv": lambda: b'id,text\n1,"one"\n2,two\n',
    "jsonl": lambda: b'{"id": 1, "text": "one"}\n',
    "pdf": lambda: make_pdf("Some text", "More"),
    "docx": make_docx,
    "pptx": make_pptx,
    "xlsx": make_xlsx,
    "epub": make_epub,
}


def check_that_only_documents_come(name: str, data: bytes) -> None:
    try:
        loaded, _ = everything(name, data)
    except DocumentError:
        return
    for document in loaded:
        if isinstance(document, Document):
            assert document.text.strip()
            assert "\r" not in document.text
            document.text.encode()
            json.dumps(dict(document.metadata), allow_nan=False).encode()
            assert all(0 <= start <= len(document.text) for start in (document.body, *document.pages))


@pytest.mark.parametrize("suffix", ["docx", "pptx", "xlsx", "epub"])
def test_office_files_with_damaged_xml_give_documents_or_a_document_error(suffix: str) -> None:
    with zipfile.ZipFile(io.BytesIO(SAMPLES[suffix]())) as archive:
        members = {name: archive.read(name).decode("latin-1") for name in archive.namelist()}

    @settings(max_examples=15)
    @given(st.sampled_from(sorted(members)), st.floats(0, 1), st.integers(0, 60), st.sampled_from(["", "-1", "<x/>"]))
    def check(name: str, place: float, dropped: int, inserted: str) -> None:
        start = int(place * len(members[name]))
        damaged = members[name][:start] + inserted + members[name][start + dropped :]
        check_that_only_documents_come(f"a.{suffix}", zipped(members | {name: damaged}))

    check()


@pytest.mark.parametrize("suffix", [suffix for suffix in SAMPLES if suffix not in ("csv", "jsonl")])
def test_source_and_digest_are_known_before_a_file_is_parsed(suffix: str) -> None:
    data = SAMPLES[suffix]()
    document = one(f"a.{suffix}", data)
    assert (document.source, document.digest) == (f"/docs/a.{suffix}", digest_of(data, OPTIONS))


def test_the_digest_depends_on_bytes_and_options() -> None:
    other = replace(OPTIONS, text_column="x")
    assert len({digest_of(b"a", OPTIONS), digest_of(b"b", OPTIONS), digest_of(b"a", other)}) == 3


def test_a_file_whose_bytes_are_given_is_not_read_again() -> None:
    def read() -> bytes:
        raise AssertionError("read again")

    [document] = load(SourceFile("/docs/a.txt", "a.txt", read), OPTIONS, print, b"given")
    assert isinstance(document, Document)
    assert document.text == "given"
