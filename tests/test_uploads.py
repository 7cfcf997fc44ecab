"""Uploaded files: plain names, what their content says, sources that never leave the folder."""

from __future__ import annotations

import io
import posixpath
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.errors import DocumentError, SourceError
from citekite.home import uploads_of
from citekite.ingest.base import LoadOptions
from citekite.ingest.sniff import checked_name, media_type, sniff
from citekite.ingest.sources import find_files, is_under, normalise_source
from citekite.ingest.uploads import (
    LONGEST_NAME,
    SHARED,
    parse_upload,
    plain_name,
    space_of,
    upload_path,
    upload_source,
)
from citekite.reports import Failure
from stored import knowledge_base

NASTY = st.text(st.sampled_from('a.b/\\:*?"<>|#!\0\n\t \u202e\u200d\u0301eé~-é日.\ud800')) | st.text(max_size=400)


def packed(**members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return content.getvalue()


def an_office_file(folder: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(f"{folder}/document.xml", "<x/>")
    return content.getvalue()


@given(NASTY)
def test_a_name_becomes_a_plain_file_name_inside_the_folder(name: str) -> None:
    plain = plain_name(name)

    folder = Path("/uploads/shared")
    assert (folder / plain).parent == folder
    assert posixpath.normpath(f"{folder}/{plain}") == f"{folder}/{plain}"
    assert plain
    assert not plain.startswith(".")
    assert not set(plain) & set('/\\\0<>:"|?*#')
    assert len(plain.encode()) <= LONGEST_NAME + 1
    assert unicodedata.is_normalized("NFC", plain)
    assert all(unicodedata.category(character)[0] != "C" for character in plain)


@given(NASTY)
def test_a_plain_name_stays_and_makes_a_source_that_is_read_back(name: str) -> None:
    plain = plain_name(name)

    source = upload_source(SHARED, plain)
    assert plain_name(plain) == plain
    assert parse_upload(source) == (SHARED, plain, "")
    assert normalise_source(source) == source


@given(st.text())
def test_no_source_leads_out_of_the_uploads(text: str) -> None:
    uploads = Path("/nowhere/uploads")
    for source in (f"upload://{text}", f"upload://shared/{text}"):
        try:
            space, name, _ = parse_upload(source)
        except SourceError:
            continue
        path = posixpath.normpath(f"{uploads}/{space}/{name}")
        assert path.startswith(f"{uploads}/{space}")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..", "document"),
        ("C:\\Users\\me\\Report 2024.PDF", "Report 2024.PDF"),
        (".htaccess", "htaccess"),
        ("con.txt", "_con.txt"),
        ("a\u202egpj.md", "agpj.md"),
        ("e\u0301.md", "é.md"),
        ("a\0b\r\n.md", "ab .md"),
        ("x" * 400 + ".pdf", "x" * 196 + ".pdf"),
    ],
)
def test_nasty_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize(
    "source",
    [
        "upload://shared/../x.md",
        "upload://../x.md",
        "upload://shared//etc/passwd",
        "upload://shared/.hidden",
        "upload://shared/a\0.md",
        "upload://shared/a/b.md",
        "upload:///a.md",
        "UPLOAD://shared/a.md",
        "upload://shared/",
    ],
)
def test_a_source_without_a_plain_name_is_refused(source: str) -> None:
    with pytest.raises(SourceError):
        normalise_source(source)


def test_spaces_differ_by_access_list_and_not_by_its_order() -> None:
    assert space_of([]) == SHARED
    assert space_of(["hr", "legal"]) == space_of(["legal", "hr", "hr"])
    assert len({space_of(["hr"]), space_of(["legal"]), space_of(["hr", "legal"]), space_of(["hr,legal"])}) == 4


def test_uploads_and_members_of_uploaded_archives_are_found(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.md").write_text("# A\n", encoding="utf-8")
    (tmp_path / "shared" / ".previous-a.md").write_text("# A\n", encoding="utf-8")
    (tmp_path / "shared" / "x.zip").write_bytes(packed(a_md="# A", deep__b_md="# B"))
    options = LoadOptions(uploads=tmp_path)

    def found(source: str) -> list[str]:
        return [file.source for file in find_files(source, options) if not isinstance(file, Failure)]

    assert found("upload://shared/a.md") == ["upload://shared/a.md"]
    assert found("upload://shared/x.zip") == ["upload://shared/x.zip!/a.md", "upload://shared/x.zip!/deep/b.md"]
    assert len(found("upload://shared")) == 3
    assert is_under("upload://shared/x.zip!/a.md", "upload://shared/x.zip")
    assert not is_under("upload://shared2/a.md", "upload://shared")


def test_a_link_among_the_uploads_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("secret", encoding="utf-8")
    (tmp_path / "uploads" / "shared").mkdir(parents=True)
    (tmp_path / "uploads" / "shared" / "a.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "uploads" / "gab").symlink_to(tmp_path)

    for source in ("upload://shared/a.md", "upload://gab/secret.md", "upload://gab"):
        with pytest.raises(SourceError, match="no regular file"):
            upload_path(source, tmp_path / "uploads")


def test_a_source_that_is_no_upload_any_more_is_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="deleted, or never uploaded"):
        list(find_files("upload://shared/a.md", LoadOptions(uploads=tmp_path)))
    with pytest.raises(SourceError, match="no server's uploads"):
        list(find_files("upload://shared/a.md", LoadOptions()))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"# Title\n\nText.\n", "text"),
        ("Größe\n".encode("utf-16"), "text"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "pdf"),
        (b"\xef\xbb\xbf <!-- x --> <!DOCTYPE html><html></html>", "html"),
        (b'{"cells": [], "nbformat": 4}', "notebook"),
        (packed(a_md="x"), "zip"),
        (an_office_file("word"), "docx"),
        (an_office_file("xl"), "xlsx"),
        (b"RIFF and %PDF- are how some files begin: MZ and BZh are others.", "text"),
        (b"junk \xff\0 %PDF-1.4", "pdf"),
        (("ä" * 4000).encode()[:-1], "text"),
        (b"\x7fELF\x02\x01\x01\0\0", None),
        (b"MZ\x90\0\x03\0", None),
        (b"\x89PNG\r\n\x1a\n\0\0", None),
        (b"text\0binary", None),
        (b"PK\x03\x04 broken", None),
    ],
)
def test_content_is_known_by_its_bytes(content: bytes, kind: str | None) -> None:
    assert sniff(io.BytesIO(content)).kind == kind


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("report.pdf", b"\x7fELF\x02\x01\x01\0", "a program"),
        ("report.pdf", b"<!doctype html><script>alert(1)</script>", "an HTML page"),
        ("report.pdf", b"only text", "plain text"),
        ("notes.md", b"MZ\x90\0\x03\0", "a program"),
        ("notes.txt", b"%PDF-1.7\n%\xe2\xe3", "a PDF file"),
        ("letter.docx", packed(a_md="x"), "a zip archive"),
        ("photo.png", b"\x89PNG\r\n\x1a\n\0", "a PNG image"),
        ("photo.png", b"text", "hold no text"),
    ],
)
def test_a_disguised_file_is_refused_with_what_it_is(name: str, content: bytes, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        checked_name(name, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "content", "checked"),
    [
        ("report", b"%PDF-1.7\n%\xe2\xe3", "report.pdf"),
        ("page", b"<html></html>", "page.html"),
        ("README", b"text", "README.txt"),
        ("main.py", b"print()", "main.py"),
        ("letter", an_office_file("word"), "letter.docx"),
        ("notes.md", b"<!doctype html>", "notes.md"),
        ("table.csv", b"a,b\n1,2\n", "table.csv"),
        ("page.html", b"no tag", "page.html"),
    ],
)
def test_a_name_without_a_format_gets_that_of_the_content(name: str, content: bytes, checked: str) -> None:
    assert checked_name(name, io.BytesIO(content)) == checked


def test_nothing_is_handed_out_as_a_type_that_a_browser_runs() -> None:
    page = io.BytesIO(b"<!doctype html><script>alert(1)</script>")
    for name in ("a.html", "a.xhtml", "a.md", "a.svg", "a.txt"):
        assert media_type(name, page).partition(";")[0] in ("text/plain", "text/markdown")
    assert media_type("a.pdf", io.BytesIO(b"%PDF-1.7\n%\xe2\xe3")) == "application/pdf"


def test_removing_an_upload_removes_its_file_with_its_last_document(tmp_path: Path) -> None:
    with knowledge_base(tmp_path / "docs.db", collection="citekite") as kb:
        space = uploads_of(kb.settings) / "shared"
        space.mkdir(parents=True)
        (space / "kites.md").write_text("# Kites\n\nForked tails.\n")
        (space / "birds.csv").write_text("name,text\nkite,forked\nowl,round\n")
        kb.sync("upload://shared")
        first, last, _ = (document.source for document in kb.documents())

        assert kb.remove("upload://shared/kites.md") == 1
        assert [file.name for file in space.iterdir()] == ["birds.csv"]
        kb.remove(first)
        assert [file.name for file in space.iterdir()] == ["birds.csv"]
        kb.remove(last)
        assert list(space.iterdir()) == []
        assert kb.documents() == []
