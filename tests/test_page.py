"""The page in a real Chromium, on a real server: the whole flow, each state, the keyboard, and what it never does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from citekite.serve.keys import KeyStore
from citekite.settings import Settings
from scripted_endpoint import Messages, ScriptedEndpoint
from served import serving
from stored import BIRDS, knowledge_base, write

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the page is not tested in a browser")
from playwright.sync_api import Browser, Page, Route, expect

from browsing import NARROW, WIDE, Pages, Seen, axe, chromium, findings, needs_chromium

pytestmark = needs_chromium
QUESTION = "What tail does the red kite have?"
# Characters beyond 16 bits stand before what is cited, so that offsets are counted right or fail.
SONGS = "# Songs 𝄞\n\n## Nightingale 🐦\n\n" + "\n\n".join(f"Verse {n} 𝄞 is sung at dusk." for n in range(60))
SONGS += "\n\n## Owl song 🦉\n\nThe tawny owl calls kewick 👍🏽 near its nest.\n\n## Rest\n\n" + "Silence.\n\n" * 40
HOSTILE = (
    "<script>document.title='run'</script><img src='https://evil.example/a.png' onerror='document.title=1'>\n\n"
    "![x](https://evil.example/b.png) [click](javascript:document.title=1) **bold** [1](https://evil.example/) [1].\n\n"
    "[1]: https://evil.example/def\n"
)
DEMOS = (
    *("empty", "searching", "steps", "reading", "writing", "answered", "pinned", "deep", "extracted", "unverified"),
    *("scores", "no-evidence", "no-evidence-scoped", "stopped", "lost", "unreachable", "error", "limited", "busy"),
    *("denied", "key", "store-down"),
    *("empty-library", "empty-read", "documents", "documents-read", "document", "uploads", "map", "map-question"),
)


def reply(messages: Messages) -> str:
    """An answer as a model would give it, by the question; passages are cited by their words."""
    prompt = messages[-1]["content"]
    question = prompt[prompt.rfind("<question>") :]
    passages = re.findall(r'<passage number="(\d+)"[^>]*>\s*(.*?)\s*</passage>', prompt, re.DOTALL)

    def cite(words: str) -> str:
        return next((f"[{number}]" for number, text in passages if words in text), "")

    if "hostile" in question:
        return HOSTILE
    if "tawny" in question:
        return f"It calls kewick {cite('kewick')}."
    if "long" in question:
        return "\n\n".join(f"Sentence {n} of a long answer, which goes on {cite('forked')}." for n in range(60))
    return f"The red kite has a **forked** tail {cite('forked')}. The black kite migrates {cite('migrates')}."


Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with knowledge_base(folder / "birds.db") as kb:
        kb.sync(write(folder / "docs", {**BIRDS, "songs.md": SONGS}))
    return folder / "birds.db"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(pieces=reply, piece_seconds=0.005) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def address(collection: Path, endpoint: ScriptedEndpoint) -> Iterator[str]:
    model = {"base_url": endpoint.base_url, "model": "scripted", "api_key": "unused"}
    with serving(Settings(uri=str(collection), embedder="static", allowed_hosts=["proxy.test"], **model)) as address:
        yield address


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def pages(browser: Browser) -> Pages:
    return Pages(browser)


@pytest.fixture
def visit(pages: Pages, address: str, seen: Seen) -> Iterator[Open]:
    """Opens pages; at the end nothing may have been fetched from elsewhere, and nobody may have complained."""

    def visit(path: str = "/", size: tuple[int, int] = WIDE, at: str = address, **options: Any) -> Page:
        page = seen.watch(pages.open(size, **options))
        page.goto(at + path)
        return page

    yield visit
    pages.close()
    assert seen.faults() == []


def ask(page: Page, question: str) -> None:
    page.get_by_label("Question", exact=True).fill(question)
    page.keyboard.press("Enter")


def answered(page: Page, question: str = QUESTION) -> None:
    ask(page, question)
    expect(page.locator(".turn.done .tools")).to_be_visible()


def in_sight(page: Page, selector: str, within: str) -> bool:
    """Whether the middle of an element lies in the visible part of another."""
    script = """([selector, within]) => {
        const one = document.querySelector(selector).getBoundingClientRect();
        const box = document.querySelector(within).getBoundingClientRect();
        const middle = one.top + Math.min(one.height, 20) / 2;
        return middle > box.top && middle < Math.min(box.bottom, innerHeight);
    }"""
    return bool(page.evaluate(script, [selector, within]))


# The whole flow


def test_a_question_from_the_titles_is_answered_and_its_citation_opens_in_the_document(visit: Open) -> None:
    page = visit()
    expect(page.locator(".questions button")).to_have_count(3)
    expect(page.locator(".questions")).to_contain_text("Kites")

    answered(page)

    expect(page.locator(".answer")).to_have_text(re.compile("The red kite has a forked tail"))
    expect(page.locator(".answer strong")).to_have_text("forked")
    expect(page.locator(".evidence .card.cited").first).to_contain_text("Kites")
    expect(page.locator(".folded summary")).to_contain_text("Retrieved, not cited")
    page.locator(".mark").first.click()
    expect(page.locator(".reader mark")).to_have_text("The red kite has a forked tail.")
    expect(page.locator(".reader-where")).to_contain_text("Red kite · line 5")
    expect(page.locator(".reader .text")).to_contain_text("The black kite migrates.")
    assert in_sight(page, ".reader mark", ".reader .text")


def test_the_passages_are_there_before_the_first_word(visit: Open, endpoint: ScriptedEndpoint) -> None:
    page = visit()
    expect(page.locator(".questions button")).to_have_count(3)
    endpoint.latency = 0.6
    try:
        ask(page, QUESTION)
        expect(page.locator(".progress .now")).to_have_text(re.compile(r"Reading \d passages"))
        assert page.locator(".evidence .card").count() > 1
        assert page.locator(".answer").count() == 0
    finally:
        endpoint.latency = 0
    expect(page.locator(".turn.done .answer")).to_be_visible()


def test_a_citation_far_down_a_document_with_characters_beyond_16_bits_is_in_sight(visit: Open) -> None:
    for size in (WIDE, NARROW):
        page = visit(size=size, reduced_motion="reduce")
        answered(page, "What does the tawny owl call?")
        page.locator(".mark").first.click()
        expect(page.locator(".reader mark")).to_have_text("The tawny owl calls kewick 👍🏽 near its nest.")
        assert in_sight(page, ".reader mark", ".reader .text")


def test_without_a_model_the_answer_is_made_of_sentences_and_says_so(visit: Open, collection: Path) -> None:
    with serving(Settings(uri=str(collection), embedder="static")) as address:
        page = visit(at=address)
        answered(page)
        expect(page.locator(".answer")).to_contain_text("The red kite has a forked tail.")
        expect(page.locator(".remarks")).to_contain_text("No model is configured")
        assert page.locator(".mark").count() > 0
        answered_text = page.locator(".turn.done .question").inner_text()
        page.close()
    assert answered_text == QUESTION


def test_an_answer_cannot_bring_elements_scripts_or_requests_into_the_page(visit: Open, seen: Seen) -> None:
    page = visit()
    answered(page, "a hostile question about the red kite tail")

    assert page.title() == "citekite"
    assert page.locator(".answer img, .answer script, .answer iframe").count() == 0
    assert page.locator('.answer a[href^="javascript"]').count() == 0
    assert {link.get_attribute("rel") for link in page.locator(".answer a").all()} <= {"noopener noreferrer nofollow"}
    assert not [url for url in seen.requests if "evil" in url]


def test_stop_ends_the_request_of_the_model_and_keeps_the_text(visit: Open, endpoint: ScriptedEndpoint) -> None:
    page = visit()
    endpoint.piece_seconds = 0.02
    endpoint.closed_early.clear()
    try:
        ask(page, "a long answer about the forked tail of kites")
        expect(page.locator(".turn.writing .answer p").nth(2)).to_be_visible()
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".ending.stopped")).to_contain_text("stopped")
        assert endpoint.closed_early.wait(5)
    finally:
        endpoint.piece_seconds = 0.005
    expect(page.locator(".answer")).to_contain_text("Sentence 1 of a long answer")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()


def test_the_end_stays_in_sight_until_the_reader_scrolls_up(visit: Open) -> None:
    page = visit()
    ask(page, "a long answer about the forked tail of kites")
    expect(page.locator(".turn.writing .answer p").nth(14)).to_be_visible()
    box = page.locator(".conversation")
    from_end = "e => e.scrollHeight - e.scrollTop - e.clientHeight"
    assert box.evaluate(from_end) < 80
    box.hover()
    page.mouse.wheel(0, -600)
    expect(page.get_by_role("button", name="Jump to latest")).to_be_visible()
    expect(page.locator(".turn.done")).to_be_visible()
    assert box.evaluate(from_end) > 400
    page.get_by_role("button", name="Jump to latest").click()
    assert box.evaluate(from_end) < 80


def test_each_sentence_is_announced_once(visit: Open) -> None:
    page = visit()
    page.evaluate(
        """() => {
            window.said = [];
            const region = document.querySelector('.talk > [aria-live]');
            new MutationObserver(() => window.said.push(region.textContent))
                .observe(region, {childList: true, characterData: true, subtree: true});
        }"""
    )
    answered(page)
    page.wait_for_timeout(100)

    said = " ".join(page.evaluate("window.said"))
    assert said.count("forked") == 1
    assert said.count("migrates") == 1
    assert re.search(r"source \d", said)


def test_a_reload_restores_the_conversation_and_forget_deletes_it(visit: Open) -> None:
    page = visit()
    answered(page)
    page.reload()
    expect(page.locator(".turn.done .answer")).to_contain_text("forked")
    page.locator(".mark").first.click()
    expect(page.locator(".reader mark")).to_be_visible()
    page.get_by_role("button", name="Forget this conversation").click()
    expect(page.locator(".questions button")).to_have_count(3)
    assert page.evaluate("localStorage.getItem('citekite.chat')") is None
    page.get_by_role("button", name="Bring it back").click()
    expect(page.locator(".turn.done .answer")).to_contain_text("forked")


def test_a_follow_up_is_asked_with_what_was_said(visit: Open) -> None:
    page = visit()
    answered(page)
    with page.expect_request("**/ask/stream") as request:
        ask(page, "And the black one?")
    assert [turn["question"] for turn in (request.value.post_data_json or {})["history"]] == [QUESTION]
    expect(page.locator(".turn.done .tools")).to_have_count(2)


def test_a_link_asks_its_question_again(visit: Open) -> None:
    page = visit("/?q=What+tail+does+the+red+kite+have%3F")
    expect(page.locator(".turn.done .question")).to_have_text(QUESTION)
    assert "q=" not in page.url


def test_an_answer_is_taken_along_as_markdown_link_and_json(visit: Open) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    answered(page)
    page.get_by_role("button", name="Copy as Markdown with sources").click()
    expect(page.locator(".tools [role=status]")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert re.search(r"tail \[\^\d\]\.", copied)
    assert re.search(
        r"^\[\^\d\]: Kites, Red kite, line 5 <.*kites\.md> “The red kite has a forked tail\.”", copied, re.M
    )
    page.get_by_role("button", name="Copy a link that asks this").click()
    expect(page.locator(".tools [role=status]")).to_have_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()").endswith("/?q=What+tail+does+the+red+kite+have%3F")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the answer as JSON").click()
    answer = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert answer["question"] == QUESTION
    assert answer["citations"][0]["quote"] == "The red kite has a forked tail."


def test_the_scope_chip_narrows_what_is_searched(visit: Open) -> None:
    page = visit()
    page.get_by_role("button", name="All documents").click()
    page.get_by_label("Find a document").fill("owl")
    page.get_by_label(re.compile("^Owls")).check()
    page.keyboard.press("Escape")
    expect(page.locator(".chip").first).to_have_text(re.compile("owls.md"))
    with page.expect_request("**/ask/stream") as request:
        ask(page, "What is hunted at night?")
    assert [Path(source).name for source in request.value.post_data_json["filter"]["sources"]] == ["owls.md"]
    expect(page.locator(".turn.done")).to_be_visible()
    assert set(page.locator(".card .title").all_inner_texts()) == {"Owls"}


def test_a_server_with_keys_asks_for_one_and_then_answers(
    visit: Open, seen: Seen, collection: Path, tmp_path: Path
) -> None:
    _, key = KeyStore(tmp_path).create("owner", "admin")
    with serving(Settings(uri=str(collection), embedder="static", data_dir=str(tmp_path))) as address:
        page = visit(at=address)
        page.get_by_text("Where do I get a key?").click()
        expect(page.get_by_role("dialog")).to_contain_text("citekite keys create")
        page.get_by_label("Key", exact=True).fill("ck_wrong")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("dialog [role=alert]")).to_be_visible()
        page.get_by_label("Key", exact=True).fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_have_count(0)
        answered(page)
        stored = page.evaluate("[localStorage.getItem('citekite.key'), sessionStorage.getItem('citekite.key')]")
        page.close()
    assert stored == [None, key]
    assert all("401" in complaint for complaint in seen.complaints)
    seen.complaints.clear()


# The keyboard


def test_the_page_can_be_used_with_the_keyboard_alone(visit: Open) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator(".questions button")).to_have_count(3)
    page.keyboard.press("/")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator(".turn.done .tools")).to_be_visible()
    page.keyboard.press("Escape")  # out of the text field
    number = page.locator(".reader .pane-head .number")
    cited = [mark.inner_text() for mark in page.locator(".mark").all()]
    page.keyboard.press("j")
    expect(number).to_have_text(cited[0])
    page.keyboard.press("j")
    expect(number).to_have_text(cited[1])
    page.keyboard.press("k")
    expect(number).to_have_text(cited[0])
    page.keyboard.press("]")
    expect(number).to_have_text(cited[1])
    page.keyboard.press("[")
    expect(number).to_have_text(cited[0])
    page.keyboard.press("Escape")
    expect(page.locator(".reader")).to_have_count(0)
    expect(page.locator(".mark").first).to_be_focused()
    page.keyboard.press("2")
    expect(number).to_have_text("2")
    page.keyboard.press("c")
    expect(page.locator(".toast")).to_have_text("Copied with sources")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Next citation")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_letters_do_nothing_while_one_writes_or_when_they_are_turned_off(visit: Open) -> None:
    page = visit("/?demo=answered")
    expect(page.locator(".turn.done .tools")).to_be_visible()
    page.get_by_label("Question", exact=True).fill("")
    page.keyboard.type("j1?")
    assert page.locator(".reader, dialog").count() == 0
    page.locator("h2.question").click()
    page.keyboard.press("?")
    page.get_by_label("Use keys without Ctrl or Alt").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("j")
    assert page.locator(".reader").count() == 0


def test_tab_reaches_every_part_and_leaves_it_again_with_focus_in_sight(visit: Open) -> None:
    page = visit("/?demo=answered")
    expect(page.locator(".turn.done .tools")).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        place, outlined = page.evaluate(
            """() => {
                const one = document.activeElement;
                const parts = ['top', 'conversation', 'composer', 'evidence', 'skip'];
                const part = parts.find((name) => one.closest(`.${name}`)) ?? 'none';
                // The composer shows the focus of its text field around itself.
                const field = one.tagName === 'TEXTAREA';
                const style = field ? getComputedStyle(one.form, '::before') : getComputedStyle(one);
                return [part, style.outlineStyle !== 'none'];
            }"""
        )
        assert outlined or place == "none", place
        reached.add(place)
    assert {"top", "conversation", "composer", "evidence", "skip"} <= reached


@pytest.mark.parametrize(
    ("name", "selector", "count"),
    [
        ("uploads", ".upload button, .tray header button, .doc a, .doc button", 32),
        ("map-question", "canvas, .map-zoom button, .hit, .legend button, .map-list summary", 19),
    ],
)
def test_tab_reaches_each_row_and_all_of_the_map_with_focus_in_sight(
    visit: Open, name: str, selector: str, count: int
) -> None:
    page = visit(f"/?demo={name}")
    expect(page.locator(selector)).to_have_count(count)
    walk = """selector => {
        const one = document.activeElement;
        const focused = one.matches('.doc-title') ? getComputedStyle(one, '::after') : getComputedStyle(one);
        one.dataset.reached = focused.outlineStyle !== 'none' ? 'in sight' : 'out of sight';
        return document.querySelectorAll(`:is(${selector}):not([data-reached])`).length;
    }"""
    for _ in range(90):
        page.keyboard.press("Tab")
        if not page.evaluate(walk, selector):
            break
    assert page.locator(selector).and_(page.locator("[data-reached='in sight']")).count() == count


def test_hover_and_focus_preview_the_words_of_a_citation(visit: Open) -> None:
    page = visit("/?demo=answered")
    mark = page.locator(".mark").first
    mark.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("They go to different places.")
    page.mouse.move(5, 400)
    expect(page.get_by_role("tooltip")).to_have_count(0)
    mark.focus()
    expect(page.get_by_role("tooltip")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("tooltip")).to_have_count(0)


def test_the_composer_grows_with_its_text_to_six_lines(visit: Open) -> None:
    page = visit("/?demo=answered")
    field = page.get_by_label("Question", exact=True)
    heights = []
    for lines in (1, 3, 6, 12):
        field.fill("\n".join("line" for _ in range(lines)))
        box = field.bounding_box()
        assert box is not None
        heights.append(box["height"])
    assert heights[0] < heights[1] < heights[2] == heights[3]
    page.keyboard.press("Shift+Enter")
    assert page.locator(".turn").count() == 1
    field.fill("")
    assert field.evaluate("e => e.getBoundingClientRect().height") == heights[0]


def test_escape_stops_an_answer(visit: Open) -> None:
    page = visit("/?demo=writing")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".ending.stopped")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_an_answer_leads_to_its_place_on_the_map(visit: Open) -> None:
    page = visit("/?demo=answered")
    page.get_by_role("link", name="Show on the map").click()
    expect(page.locator(".map-hits .hit")).to_have_count(6)
    expect(page.get_by_role("searchbox", name="Question to place")).to_have_value("Where does Milvus keep its data?")


def test_a_preview_and_the_passages_show_words_and_no_markup(visit: Open) -> None:
    page = visit("/?demo=document")
    expect(page.locator(".reader .heading").first).to_be_visible()
    assert not re.search(r"^#|\*\*|\|\s*---", page.locator(".reader .text").inner_text(), re.MULTILINE)


# Each state

SAYS = {
    "searching": (".progress .now", "Searching"),
    "reading": (".progress .now", "Reading 6 passages"),
    "writing": (".progress .now", "Writing"),
    "answered": (".progress", "6 passages read, 3 cited"),
    "pinned": (".reader mark", "They go to different places."),
    "deep": (".steps summary", "Searched in 2 rounds"),
    "steps": (".steps", "Round 2"),
    "unverified": (".reader .doubt", "does not stand in this passage"),
    "scores": (".scores", "lexical"),
    "no-evidence": (".calm", "Nothing in these documents answers this"),
    "no-evidence-scoped": (".calm", "Ask all documents"),
    "stopped": (".ending", "stopped"),
    "lost": (".ending", "connection lost"),
    "unreachable": (".ending", "citekite serve"),
    "error": (".ending", "broken off"),
    "limited": (".ending", "Retry in 1"),
    "busy": (".ending", "Retry in"),
    "denied": (".ending", "is not for the collection"),
    "key": ("dialog", "API key"),
    "store-down": (".where", "Store unavailable"),
    "empty": (".questions", "Milvus"),
    "extracted": (".remarks", "No model is configured"),
    "empty-library": (".empty", "Add documents, then ask them"),
    "empty-read": (".empty", "your key may only read"),
    "documents": (".docs", "Milvus Lite"),
    "documents-read": (".docs", "Milvus Lite"),
    "document": (".reader .text", "Milvus"),
    "uploads": (".tray h2", "Adding 5 of 8"),
    "map": (".legend", "Milvus Lite"),
    "map-question": (".map-hits", "Found for this question"),
}


@pytest.fixture(scope="module")
def watched() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def states(browser: Browser, watched: Seen) -> Iterator[Page]:
    """One page for all demonstrations, with axe in each document."""
    context = browser.new_context()
    context.add_init_script(axe())
    yield watched.watch(context.new_page())
    context.close()


@pytest.mark.parametrize("name", DEMOS)
def test_each_state_says_what_it_is_and_is_accessible_wide_and_narrow_light_and_dark(
    states: Page, watched: Seen, address: str, name: str
) -> None:
    page, (selector, words) = states, SAYS[name]
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.goto(f"{address}/?demo={name}")
    expect(page.locator(selector).first).to_contain_text(words)
    assert findings(page) == []
    page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    assert watched.faults() == []


def test_no_evidence_is_calm_and_no_error(visit: Open) -> None:
    page = visit("/?demo=no-evidence")
    expect(page.locator(".nearest li")).to_have_count(3)
    assert page.locator("[role=alert], .failed").count() == 0
    page.locator(".nearest button").first.click()
    expect(page.locator(".reader .in-passage").first).to_be_visible()


def test_a_quote_that_is_not_there_is_dashed(visit: Open) -> None:
    page = visit("/?demo=unverified")
    expect(page.locator(".mark.doubtful").first).to_have_css("border-top-style", "dashed")
    expect(page.locator(".remarks .doubt")).to_contain_text("the log is written to disk after each insert")


def test_no_percentages_are_shown_and_raw_scores_only_when_asked_for(visit: Open) -> None:
    page = visit("/?demo=answered")
    expect(page.locator(".evidence .card").first).to_be_visible()
    assert "%" not in page.locator("body").inner_text()
    assert page.locator(".scores").count() == 0
    page.get_by_role("button", name="Show how each passage was found").click()
    expect(page.locator(".scores").first).to_contain_text("dense")


def test_too_many_requests_count_down_and_then_can_be_retried(visit: Open, address: str) -> None:
    page = visit("about:blank", at="", timezone_id="UTC")  # a clock of its own, in a context of its own
    page.clock.install()
    page.goto(f"{address}/?demo=busy")
    retry = page.get_by_role("button", name=re.compile("Retry"))
    expect(retry).to_be_disabled()
    page.clock.run_for(6000)
    expect(retry).to_have_text("Retry")
    expect(retry).to_be_enabled()


def test_a_narrow_page_has_the_evidence_in_a_sheet_that_opens_and_closes(visit: Open) -> None:
    page = visit("/?demo=answered", size=NARROW)
    expect(page.locator(".turn.done .tools")).to_be_visible()
    sheet = page.locator(".evidence")
    expect(sheet).to_be_hidden()
    page.get_by_role("button", name=re.compile("6 passages read")).click()
    expect(sheet).to_be_visible()
    page.get_by_role("button", name="Close the passages").click()
    expect(sheet).to_be_hidden()
    page.locator(".mark").first.click()
    expect(page.locator(".reader h2")).to_be_focused()
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()


def test_dark_and_light_come_from_the_system_until_they_are_chosen(visit: Open) -> None:
    page = visit("/?demo=answered", color_scheme="dark")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Light or dark").click()
    light = page.evaluate(background)
    assert dark != light
    page.reload()
    expect(page.locator(".turn.done .tools")).to_be_visible()
    assert page.evaluate(background) == light


def test_a_printed_page_shows_the_sources_and_no_buttons(visit: Open) -> None:
    page = visit("/?demo=answered")
    expect(page.locator(".turn.done .tools")).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator(".composer")).to_be_hidden()
    expect(page.locator(".tools")).to_be_hidden()
    expect(page.locator(".printed li")).to_have_count(3)
    expect(page.locator(".printed li").first).to_be_visible()
    expect(page.locator(".printed")).to_contain_text("They go to different places.")


def test_nothing_moves_for_those_who_want_it_so(visit: Open) -> None:
    page = visit("/?demo=searching", reduced_motion="reduce")
    expect(page.locator(".skeletons i").first).to_have_css("animation-name", "none")


def test_the_page_works_behind_a_path_of_a_proxy(address: str, browser: Browser) -> None:
    def proxy(route: Route) -> None:
        url = route.request.url.replace("http://proxy.test/docs", address)
        route.fulfill(response=route.fetch(url=url, headers={**route.request.headers, "host": "proxy.test"}))

    context = browser.new_context()
    page = context.new_page()
    page.route("http://proxy.test/**", proxy)
    page.goto("http://proxy.test/docs/")
    answered(page)
    page.unroute_all(behavior="wait")
    context.close()
