"""Fuzzing in small: every target on inputs of hypothesis, and what longer runs (`python -m bench fuzz`) have found."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citekite.errors import DocumentError, EndpointError
from citekite.events import Delta, Failed
from citekite.ingest.archive import Archive
from citekite.ingest.base import SourceFile
from citekite.ingest.sniff import checked_name
from citekite.reports import Failure
from fuzz_targets import (
    ASKED,
    OPTIONS,
    TARGETS,
    Target,
    check_archive,
    endpoint,
    loading,
    remote,
    replies,
)
from sample_files import zipped

# Those that take tens of milliseconds an input are given fewer.
SLOW = ("docx", "pptx", "xlsx", "HTML", "PDF", "filter expression", "answer events", "chat events")


@cache
def target(name: str) -> Target:
    return TARGETS[name]()


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_is_refused_or_keeps_the_laws(name: str) -> None:
    check, seeds = target(name).check, target(name).seeds

    @settings(max_examples=10 if name.startswith(SLOW) else 30)
    @given(
        st.binary(max_size=200)
        | st.builds(damaged, st.sampled_from(seeds), st.floats(0, 1), st.integers(0, 60), st.binary(max_size=20))
    )
    def tried(data: bytes) -> None:
        check(data)

    for seed in seeds:
        check(seed)
    tried()


def damaged(data: bytes, place: float, dropped: int, inserted: bytes) -> bytes:
    """Valid bytes with some of them left out and others put in."""
    start = int(place * len(data))
    return data[:start] + inserted + data[start + dropped :]


# What was found


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members_of_every_method_are_told(method: int) -> None:
    archive = zipped({"mimetype": "application/epub+zip " * 9}, method)
    start = archive.index(b"mimetype") + len("mimetype")
    broken = archive[: start + 6] + b"\xff" * 20 + archive[start + 26 :]
    check_archive(broken)
    with pytest.raises(DocumentError, match="damaged zip archive"):
        checked_name("a.epub", io.BytesIO(broken))


def test_a_member_without_a_name_is_told_and_the_others_are_taken() -> None:
    archive = zipped({"ab": "one", "b.md": "two"})
    lengths = archive.index(b"PK\x01\x02") + 28  # of the name, of what is extra, of a comment: what was the name
    nameless = archive[:lengths] + struct.pack("<HHH", 0, 0, 2) + archive[lengths + 6 :]
    failure, file = Archive(io.BytesIO(nameless), "/a.zip", OPTIONS).find_files(lambda path: True)
    assert isinstance(failure, Failure)
    assert "its name ''" in failure.reason
    assert isinstance(file, SourceFile)
    assert file.read() == b"two"


def test_a_header_of_a_hundred_thousand_columns_takes_no_time() -> None:
    begun = time.process_time()
    loading("a.csv")(b"," * 100_000 + b"\n1")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "sent",
    [
        'event: Later\ndata: {"text": "x"}\n\n',
        "event: Delta\ndata: 1\n\n",
        'event: Delta\ndata: {"text": null}\n\n',
        'event: Failed\ndata: {"problem": "x", "partial": ""}\n\n',
        "event: Retrieved\ndata: {}\n\n",
        f"event: Delta\ndata: {'[' * 100_000}\n\n",
    ],
)
def test_an_answer_of_another_form_ends_as_failed_with_what_had_come(sent: str) -> None:
    replies().pieces = [b'event: Delta\ndata: {"text": "Kites "}\n\n', sent.encode()]
    delta, failed = remote().ask_stream("Which birds soar?")
    assert delta == Delta("Kites ")
    assert isinstance(failed, Failed)
    assert failed.partial == "Kites "
    assert "cannot read" in str(failed.error)


@pytest.mark.parametrize(
    "sent",
    [
        '{"choices": "ab"}',
        '{"choices": {"a": 1}}',
        '{"choices": [{"delta": {"content": ["a"]}}]}',
        '{"choices": [{"delta": "a"}]}',
        '{"choices": [], "usage": 5}',
        '{"choices": [], "usage": {"prompt_tokens": "x", "completion_tokens": 1}}',
        "[1]",
        "5",
        "[" * 100_000,
    ],
)
def test_a_reply_of_another_form_is_an_error_of_the_endpoint(sent: str) -> None:
    replies().pieces = [f"data: {sent}\n\n".encode()]
    with pytest.raises(EndpointError):
        list(endpoint().chat(f"model-{sent[:40]}", ASKED, max_tokens=9, temperature=0))
