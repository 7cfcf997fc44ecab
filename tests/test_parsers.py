"""Parsing in processes of its own: what hangs or crashes one costs its file alone."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from citekite.errors import DocumentError
from citekite.ingest.base import LoadOptions, Parsed
from citekite.ingest.parsers import Parsers
from stored import knowledge_base
from test_load import make_pdf

SECONDS = 1.0
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def parsers() -> Iterator[Parsers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        with Parsers(SECONDS, "hostile_parser:parse") as parsers:
            yield parsers


def parse(parsers: Parsers, words: str) -> tuple[Parsed, int]:
    """What comes of a file with these words, and the process that parsed it."""
    remarks: list[str] = []
    parsed = parsers.parse("pdf", "a.pdf", words.encode(), LoadOptions(), remarks.append)
    return parsed, int(remarks[0].split()[1])


def test_a_process_parses_one_file_after_the_other_and_is_not_this_one(parsers: Parsers) -> None:
    first, process = parse(parsers, "One, print. \udcff".encode("utf-8", "replace").decode())
    assert first == Parsed("pdf a.pdf: One, print. ?", "Title", {"author": "A. Bird"}, 3, (0, 5))
    assert parse(parsers, "Two.")[1] == process != os.getpid()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("hang", "parsing it took more than 1 s; raise parse_seconds"),
        ("crash", r"its parser crashed \(SIGSEGV\)"),
        ("end", "its parser ended with status 3"),
    ],
)
def test_what_ends_its_process_is_reported_and_the_next_file_gets_another(
    parsers: Parsers, words: str, reason: str
) -> None:
    _, before = parse(parsers, "Good.")
    with pytest.raises(DocumentError, match=reason):
        parse(parsers, words)
    again, after = parse(parsers, "Good again.")
    assert again.text == "pdf a.pdf: Good again."
    assert after != before


def test_a_refusal_keeps_its_words_and_a_bug_its_traceback(parsers: Parsers) -> None:
    _, before = parse(parsers, "Good.")
    with pytest.raises(DocumentError, match=r"^it is damaged$"):
        parse(parsers, "fail")
    with pytest.raises(RuntimeError, match=r"(?s)'a.pdf'.*hostile_parser.*KeyError: 'nobody expects this'"):
        parse(parsers, "bug")
    assert parse(parsers, "Good.")[1] == before


def test_a_process_that_is_killed_while_idle_is_not_missed(parsers: Parsers) -> None:
    _, process = parse(parsers, "Good.")
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert parse(parsers, "Good.")[1] != process


def test_files_are_parsed_side_by_side_and_a_crash_costs_nobody_else(parsers: Parsers) -> None:
    def outcome(words: str) -> str:
        try:
            return parse(parsers, words)[0].text
        except DocumentError as error:
            return str(error)

    files = ["hang", "One.", "crash", "Two.", "hang", "Three."]
    started = time.monotonic()
    with ThreadPoolExecutor(len(files)) as pool:
        outcomes = list(pool.map(outcome, files))
    seconds = time.monotonic() - started
    assert [text for text in outcomes if text.startswith("pdf")] == [
        f"pdf a.pdf: {word}." for word in ("One", "Two", "Three")
    ]
    assert sum("took more than" in text for text in outcomes) == 2
    if parsers.processes > 1:
        assert seconds < 2 * SECONDS + 5


def test_closing_ends_what_is_at_work_and_starts_nothing_more() -> None:
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.syspath_prepend(HERE)
        with Parsers(600, "hostile_parser:parse") as parsers:
            hanging = pool.submit(parse, parsers, "hang")
            while not parsers._busy:
                time.sleep(0.01)
        with pytest.raises(DocumentError, match="the sync has stopped"):
            hanging.result(timeout=30)
        with pytest.raises(DocumentError, match="the sync has stopped"):
            parse(parsers, "Good.")


def test_it_is_pickled_as_what_it_was_made_of() -> None:
    copy = pickle.loads(pickle.dumps(Parsers(7, "module:function")))
    assert copy.__reduce__() == (Parsers, (7, "module:function"))


def test_a_sync_reports_the_files_that_hang_or_crash_and_takes_the_rest_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PDFs among other files: all is reported and stored, and a second sync parses nothing that is stored."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(Parsers.__init__, "__defaults__", ("hostile_parser:parse",))
    folder = tmp_path / "docs"
    folder.mkdir()
    files = {"a.pdf": "One.", "b.pdf": "hang", "c.md": "# Kites\n\nSoar.\n", "d.pdf": "crash", "e.docx": "Two."}
    for name, words in files.items():
        (folder / name).write_text(words)
    with knowledge_base(tmp_path / "birds.db", parse_seconds=SECONDS) as kb:
        report = kb.sync(folder)
        assert [(Path(one.source).name, one.reason.partition(";")[0]) for one in report.failures] == [
            ("b.pdf", "parsing it took more than 1 s"),
            ("d.pdf", "its parser crashed (SIGSEGV)"),
        ]
        assert [Path(one.source).name for one in kb.documents()] == ["a.pdf", "c.md", "e.docx"]
        assert [Path(one.source).name for one in report.warnings] == ["a.pdf", "e.docx"]
        (folder / "b.pdf").unlink()
        (folder / "d.pdf").unlink()
        again = kb.sync(folder)
        assert (again.unchanged, again.failures, again.warnings) == (3, (), ())


def test_a_sync_that_is_stopped_does_not_wait_for_a_file_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(Parsers.__init__, "__defaults__", ("hostile_parser:parse",))
    (tmp_path / "a.pdf").write_text("hang")
    before, started = parsing(), time.monotonic()
    with knowledge_base(tmp_path / "birds.db", parse_seconds=600) as kb, pytest.raises(KeyboardInterrupt):
        kb.sync(tmp_path / "a.pdf", stopped=lambda: time.monotonic() > started + 0.5)
    while parsing() != before:
        assert time.monotonic() < started + 60, "a process is left"
        time.sleep(0.01)


def parsing() -> set[int]:
    """The processes of this one that parse, as Linux lists them."""
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return {
        int(child)
        for child in " ".join(lists).split()
        if b"hostile_parser" in Path(f"/proc/{child}/cmdline").read_bytes()
    }


def test_real_pdfs_are_parsed_by_real_processes(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(make_pdf("The kite soars.", "The owl hunts.", info="/Title (Birds)"))
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    with knowledge_base(tmp_path / "birds.db") as kb:
        report = kb.sync(tmp_path / "a.pdf", tmp_path / "b.pdf")
        [failure] = report.failures
        assert "the PDF cannot be read: damaged" in failure.reason
        assert sorted((chunk.title, chunk.page) for chunk in kb.collection().all_chunks()) == [
            ("Birds", 1),
            ("Birds", 2),
        ]
