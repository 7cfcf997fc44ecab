"""The page without a browser: its modules under Node, what is vendored, how heavy it is, what it must not contain."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import citekite

UI = Path(citekite.__file__).parent / "serve" / "ui"
VENDOR = UI / "vendor"
OURS = sorted(UI.glob("*.js"))
FIRST_PAINT_BYTES = 110_000
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not there: the page's modules are not tested by themselves")
def test_the_modules_of_the_page_pass_their_own_tests() -> None:
    tests = sorted((Path(__file__).parent / "ui").glob("*.test.mjs"))
    run = subprocess.run([str(NODE), "--test", *map(str, tests)], capture_output=True, text=True, timeout=120)

    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


def test_each_vendored_file_is_the_one_that_its_list_names() -> None:
    text = (VENDOR / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|", text, re.MULTILINE))

    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")} == listed
    assert all(re.search(r"-\d+\.\d+\.\d+\.", name) for name in listed)
    licences = set(re.findall(r"`(LICENSE-\w+)`", text))
    assert licences == {path.name for path in VENDOR.glob("LICENSE*")}


def test_the_page_has_no_markup_from_strings_and_no_code_from_strings() -> None:
    """So that what a document or a model says cannot become an element or run."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\(|new Function|srcdoc"
    )

    assert {path.name: forbidden.findall(path.read_text(encoding="utf-8")) for path in OURS} == {
        path.name: [] for path in OURS
    }


def test_the_page_has_nothing_inline_so_that_its_policy_can_forbid_it() -> None:
    page = (UI / "index.html").read_text(encoding="utf-8")

    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\bstyle=|\bon\w+=", page) == []


def test_the_page_names_no_address_of_another_server_that_it_would_fetch() -> None:
    loads = re.compile(r"""(?:import|from|fetch\(|src=|href=|url\()\s*\(?["'](?:https?:)?//[^"']+""")
    texts = {
        path.name: path.read_text(encoding="utf-8") for path in UI.iterdir() if path.suffix in {".js", ".css", ".html"}
    }

    assert {name: loads.findall(text) for name, text in texts.items() if loads.findall(text)} == {}


@pytest.mark.parametrize("later", [[], ["empty.js"]], ids=["with documents", "empty"])
def test_what_the_first_paint_loads_is_small(later: list[str]) -> None:
    files = first_paint("collections.js", *later)

    assert {"index.html", "app.js", "style.css", "state.js", "favicon.svg"} <= {path.name for path in files}
    assert not {"marked-18.2.1.esm.js", "library.js", "map.js", "demo.js"} & {path.name for path in files}
    sizes = {path.name: path.stat().st_size for path in files}
    assert sum(sizes.values()) < FIRST_PAINT_BYTES, sizes


def first_paint(*later: str) -> set[Path]:
    """The page with its scripts and style sheets, and those of the parts that are loaded `later` but shown at first."""
    page = UI / "index.html"
    todo = [UI.parent / name for name in re.findall(r'(?:href|src)="(ui/[^"]+)"', page.read_text(encoding="utf-8"))]
    todo += [UI / name for name in later]
    found = {page}
    while todo:
        path = todo.pop().resolve()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".js":
            text = path.read_text(encoding="utf-8")
            imported = re.findall(r'^(?:import|export|\}) [^;]*?from "(\.[^"]+)";$', text, re.M)
            todo += [path.parent / name for name in imported + re.findall(r'^await sheet\("([^"]+)"\)', text, re.M)]
    return found


def test_every_module_that_is_imported_is_there() -> None:
    for path in OURS:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'from "(\.[^"]+)"|import\("(\.[^"]+)"\)|file="(\.[^"]+)"', text):
            assert (path.parent / "".join(name)).is_file(), f"{path.name} imports {name}"
        for file, name in re.findall(r'file="\./([^"]+)" name="(\w+)"', text):
            exported = rf"^export (?:const|function) {name}\b"
            assert re.search(exported, (UI / file).read_text(encoding="utf-8"), re.M), f"{file} has no {name}"


def test_the_recording_is_of_the_form_that_the_server_sends() -> None:
    recording = json.loads((UI / "demo-recording.json").read_text(encoding="utf-8"))

    assert set(recording["streams"]) == {"answered", "deep", "extracted", "refused"}
    assert "/work" not in json.dumps(recording)
    for events in recording["streams"].values():
        assert [event["name"] for event in events if event["name"] in ("Retrieved", "Done")] == ["Retrieved", "Done"]
