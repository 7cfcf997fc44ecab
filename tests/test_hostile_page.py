"""Documents, names and a model that want to run a script in the page: in a real Chromium, through every view of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx2
import pytest

from citekite.settings import Settings
from scripted_endpoint import Messages, ScriptedEndpoint
from served import serving

# What an attacker writes stands here as it is, in long lines.
# ruff: noqa: E501
pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the page is not tested in a browser")
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not there (Debian: apt install chromium): the page is not tested in a browser"
)
RUN = "document.body.dataset.run=1"
IMAGE = f"<img src=x onerror={RUN}>"
LINKS = (
    f"[a](javascript:{RUN}) [b](JaVaScRiPt&colon;{RUN}) [c](java\tscript:{RUN}) [d](data:text/html,<script>{RUN}</script>) "
    f"[e](vbscript:x) [f](//evil.example/x) <javascript:{RUN}> [g](\x01javascript:{RUN}) ![h](https://evil.example/h.png)"
)
TEXT = (
    f"Herons eat fish at dawn. {IMAGE} <svg onload={RUN}></svg> <iframe srcdoc='<script>parent.{RUN}</script>'></iframe> "
    f'<script>{RUN}</script> <a href="javascript:{RUN}">click</a> {LINKS} <style>*{{background:url(//evil.example)}}</style> '
    f"<base href=https://evil.example/> <meta http-equiv=refresh content='0;url=https://evil.example/'> "
    f"<form action=https://evil.example/><button>send</button></form> {{{{constructor.constructor('{RUN}')()}}}}"
)
# Names and contents as an attacker would send them; what a server refuses never gets to the page.
FILES: dict[str, bytes] = {
    f"{IMAGE}.md": f"---\ntitle: '{IMAGE}'\nauthor: '{IMAGE}'\n---\n# {IMAGE}\n\n## <script>{RUN}</script>\n\n{TEXT}\n".encode(),
    'javascript:x"onmouseover="y.md': b'# " onmouseover="document.body.dataset.run=1\n\nHerons nest in trees.\n',
    "page.html": f"<title>{IMAGE.replace('<', '&lt;')}</title><h1>Herons</h1><p>Herons wade.</p><script>{RUN}</script>".encode(),
    "notes.txt": f"<html><script>{RUN}</script> Herons in a text file {IMAGE}\n".encode(),
    "table.csv": f'name,note\nheron,"{IMAGE.replace(chr(34), "")} =HYPERLINK(1)"\n'.encode(),
    "birds.svg": f"<svg xmlns='http://www.w3.org/2000/svg' onload='{RUN}'><script>{RUN}</script></svg>".encode(),
}
ANSWER = f"Herons eat fish [1]. {TEXT}\n\n# {IMAGE}\n\n```html\n{IMAGE}\n```\n\n| {IMAGE} | x |\n|---|---|\n| {LINKS} | y |\n\n[1]: javascript:{RUN}\n"


def reply(messages: Messages) -> str:
    return ANSWER


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that was given all that it took of the files above."""
    folder = tmp_path_factory.mktemp("hostile")
    with ScriptedEndpoint(pieces=reply) as endpoint:
        settings = Settings(
            uri=str(folder / "kb.db"), embedder="static", base_url=endpoint.base_url, model="scripted", api_key="unused"
        )
        with serving(settings) as address, httpx2.Client(base_url=f"{address}/api/v1", timeout=20) as client:
            jobs = [client.post("/documents", files=[("files", (name, file))]) for name, file in FILES.items()]
            assert [job.status_code for job in jobs].count(202) >= 4, [job.text for job in jobs]
            deadline = time.monotonic() + 20
            while any(job["ended"] is None for job in client.get("/jobs").json()["jobs"]):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page that at the end has run nothing, asked nobody else, and kept its policy without having to refuse."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(20_000)
    faults: list[str] = []
    ours = (f"{address}/", "blob:", "data:image/")
    page.on("request", lambda one: None if one.url.startswith(ours) else faults.append(one.url))
    page.on("dialog", lambda one: (faults.append(one.message), one.dismiss()))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda one: faults.append(one.text) if "Content Security" in one.text else None)
    yield page
    assert page.evaluate("document.body.dataset.run") is None
    harmless(page)
    assert page.url.startswith(f"{address}/")
    context.close()
    assert faults == []


def harmless(page: Page) -> None:
    """No element, address or handler of what is shown came out of a document or an answer."""
    elements = "script:not([src]), iframe, object, embed, base, form[action], img:not([src^='data:']), meta[http-equiv]"
    assert page.locator(f"#main :is({elements})").count() == 0
    inner = page.evaluate(
        """() => [...document.querySelectorAll('#main *')].flatMap(one => [...one.attributes].map(a => [a.name, a.value]))
            .filter(([name, value]) => name.startsWith('on') ||
                (['href', 'src', 'action', 'formaction', 'xlink:href'].includes(name)
                    && !/^(#|https?:|mailto:|blob:|data:image|\\/|\\.)/i.test(value)))"""
    )
    assert inner == []


def test_no_document_runs_in_the_list_or_when_it_is_read(page: Page, address: str) -> None:
    listed = httpx2.get(f"{address}/api/v1/documents").json()["documents"]
    assert any("onerror" in one["title"] for one in listed)
    page.goto(f"{address}/#/documents")
    expect(page.locator(".doc")).to_have_count(len(listed))
    harmless(page)
    for one in listed:
        page.goto(f"{address}/#/documents?id={one['id']}")
        expect(page.locator(".reader")).to_contain_text("eron")
        harmless(page)


def test_no_answer_runs_and_no_passage_beside_it(page: Page, address: str) -> None:
    page.goto(f"{address}/")
    page.get_by_label("Question", exact=True).fill("What do herons eat?")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.done .tools")).to_be_visible()
    expect(page.locator(".answer")).to_contain_text("Herons eat fish")
    harmless(page)
    page.locator(".mark").first.click()
    expect(page.locator(".reader")).to_be_visible()
    for link in page.locator(".answer a").all():
        assert (link.get_attribute("href") or "").startswith(("https://", "http://", "mailto:", "#"))
        assert "noopener" in (link.get_attribute("rel") or "noopener")
    page.reload()  # what is restored from the browser's storage is no safer
    expect(page.locator(".turn.done .answer")).to_contain_text("Herons eat fish")


def test_no_title_runs_on_the_map_and_no_question_of_a_link(page: Page, address: str) -> None:
    page.goto(f"{address}/#/map?q={quote(IMAGE)}")
    expect(page.locator(".map-hits .hit").first).to_be_visible()
    harmless(page)
    page.goto(f"{address}/?q={quote(IMAGE)}#/documents?id={quote(IMAGE)}&collection={quote(IMAGE)}")
    page.wait_for_load_state("networkidle")


def test_what_was_uploaded_is_saved_and_not_shown(page: Page, address: str) -> None:
    """Also where a user follows a link to it: no script of it runs, and not in the name of the page."""
    page.goto(f"{address}/")
    for one in httpx2.get(f"{address}/api/v1/documents").json()["documents"]:
        path = f"/api/v1/documents/{one['id']}/original"
        reply = httpx2.get(f"{address}{path}")
        assert reply.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-type"].partition(";")[0] not in ("text/html", "image/svg+xml", "application/xml")
        with page.expect_download() as started:
            page.evaluate("path => { location.href = path }", path)
        assert started.value.suggested_filename


def test_every_reply_that_a_browser_could_show_has_a_policy(address: str) -> None:
    for path in ("/", "/ui/index.html", "/ui/app.js", "/ui/nowhere", "/nowhere", "/docs", "/api/v1/me", "/healthz"):
        reply = httpx2.get(f"{address}{path}")
        assert reply.headers["content-security-policy"].startswith("default-src 'none'"), path
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-frame-options"] == "DENY"
