"""Finding files: folders with their rules, single files, archives, and what lies outside."""

from __future__ import annotations

import io
import os
import stat
import struct
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citekite.errors import DocumentError, SourceError
from citekite.ingest.base import LoadOptions, SourceFile
from citekite.ingest.sources import find_files, is_under, normalise_source
from citekite.reports import Failure

OPTIONS = LoadOptions()


def fill(root: Path, *paths: str, content: str = "text") -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


def found(source: Path, options: LoadOptions = OPTIONS) -> list[str]:
    """The sources of the files found, relative to the source; a `Failure` shows as `! source: reason`."""
    shown = []
    for item in find_files(str(source), options):
        name = item.source.removeprefix(str(source)).lstrip("/!")
        shown.append(f"! {name}: {item.reason}" if isinstance(item, Failure) else name)
    return shown


def make_zip(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def first(source: Path, options: LoadOptions = OPTIONS) -> SourceFile:
    item = next(iter(find_files(str(source), options)))
    assert isinstance(item, SourceFile)
    return item


# Folders


def test_a_folder_is_walked_in_the_order_of_names(tmp_path: Path) -> None:
    fill(tmp_path, "b.md", "a/z.txt", "a/b/c.md", "c.html")
    assert found(tmp_path) == ["a/b/c.md", "a/z.txt", "b.md", "c.html"]


def test_hidden_entries_and_files_without_text_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, ".hidden.md", ".git/config.md", "a.PNG", "b.so", "c.md", "d/e.woff2")
    assert found(tmp_path) == ["c.md"]


def test_gitignore_files_of_every_level_count(tmp_path: Path) -> None:
    fill(tmp_path, "a.log", "keep.log", "build/x.md", "docs/build/y.md", "docs/a.md", "docs/draft.md", "docs/a.log")
    (tmp_path / ".gitignore").write_text("# rules\r\n*.log\r\n!keep.log\n/build/\n")
    (tmp_path / "docs/.gitignore").write_text("draft.md\n!a.log\n")
    assert found(tmp_path) == ["docs/a.log", "docs/a.md", "docs/build/y.md", "keep.log"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.md",), (), ["a.md", "docs/b.md", "docs/deep/c.md"]),
        (("docs/*.md",), (), ["docs/b.md"]),
        (("docs/**",), (), ["docs/b.md", "docs/b.txt", "docs/deep/c.md"]),
        (("**/deep/*.md", "*.txt"), (), ["docs/b.txt", "docs/deep/c.md"]),
        ((), ("docs",), ["a.md"]),
        ((), ("*.txt", "deep/"), ["a.md", "docs/b.md"]),
        (("*.md",), ("a.*",), ["docs/b.md", "docs/deep/c.md"]),
        (("*.pdf",), (), []),
    ],
)
def test_include_and_exclude(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    fill(tmp_path, "a.md", "docs/b.md", "docs/b.txt", "docs/deep/c.md")
    assert found(tmp_path, replace(OPTIONS, include=include, exclude=exclude)) == expected


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    fill(tmp_path, "out/secret.md", "in/a.md")
    (tmp_path / "in/link.md").symlink_to(tmp_path / "in/a.md")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/round").symlink_to(tmp_path / "in")
    (tmp_path / "in/broken.md").symlink_to(tmp_path / "nothing")
    assert found(tmp_path / "in") == [
        "a.md",
        "! broken.md: it cannot be read: No such file or directory",
        "link.md",
    ]


def test_folders_may_nest_deeper_than_python_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = sys.getrecursionlimit() + 100
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    fill(Path(), "a.md")
    try:
        assert [name.rpartition("/")[2] for name in found(tmp_path)] == ["a.md"]
    finally:  # what clears temporary folders recurses
        Path("a.md").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()


def test_what_is_no_regular_file_is_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    fill(tmp_path, "z.md")
    assert found(tmp_path) == ["! pipe.txt: it is not a regular file", "z.md"]
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        found(tmp_path / "pipe.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, "locked/a.md", "z.md")
    (tmp_path / "locked").chmod(0)
    try:
        assert found(tmp_path) == ["! locked: it cannot be read: Permission denied", "z.md"]
    finally:
        (tmp_path / "locked").chmod(stat.S_IRWXU)


def test_a_name_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md"))).write_text("text")
    assert found(tmp_path) == ["! caf\\xe9.md: its name is not UTF-8; rename it"]


# Single files


def test_a_file_that_is_named_is_taken_whatever_the_rules(tmp_path: Path) -> None:
    fill(tmp_path, ".notes.md")
    (tmp_path / ".gitignore").write_text("*")
    assert first(tmp_path / ".notes.md", replace(OPTIONS, include=("*.txt",))).read() == b"text"


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.md", content="x" * 101)
    with pytest.raises(DocumentError, match="max_file_mb"):
        first(tmp_path / "a.md", replace(OPTIONS, max_file_bytes=100)).read()
    assert len(first(tmp_path / "a.md", replace(OPTIONS, max_file_bytes=101)).read()) == 101


def test_an_empty_or_vanished_file_is_refused_when_it_is_read(tmp_path: Path) -> None:
    fill(tmp_path, "a.md", content="")
    file = first(tmp_path / "a.md")
    with pytest.raises(DocumentError, match="empty"):
        file.read()
    (tmp_path / "a.md").unlink()
    with pytest.raises(DocumentError, match="No such file"):
        file.read()


def test_a_source_that_does_not_exist_names_a_similar_one(tmp_path: Path) -> None:
    fill(tmp_path, "documents/handbook.md")
    with pytest.raises(SourceError, match=r"did you mean '.*/documents'"):
        found(tmp_path / "documets")
    with pytest.raises(SourceError, match=r"did you mean '.*/documents/handbook\.md'"):
        found(tmp_path / "documents/handbok.md")


# Names


def test_normalise_source_makes_paths_absolute_without_resolving_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("/")
    monkeypatch.chdir(tmp_path)
    assert normalise_source("./x/../link/") == f"{tmp_path}/link"


@pytest.mark.parametrize(
    "source", ["", "a\0b", "ftp://", "file://etc/passwd", "http://", "http://a:b@c/", "ftp://a:b@c/", "zip:///a.zip"]
)
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises(SourceError):
        normalise_source(source)


def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(SourceError) as raised:
        normalise_source("https://user:hunter2@example.com/a")
    assert "hunter2" not in str(raised.value)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_normalising_again_changes_nothing(source: str) -> None:
    try:
        once = normalise_source(source)
    except SourceError:
        return
    assert normalise_source(once) == once


@pytest.mark.parametrize("below", ["/d", "/d/a.md", "/d!/a.md", "/d#3"])
def test_what_is_under_a_root(below: str) -> None:
    assert is_under(below, "/d")
    assert not is_under(below, "/d/a")
    assert is_under(below, "/") == (below != "/")


# Archives


def test_members_of_an_archive_are_files(tmp_path: Path) -> None:
    members = {"b.md": "B", "docs/a.md": "A", ".hidden": "", "__MACOSX/x.md": "", "i.png": "", "docs/.git/c": ""}
    archive = make_zip(tmp_path / "a.zip", members)
    assert found(archive) == ["b.md", "docs/a.md"]
    assert found(tmp_path) == ["a.zip!/b.md", "a.zip!/docs/a.md"]
    assert found(archive, replace(OPTIONS, include=("docs/**",))) == ["docs/a.md"]
    file = first(archive)
    assert (file.name, file.source, file.read(), file.read()) == ("b.md", f"{archive}!/b.md", b"B", b"B")


@pytest.mark.parametrize(
    "name", ["../a.md", "x/../../a.md", "/etc/a.md", "C:\\a.md", "C:/a.md", "..\\a.md", "a//b.md", "./a"]
)
def test_a_member_whose_name_could_escape_is_reported(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a.zip", {name: "evil", "good.md": "good"})
    failure, good = list(find_files(str(archive), OPTIONS))
    assert isinstance(failure, Failure)
    assert "not unpacked" in failure.reason
    assert isinstance(good, SourceFile)
    assert good.name == "good.md"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_links_encrypted_members_and_nested_archives_are_reported(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.md")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("locked.md", "x")
        archive.writestr("more.zip", "x")
        archive.writestr("z.md", "x")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    entry = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    data[entry + 8] |= 1  # the flag of encryption, in the directory's entry of the second member
    (tmp_path / "a.zip").write_bytes(data)
    *failures, last = found(tmp_path / "a.zip")
    assert last == "z.md"
    for name, reason, shown in zip(
        ["link", "locked", "more"], ["symbolic", "encrypted", "archive inside"], failures, strict=True
    ):
        assert shown.startswith(f"! {name}.")
        assert reason in shown


def test_of_what_is_excluded_only_an_escape_is_reported(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"../b.txt": "evil", "a.md": "good", "more.zip": "x"})
    failure, good = found(archive, replace(OPTIONS, include=("*.md",)))
    assert "not unpacked" in failure
    assert good == "a.md"


def test_archives_are_open_only_while_their_members_are_read(tmp_path: Path) -> None:
    for number in range(5):
        make_zip(tmp_path / f"{number}.zip", {"a.md": "A", "b.md": "B"})

    def open_files() -> int:
        return len(os.listdir("/dev/fd"))  # noqa: PTH208

    before = open_files()
    files = [item for item in find_files(str(tmp_path), OPTIONS) if isinstance(item, SourceFile)]
    assert (len(files), open_files()) == (10, before)
    assert [file.read() for file in files[:3]] == [b"A", b"B", b"A"]
    assert open_files() == before + 1
    assert [file.read() for file in files] == [b"A", b"B"] * 5
    assert open_files() == before


def test_a_zip_bomb_is_refused_and_the_rest_of_the_folder_goes_on(tmp_path: Path) -> None:
    make_zip(tmp_path / "bomb.zip", {"a.txt": b" " * 20_000_000})
    fill(tmp_path, "z.md")
    failure, rest = found(tmp_path)
    assert "bomb" in failure
    assert rest == "z.md"
    with pytest.raises(SourceError, match="bomb"):
        found(tmp_path / "bomb.zip")


def test_an_archive_of_too_many_members_is_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its headers say of their number: it is the entries that take memory."""
    monkeypatch.setattr("citekite.ingest.archive.MOST_MEMBERS", 20)
    archive = make_zip(tmp_path / "many.zip", {f"{number}.md": "text" for number in range(21)})
    content = archive.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    for lie in (content, content[: end + 8] + struct.pack("<HH", 3, 3) + content[end + 12 :]):
        archive.write_bytes(lie)
        assert found(tmp_path)[0].startswith("! many.zip: ")
        assert "more than 20 members" in found(tmp_path)[0]
    make_zip(archive, {f"{number}.md": "text" for number in range(20)})
    assert len(found(archive)) == 20


def test_an_archive_over_the_unpacked_limit_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.md": os.urandom(600), "b.md": os.urandom(600)})
    with pytest.raises(SourceError, match="max_archive_mb"):
        found(archive, replace(OPTIONS, max_archive_bytes=1000))
    assert found(archive, replace(OPTIONS, max_archive_bytes=1200)) == ["a.md", "b.md"]


def test_a_bomb_that_declares_a_small_size_gives_no_more_than_that(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "a.zip", {"a.txt": b" " * 20_000_000}).read_bytes())
    for signature, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        struct.pack_into("<L", data, data.index(signature) + at, 10)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DocumentError, match="cannot be unpacked"):
        first(tmp_path / "a.zip").read()


def test_a_member_over_the_file_limit_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.md": os.urandom(101)})
    with pytest.raises(DocumentError, match="max_file_mb"):
        first(archive, replace(OPTIONS, max_file_bytes=100)).read()


@pytest.mark.parametrize("damage", ["not a zip at all", "PK\3\4 cut"])
def test_a_corrupt_archive_is_named(tmp_path: Path, damage: str) -> None:
    fill(tmp_path, "a.zip", content=damage)
    fill(tmp_path, "z.md")
    failure, rest = found(tmp_path)
    assert failure.startswith("! a.zip: ")
    assert rest == "z.md"
    with pytest.raises(SourceError, match="not a zip archive"):
        found(tmp_path / "a.zip")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.md", "some text")
    (tmp_path / "a.zip").write_bytes(content.getvalue().replace(b"some text", b"same text", 1))
    with pytest.raises(DocumentError, match="CRC"):
        first(tmp_path / "a.zip").read()


def test_a_member_that_stands_twice_is_reported(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.md", "old")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.md", "new")
    failure, file = list(find_files(str(tmp_path / "a.zip"), OPTIONS))
    assert isinstance(failure, Failure)
    assert isinstance(file, SourceFile)
    assert file.read() == b"new"
