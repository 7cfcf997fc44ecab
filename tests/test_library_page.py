"""The library half of the page in a real browser: adding, finding, deleting, switching, and the map."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from citekite.settings import Settings
from served import serving
from stored import BIRDS, knowledge_base, write

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the page is not tested in a browser")
from playwright.sync_api import Browser, Page, expect

from browsing import Pages, Seen, axe, chromium, findings, needs_chromium

pytestmark = needs_chromium
# What a drop of files does, as soon as the page takes one; Chromium gives a test no other way to make one.
DROP = """async files => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) transfer.items.add(new File([text], name));
  const happens = type => document.body.dispatchEvent(
    new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}));
  while (happens("dragover")) await new Promise(requestAnimationFrame);
  happens("dragenter");
  happens("drop");
}"""
HERONS = "# Herons\n\nThe grey heron stands still in shallow water until a fish comes near.\n"
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("library")
    docs = write(folder / "docs", BIRDS)
    for collection in ("citekite", "second"):
        with knowledge_base(folder / "kb.db", collection=collection) as kb:
            kb.sync(docs if collection == "citekite" else docs / "deep")
    with serving(Settings(uri=str(folder / "kb.db"), embedder="static")) as address:
        yield address


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    uri = tmp_path_factory.mktemp("empty") / "kb.db"
    with serving(Settings(uri=str(uri), embedder="static", allow_private_urls=True)) as address:
        yield address


class Site(BaseHTTPRequestHandler):
    """A web site of one page."""

    def do_GET(self) -> None:
        found = self.path == "/cranes.html"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>Cranes</title><h1>Cranes</h1><p>Cranes dance in spring.</p>" if found else b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def pages(browser: Browser) -> Pages:
    return Pages(browser, axe())


@pytest.fixture
def visit(pages: Pages) -> Iterator[Open]:
    """Opens pages with axe; at the end none may have asked elsewhere, broken the page's own policy or an own script."""
    seen = Seen()

    def open_(address: str) -> Page:
        page = seen.watch(pages.open(reduced_motion="reduce"))
        page.goto(address)
        return page

    yield open_
    pages.close()
    # a collection that is not there yet is a 404, which the console names, and a busy server is a 503
    assert seen.faults(but="Failed to load resource") == []


def upload(page: Page, name: str) -> Any:
    return page.locator(".upload", has_text=name)


def test_an_empty_library_takes_a_dropped_file_which_can_then_be_asked(visit: Open, empty: str) -> None:
    page = visit(empty)
    expect(page.get_by_role("heading", name="Add documents, then ask them")).to_be_visible()
    expect(page.locator(".command")).to_contain_text("citekite sync ./docs")
    assert findings(page) == []

    page.evaluate(DROP, [["herons.md", HERONS]])
    expect(upload(page, "herons.md")).to_have_attribute("data-state", "ready")
    expect(page.locator(".where")).to_contain_text("1 document")

    page.locator("#question").fill("Where does the grey heron stand?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_contain_text("shallow water")


def test_a_file_that_fails_says_why_and_can_be_tried_again_while_others_go_on(visit: Open, address: str) -> None:
    page = visit(f"{address}/#/documents")
    expect(page.locator(".doc")).to_have_count(3)

    page.evaluate(DROP, [["broken.pdf", "%PDF-1.4 nonsense"], ["cranes.md", "# Cranes\n\nCranes dance.\n"]])

    expect(upload(page, "broken.pdf")).to_have_attribute("data-state", "failed")
    expect(upload(page, "broken.pdf").locator(".upload-reason")).to_contain_text("PDF cannot be read")
    expect(upload(page, "cranes.md")).to_have_attribute("data-state", "ready")
    expect(page.locator(".tray h2")).to_have_text("1 added, 1 failed")
    expect(page.locator(".doc")).to_have_count(4)
    upload(page, "broken.pdf").get_by_role("button", name="Retry").click()
    expect(upload(page, "broken.pdf")).to_have_attribute("data-state", "failed")
    page.get_by_role("button", name="Close the list").click()
    expect(page.locator(".tray")).to_have_count(0)

    page.get_by_role("button", name="Delete Cranes").click()
    expect(page.locator(".doc-delete")).to_contain_text("The uploaded file goes too")
    page.locator(".doc-delete").get_by_role("button", name="Keep").click()
    expect(page.get_by_role("button", name="Delete Cranes")).to_be_focused()
    page.get_by_role("button", name="Delete Cranes").click()
    page.locator(".doc-delete").get_by_role("button", name="Delete").click()
    expect(page.locator(".doc")).to_have_count(3)
    expect(page.locator(".toast")).to_have_text("Deleted Cranes")


def test_files_are_sent_three_at_once_and_can_be_cancelled(visit: Open, address: str) -> None:
    page = visit(f"{address}/#/documents")
    page.route("**/api/v1/documents", lambda route: None if route.request.method == "POST" else route.continue_())
    expect(page.locator(".doc")).to_have_count(3)

    page.evaluate(DROP, [[f"{number}.md", "text"] for number in range(5)])

    expect(page.locator(".upload.uploading")).to_have_count(3)
    expect(page.locator(".upload.queued")).to_have_count(2)
    expect(page.locator(".tray h2")).to_have_text("Adding 5 of 5")
    for number in range(5):
        page.get_by_role("button", name=f"Cancel {number}.md").click()
    expect(page.locator(".upload.cancelled")).to_have_count(5)


def test_a_busy_server_is_asked_again_when_it_says(visit: Open, address: str) -> None:
    page = visit(f"{address}/#/documents")
    answers = iter([True])

    def busy_once(route: Any) -> None:
        if route.request.method == "POST" and next(answers, False):
            body = '{"title": "ServerBusy", "status": 503, "detail": "busy"}'
            route.fulfill(status=503, headers={"Retry-After": "1"}, body=body)
        else:
            route.continue_()

    page.route("**/api/v1/documents", busy_once)
    expect(page.locator(".doc")).to_have_count(3)
    page.evaluate(DROP, [["broken.pdf", "%PDF-1.4 nonsense"]])

    expect(upload(page, "broken.pdf")).to_contain_text("the server is busy: again in 1 s")
    expect(upload(page, "broken.pdf")).to_have_attribute("data-state", "failed")


def test_a_document_is_found_opened_and_asked_alone(visit: Open, address: str) -> None:
    page = visit(f"{address}/#/documents")
    page.get_by_role("searchbox", name="Find a document").fill("owl")
    expect(page.locator(".doc")).to_have_count(1)
    page.get_by_role("link", name="Owls").click()
    expect(page.locator(".reader")).to_contain_text("The barn owl hunts voles at night.")
    assert "id=" in page.url

    page.locator(".reader").get_by_role("button", name="Ask only this document").click()

    expect(page.locator("#question")).to_be_focused()
    expect(page.locator(".composer .chip").first).to_contain_text("owls.md")


def test_another_collection_is_chosen_and_remembered_and_a_new_one_is_made(visit: Open, address: str) -> None:
    page = visit(f"{address}/#/documents")
    page.locator(".collections-button").click()
    expect(page.locator(".collections-menu li")).to_have_count(2)
    page.get_by_role("button", name="second 1 document").click()
    expect(page.locator(".doc")).to_have_count(1)
    page.reload()
    expect(page.locator(".shelf-head h1")).to_have_text("second")
    expect(page.locator(".doc")).to_have_count(1)

    page.locator(".collections-button").click()
    page.get_by_role("textbox", name="Name of a new collection").fill("no name")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".collections-menu [role=alert]")).to_contain_text("letters, digits and _")
    page.get_by_role("textbox", name="Name of a new collection").fill("third")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="Add documents, then ask them")).to_be_visible()
    expect(page.locator(".collections-button")).to_contain_text("third")


def in_collection(page: Page, name: str) -> Page:
    page.evaluate("name => localStorage.setItem('citekite.collection', name)", name)
    page.reload()
    return page


def test_the_address_of_a_page_is_added_and_one_that_is_not_there_says_so(visit: Open, empty: str, site: str) -> None:
    page = in_collection(visit(empty), "web")
    field = page.get_by_label("Address of a page or file")
    field.fill(f"{site}/nothing.html")
    page.keyboard.press("Enter")
    expect(upload(page, "nothing.html")).to_have_attribute("data-state", "failed")
    expect(upload(page, "nothing.html").locator(".upload-reason")).to_contain_text("404")
    field.fill(f"{site}/cranes.html")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(upload(page, "cranes.html")).to_have_attribute("data-state", "ready")
    page.get_by_role("link", name="Documents").click()
    expect(page.locator(".doc")).to_have_count(1)
    expect(page.locator(".doc-source")).to_have_text(f"{site.removeprefix('http://')}/cranes.html")
    page.get_by_role("link", name="Cranes").click()
    expect(page.locator(".reader")).to_contain_text("Cranes dance in spring.")
    expect(page.get_by_role("link", name="Open original")).to_have_attribute("href", f"{site}/cranes.html")


def test_the_sample_is_loaded_and_can_be_asked_about(visit: Open, empty: str) -> None:
    page = in_collection(visit(empty), "sample")
    page.get_by_role("button", name="Load the sample").click()
    expect(upload(page, "Sample library")).to_have_attribute("data-state", "ready")
    expect(page.locator(".questions button")).to_have_count(3)
    page.locator(".questions button").first.click()
    expect(page.locator(".turn.done .tools")).to_be_visible()


DROP_FOLDER = """async files => {
  const file = ([name, text]) => ({name, isFile: true, file: done => done(new File([text], name))});
  const folder = (name, inner) => ({name, isFile: false, createReader: () => {
    const parts = [inner, []];
    return {readEntries: done => done(parts.shift())};
  }});
  const tree = folder("birds", [folder("deep", files.map(file)), folder(".git", [file(["config", "secret"])])]);
  const transfer = {types: ["Files"], items: [{kind: "file", webkitGetAsEntry: () => tree}], files: []};
  const happens = type => document.body.dispatchEvent(Object.defineProperty(
    new Event(type, {bubbles: true, cancelable: true}), "dataTransfer", {value: transfer}));
  while (happens("dragover")) await new Promise(requestAnimationFrame);
  happens("drop");
}"""


def test_a_dropped_folder_gives_its_files_without_the_hidden_ones(visit: Open, empty: str) -> None:
    page = in_collection(visit(empty), "folder")
    expect(page.get_by_role("heading", name="Add documents, then ask them")).to_be_visible()
    page.evaluate(
        DROP_FOLDER, [["storks.md", "# Storks\n\nStorks clatter.\n"], ["swans.md", "# Swans\n\nSwans hiss.\n"]]
    )
    expect(page.locator(".upload.ready")).to_have_count(2)
    expect(page.locator(".tray h2")).to_have_text("2 added")
    expect(page.locator(".where")).to_contain_text("2 documents")


def test_a_job_that_runs_on_the_server_is_cancelled(visit: Open, empty: str) -> None:
    page = in_collection(visit(empty), "long")
    expect(page.get_by_role("heading", name="Add documents, then ask them")).to_be_visible()
    long = "\n\n".join(f"## Part {n}\n\n" + f"Sentence {n} of a long book about cranes. " * 20 for n in range(6000))
    page.evaluate(DROP, [["book.md", long]])
    expect(page.locator(".upload.working")).to_have_count(1)
    page.get_by_role("button", name="Cancel book.md").click()
    expect(upload(page, "book.md")).to_have_attribute("data-state", "cancelled")
    expect(upload(page, "book.md").get_by_role("button", name="Retry")).to_be_visible()


def coloured(page: Page) -> int:
    """How many pixels of the canvas are drawn."""
    count: int = page.evaluate(
        "() => { const c = document.querySelector('canvas');"
        " const pen = new OffscreenCanvas(c.width, c.height).getContext('2d', {willReadFrequently: true});"
        " pen.drawImage(c, 0, 0); const d = pen.getImageData(0, 0, c.width, c.height).data;"
        " let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) n += 1; return n; }"
    )
    return count


def test_the_map_draws_points_and_shows_a_question_with_its_hits(visit: Open, address: str) -> None:
    page = visit(f"{address}/#/map")
    field = page.locator(".map")
    expect(field).to_have_attribute("data-points", "7")
    expect(page.locator("canvas")).to_have_attribute("data-view", re.compile(r"\d"))
    expect(page.locator("canvas")).to_have_attribute("aria-label", re.compile("7 passages in 3 documents"))
    before = coloured(page)
    assert before > 100

    page.get_by_role("searchbox", name="Question to place on the map").fill("Who hunts at night?")
    page.keyboard.press("Enter")

    expect(page.locator(".map-hits .hit").first).to_contain_text("Owls")
    expect(field).to_have_attribute("data-question", re.compile(r"-?[\d.]+,-?[\d.]+"))
    assert "q=Who%20hunts" in page.url
    page.locator(".map-hits .hit").first.focus()
    expect(page.locator(".map-tip")).to_contain_text("Owls")
    assert coloured(page) > before
    page.locator(".map-hits .hit").first.click()
    expect(page.locator(".reader .in-passage").last).to_contain_text("barn owl")


def test_the_map_is_moved_by_keys_and_filtered_by_its_legend(visit: Open, address: str) -> None:
    page = visit(f"{address}/#/map")
    canvas = page.locator("canvas")
    expect(canvas).to_have_attribute("data-view", re.compile(r"\d"))
    whole = canvas.get_attribute("data-view") or ""
    canvas.focus()
    page.keyboard.press("+")
    expect(canvas).not_to_have_attribute("data-view", whole)
    near = canvas.get_attribute("data-view") or ""
    assert float(near.split()[2]) > float(whole.split()[2])
    page.keyboard.press("ArrowRight")
    expect(canvas).not_to_have_attribute("data-view", near)
    page.keyboard.press("0")
    expect(canvas).to_have_attribute("data-view", whole)

    page.locator(".legend button", has_text="Owls").click()
    expect(page.locator(".legend button[aria-pressed=true]")).to_have_count(1)
    expect(page.locator(".legend .dimmed")).to_have_count(2)
    page.get_by_role("button", name="Show all", exact=True).first.click()


def test_a_link_places_its_question_and_a_point_opens_its_passage(visit: Open, address: str) -> None:
    page = visit(f"{address}/#/map?q=Who%20hunts%20at%20night%3F")
    expect(page.locator(".map-hits .hit").first).to_contain_text("Owls")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".map")).to_have_attribute("data-hits", "0")
    points = page.request.get(f"{address}/api/v1/map").json()["points"]

    def apart(one: dict[str, float]) -> float:
        others = [other for other in points if other is not one]
        return min(math.hypot(one["x"] - other["x"], one["y"] - other["y"]) for other in others)

    point = max(points, key=apart)  # no other lies over it
    x, y, scale = map(float, (page.locator("canvas").get_attribute("data-view") or "").split())
    box = page.locator("canvas").bounding_box()
    assert box is not None
    left = box["x"] + box["width"] / 2 + (point["x"] - x) * scale
    page.mouse.click(left, box["y"] + box["height"] / 2 - (point["y"] - y) * scale)
    expect(page.locator(".reader h2")).to_have_text(point["title"])


@pytest.mark.parametrize("route", ["documents", "map"])
def test_each_page_is_accessible_and_fits_wide_and_narrow_light_and_dark(visit: Open, address: str, route: str) -> None:
    page = visit(f"{address}/#/{route}")
    expect(page.locator(".doc, .legend li").first).to_be_visible()
    page.locator(".collections-button").click()
    expect(page.locator(".collections-menu li").first).to_be_visible()
    assert findings(page) == []
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (
        page.evaluate(
            "Math.max(...[...document.querySelectorAll('.top > *')].map(e => e.getBoundingClientRect().right))"
        )
        <= 390
    )
