// What the page computes without a browser: events, Markdown, spans, keys, memory, and what is taken along.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Problem, events, problemOf } from "../../src/citekite/serve/ui/api.js";
import { KEYS, keyAction, neighbour } from "../../src/citekite/serve/ui/keys.js";
import { framed, markdown, settled } from "../../src/citekite/serve/ui/markdown.js";
import { recall, remember } from "../../src/citekite/serve/ui/memory.js";
import { createSession, createStore } from "../../src/citekite/serve/ui/session.js";
import { askLink, asMarkdown } from "../../src/citekite/serve/ui/share.js";
import { blocks, near, original, path, pieces, place, readable, rows, shortName, shortSource, toUtf16 } from "../../src/citekite/serve/ui/spans.js";
import { initial, reduce } from "../../src/citekite/serve/ui/state.js";
import { html } from "../../src/citekite/serve/ui/view.js";

const recording = JSON.parse(readFileSync(new URL("../../src/citekite/serve/ui/demo-recording.json", import.meta.url), "utf-8"));
const answered = () => {
  const begun = reduce(initial, { type: "ask", id: "1", question: "Where?", collection: null, filter: { sources: [] }, deep: false, at: "" });
  return reduce(begun, { type: "events", id: "1", events: recording.streams.answered }).turns[0];
};

/** Elements as text with their tags and attributes, as far as a test looks at them. */
function shown(node) {
  if (Array.isArray(node)) return node.map(shown).join("");
  if (node === null || node === undefined || typeof node === "boolean") return "";
  if (typeof node !== "object") return String(node);
  const { children, ...props } = node.props;
  if (props.class === "held") return shown(children); // it only keeps words on a line
  const attributes = Object.entries(props).map(([name, value]) => ` ${name}=${value}`).join("");
  return `<${node.type}${attributes}>${shown(children)}</${node.type}>`;
}
const cite = (number) => html`<button>${number}</button>`;
const rendered = (text) => shown(markdown(text, cite));

test("a marker stays on the line of the word before it and of the stop after it", () => {
  const held = (node) => (Array.isArray(node) ? node.flatMap(held)
    : node?.props?.class === "held" ? [shown(node)] : node?.props ? held(node.props.children) : []);
  assert.deepEqual(held(markdown("It is so [1]. And 向量数据库存储高维向量并支持近似最近邻搜索[2][3]。", cite)), [
    "so<button>1</button>.", "索<button>2</button>", "<button>3</button>。",
  ]);
});

// Events

const streamOf = (...parts) => new Blob(parts).stream();
async function all(stream) {
  const found = [];
  for await (const event of events(stream)) found.push(event);
  return found;
}

test("events are the same however their bytes are cut", async () => {
  const bytes = new TextEncoder().encode('event: Delta\ndata: {"text": "é𝄞"}\n\n: ping\n\nevent: Done\r\ndata: {"answer":\r\ndata: 1}\r\n\r\n');
  const wanted = [{ name: "Delta", values: { text: "é𝄞" } }, { name: "Done", values: { answer: 1 } }];
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const stream = new ReadableStream({
      start(controller) {
        if (cut) controller.enqueue(bytes.slice(0, cut));
        if (cut < bytes.length) controller.enqueue(bytes.slice(cut));
        controller.close();
      },
    });
    assert.deepEqual(await all(stream), wanted, `cut at ${cut}`);
  }
});

test("a reader that leaves cancels the stream", async () => {
  let cancelled = false;
  const stream = new ReadableStream({
    pull: (controller) => controller.enqueue(new TextEncoder().encode('event: Delta\ndata: {"text": "a"}\n\n')),
    cancel: () => void (cancelled = true),
  });
  for await (const event of events(stream)) {
    assert.equal(event.name, "Delta");
    break;
  }
  assert.equal(cancelled, true);
});

test("half an event at the end is none", async () => {
  assert.deepEqual(await all(streamOf('event: Delta\ndata: {"text": "a"}')), []);
});

test("a problem has the server's words, the status and how long to wait", async () => {
  const body = JSON.stringify({ title: "RateLimited", status: 429, detail: "too many" });
  const problem = await problemOf(new Response(body, { status: 429, headers: { "Retry-After": "7" } }));
  assert.ok(problem instanceof Problem);
  assert.deepEqual([problem.title, problem.status, problem.detail, problem.retryAfter], ["RateLimited", 429, "too many", 7]);
  const foreign = await problemOf(new Response("<h1>Bad gateway</h1>", { status: 502, statusText: "Bad Gateway" }));
  assert.deepEqual([foreign.title, foreign.status], ["Bad Gateway", 502]);
});

// Asking

function asking(stream) {
  const store = createStore(reduce, initial);
  return { store, session: createSession({ api: { stream }, store }) };
}
const settledTurn = (store) =>
  new Promise((resolve) => {
    const look = () => !["searching", "reading", "writing"].includes(store.state.turns[0].phase) && resolve(store.state.turns[0]);
    store.subscribe(look);
    look();
  });

test("a stream that ends without its last event is a lost connection with its text kept", async () => {
  const { store, session } = asking(async function* () { yield* recording.streams.answered.slice(0, 5); });
  session.ask("Where?");
  const turn = await settledTurn(store);
  assert.equal(turn.phase, "lost");
  assert.notEqual(turn.text, "");
});

test("stop ends the request", async () => {
  const { store, session } = asking(async function* (path, body, signal) {
    yield* recording.streams.answered.slice(0, 5);
    await new Promise((_, leave) => signal.addEventListener("abort", () => leave(signal.reason)));
  });
  session.ask("Where?");
  session.ask("A second one, while the first runs?");
  setTimeout(session.stop, 60);
  const turn = await settledTurn(store);
  assert.equal(turn.phase, "stopped");
  assert.equal(store.state.turns.length, 1);
});

test("a server that cannot be reached is an error with a retry, which asks again", async () => {
  let times = 0;
  const { store, session } = asking(async function* () {
    if ((times += 1) === 1) throw new Problem({ title: "ConnectionLost", detail: "The server cannot be reached." });
    yield* recording.streams.answered;
  });
  session.ask("Where?");
  const turn = await settledTurn(store);
  assert.deepEqual([turn.phase, turn.problem.status], ["failed", 0]);
  session.again(turn.id);
  assert.equal((await settledTurn(store)).phase, "done");
});

// Markdown

test("raw HTML of an answer is text", () => {
  assert.equal(rendered("a <img src=x onerror=alert(1)> b"), "<p>a <img src=x onerror=alert(1)> b</p>");
  assert.equal(rendered("<script>alert(1)</script>"), "<script>alert(1)</script>");
  const nodes = markdown("<b>a</b>\n\n<div>b</div>", cite);
  const types = JSON.stringify(nodes, (key, value) => (key.startsWith("_") ? undefined : value));
  assert.doesNotMatch(types, /"type":"(b|div|script)"/);
});

test("only http, https and mailto are links, and they open elsewhere without a referrer", () => {
  assert.equal(
    rendered("[a](https://example.org/)"),
    "<p><a href=https://example.org/ target=_blank rel=noopener noreferrer nofollow>a</a></p>",
  );
  for (const address of ["javascript:alert(1)", "JAVASCRIPT:x", "data:text/html,x", "vbscript:x", "//example.org", "/api/v1/me", "file:///etc/passwd"]) {
    assert.equal(rendered(`[a](${address})`), "<p>a</p>", address);
  }
});

test("an image is a link to it, so nothing is fetched", () => {
  assert.match(rendered("![a cat](https://example.org/cat.png)"), /^<p><a href=.*>\[image: a cat\]<\/a><\/p>$/);
});

test("a marker is a button wherever it stands, except in code", () => {
  assert.equal(rendered("One [1]. Two [2][3]."), "<p>One<button>1</button>. Two<button>2</button><button>3</button>.</p>");
  assert.equal(rendered("**bold [1]**"), "<p><strong>bold<button>1</button></strong></p>");
  assert.equal(rendered("`a[1]`"), "<p><code>a[1]</code></p>");
  assert.equal(rendered("| a |\n|---|\n| b [1] |").includes("<button>1</button>"), true);
});

test("no definition or address makes a marker a link", () => {
  assert.doesNotMatch(rendered("One [1].\n\n[1]: https://example.org/"), /href=https:\/\/example\.org\/ .*<button>|<a[^>]*>1</);
  assert.match(rendered("One [1](https://example.org/)."), /<button>1<\/button>\(/);
});

test("a number that is no passage stays as it is written", () => {
  assert.equal(shown(markdown("In [7].", () => null)), "<p>In [7].</p>");
});

test("entities are decoded once and never become tags", () => {
  assert.equal(rendered("a &lt;b&gt; &amp;lt; &#65; &copy;"), "<p>a <b> &lt; A &copy;</p>");
});

test("half-written Markdown can be drawn at every length, and closed emphasis does not flash", () => {
  const text = "# A\n\nSome **bold** and `code` [1].\n\n- one\n- two [2]\n\n```python\nx = [1]\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[a link](https://example.org).";
  for (let end = 0; end <= text.length; end += 1) assert.doesNotThrow(() => markdown(text.slice(0, end), cite, true));
  assert.equal(shown(markdown("Some **bo", cite, true)), "<p>Some <strong>bo</strong></p>");
  assert.equal(shown(markdown("Some `co", cite, true)), "<p>Some <code>co</code></p>");
  assert.equal(settled("Some *"), "Some ");
  assert.equal(settled("See [a li"), "See ");
});

test("Markdown that nests without end is drawn, in bounded depth and time", () => {
  const hostile = {
    quotes: `${"> ".repeat(3000)}a`,
    fewer: `${"> ".repeat(200)}a`,
    emphasis: "*a **b ".repeat(2000),
    brackets: "[".repeat(5000),
    links: "[a](".repeat(2000),
    lists: [...Array(60).keys()].map((depth) => `${" ".repeat(depth * 2)}- a`).join("\n"),
    markers: "[1]".repeat(5000),
    long: "a ".repeat(100_000),
  };
  const depth = (node) => (Array.isArray(node) ? Math.max(0, ...node.map(depth)) : node?.props ? 1 + depth(node.props.children) : 0);
  for (const [name, text] of Object.entries(hostile)) {
    const began = performance.now();
    assert.ok(depth(markdown(text, cite, true)) < 80, name);
    assert.ok(performance.now() - began < 5000, name);
  }
});

// Spans

test("code points become UTF-16 units", () => {
  const text = "a𝄞b👍🏽c";
  for (let count = 0; count <= [...text].length; count += 1) {
    assert.equal(text.slice(0, toUtf16(text, count)), [...text].slice(0, count).join(""));
  }
  assert.equal(toUtf16("abc", 9), 3);
});

test("the cited span of every recorded citation is its quote, in the document and in the passage", () => {
  const documents = Object.fromEntries(recording.documents.map((one) => [one.id, one.text]));
  for (const stream of Object.values(recording.streams)) {
    const { answer } = stream[stream.length - 1].values;
    for (const { document_id, start, end, quote, number } of answer.citations) {
      const text = documents[document_id];
      assert.equal(text.slice(toUtf16(text, start), toUtf16(text, end)), quote);
      const hit = answer.hits[number - 1];
      assert.equal(hit.text.slice(toUtf16(hit.text, start - hit.start), toUtf16(hit.text, end - hit.start)), quote);
    }
  }
});

test("pieces joined are the text, each with the marks that it lies in", () => {
  const marks = [{ start: 2, end: 8, name: "passage" }, { start: 4, end: 6, name: "quote" }, { start: 40, end: 50, name: "far" }];
  const found = pieces("0123456789", marks);
  assert.equal(found.map((piece) => piece.text).join(""), "0123456789");
  assert.deepEqual(found.find((piece) => piece.text === "45").names, ["passage", "quote"]);
  assert.deepEqual(pieces("0123456789", marks, 5, 7).map((piece) => piece.text), ["5", "6"]);
});

test("blocks cover all that is not blank but the fences of code, and a fence is one block", () => {
  for (const { text } of recording.documents) {
    const found = blocks(text);
    let rest = "";
    let end = 0;
    for (const block of found) {
      assert.ok(block.start >= end);
      rest += text.slice(end, block.start);
      end = block.end;
    }
    assert.equal((rest + text.slice(end)).replace(/^(```|~~~).*$/gm, "").trim(), "");
  }
  assert.deepEqual(blocks("# A\n\ntext\nmore\n\n```\na\n\nb\n```\n").map((block) => block.kind), ["heading", "prose", "code"]);
  assert.deepEqual(blocks("# A\ntext\n| a |\n|---|\n| b |").map((block) => block.kind), ["heading", "prose", "table"]);
  const code = "```sh\nls\n```";
  assert.deepEqual(blocks(code).map(({ start, end }) => code.slice(start, end)), ["ls"]);
  assert.equal(near(blocks("a\n\nb\n\nc"), 3, 4, 0, 0).length, 1);
});

test("the rows of a table are the spans of its cells, without the line under its head", () => {
  const text = "before\n\n| a | b \\| c |\n|---|:-:|\n|  | d |\n| e";
  const [, table] = blocks(text);
  assert.equal(table.kind, "table");
  const cells = rows(text, table).map((row) => row.map(({ start, end }) => text.slice(start, end)));
  assert.deepEqual(cells, [["a", "b \\| c"], ["", "d"], ["e"]]);
});

test("a piece of a document is read without its marks", () => {
  assert.equal(readable("## Use **it** with `x` and [that](y.md)<br/>, *so*."), "Use it with x and that, so.");
  assert.equal(readable("| a | b |\n|---|---|\n| c | d |"), "a · b\nc · d");
  assert.equal(readable("2 * 3 * 4, a_b_c, 1 < 2 > 0"), "2 * 3 * 4, a_b_c, 1 < 2 > 0");
});

test("a source is shown short", () => {
  assert.equal(shortSource("/srv/a/b/c/d.md"), "…/b/c/d.md");
  assert.equal(shortSource("/srv/d.md"), "/srv/d.md");
  assert.equal(shortSource("upload://shared/my%20notes.md"), "my notes.md");
  assert.equal(shortSource("https://www.a.example/b/"), "a.example/b");
});

test("rows without a head are a table, one row a line, and a whole table stays as it is", () => {
  const table = "| a | b |\n|---|---|\n| c | d |";
  assert.equal(framed(table), table);
  assert.equal(framed("`FLAT` | compare all | small data [1]"), "`FLAT` · compare all · small data [1]");
  assert.equal(framed("See:\n| a | b |\n| c | d |"), "See:\n\n| | |\n|---|---|\n| a | b |\n| c | d |\n");
  assert.equal(framed("```\n| a | b |\n```"), "```\n| a | b |\n```");
});

test("an original can be opened where it has an address", () => {
  assert.equal(original({ source: "/srv/a.md" }), null);
  assert.equal(original({ source: "javascript:alert(1)" }), null);
  assert.equal(original({ source: "upload://shared/a.md" }), "upload");
  assert.equal(original({ source: "https://a.example/b.pdf", page: 3 }), "https://a.example/b.pdf#page=3");
  assert.equal(original({ source: "https://a.example/b", quote: "one two-three" }), "https://a.example/b#:~:text=one%20two%2Dthree");
  assert.equal(original({ source: "https://a.example/b.zip!/c.md", quote: "one" }), "https://a.example/b.zip");
});

test("places are named for a reader", () => {
  assert.equal(place({ page: 3, line: 9 }), "page 3");
  assert.equal(place({ page: null, line: 9 }), "line 9");
  assert.equal(path({ title: "A", headings: ["A", "B", "C"] }), "B › C");
  assert.equal(path({ title: "A", headings: ["Other", "B"] }), "Other › B");
  assert.equal(shortName("https://a.example/b/c%20d.md"), "c d.md");
  assert.equal(shortName("/srv/100%.md"), "100%.md");
});

// Keys

test("each key of the help does something, and typing is left alone", () => {
  for (const [key, action] of KEYS.filter(([, name]) => name && name !== "cite")) {
    assert.equal(keyAction({ key }).name, action);
    if (key !== "Escape") assert.equal(keyAction({ key }, { typing: true }), null);
    if (key !== "Escape") assert.equal(keyAction({ key }, { letters: false }), null);
    assert.equal(keyAction({ key, ctrlKey: true }), null);
  }
  assert.deepEqual(keyAction({ key: "3" }), { name: "cite", number: 3 });
  assert.deepEqual(keyAction({ key: "Escape" }, { typing: true, letters: false }), { name: "escape" });
  assert.equal(keyAction({ key: "x" }), null);
});

test("next and previous stay within the list", () => {
  assert.equal(neighbour([3, 1, 2], undefined, 1), 3);
  assert.equal(neighbour([3, 1, 2], undefined, -1), 2);
  assert.equal(neighbour([3, 1, 2], 3, 1), 1);
  assert.equal(neighbour([3, 1, 2], 2, 1), 2);
  assert.equal(neighbour([], 1, 1), null);
});

// Memory

const storage = (values = {}) => ({
  getItem: (name) => values[name] ?? null,
  setItem: (name, value) => void (values[name] = value),
  removeItem: (name) => void delete values[name],
});

test("a conversation comes back as it was; what ran counts as stopped", () => {
  const kept = storage();
  const turn = answered();
  remember([turn, { ...turn, id: "2", phase: "writing" }], kept);
  assert.deepEqual(recall(kept), [turn, { ...turn, id: "2", phase: "stopped" }]);
  remember([], kept);
  assert.equal(kept.getItem("citekite.chat"), null);
});

test("the memory is capped: the oldest turns go first", () => {
  const kept = storage();
  remember([...Array(40).keys()].map((id) => ({ ...answered(), id: String(id) })), kept);
  assert.deepEqual([recall(kept).length, recall(kept)[0].id], [30, "10"]);
  remember([...Array(10).keys()].map((id) => ({ id: String(id), question: "x".repeat(400_000), phase: "done" })), kept);
  assert.ok(kept.getItem("citekite.chat").length < 1_500_000);
  assert.equal(recall(kept).at(-1).id, "9");
});

test("a memory that is full, broken or forbidden is an empty one", () => {
  assert.deepEqual(recall(storage({ "citekite.chat": "{not json" })), []);
  assert.deepEqual(recall(storage({ "citekite.chat": '[null, {"id": 1}]' })), []);
  const forbidden = { getItem: () => { throw new Error("no"); }, setItem: () => { throw new Error("full"); } };
  assert.deepEqual(recall(forbidden), []);
  assert.doesNotThrow(() => remember([answered()], forbidden));
});

// To take along

test("an answer is copied as Markdown with footnotes", () => {
  const text = asMarkdown(answered());
  assert.match(text, /^\*\*Where\?\*\*\n\n/);
  assert.match(text, /different places \[\^1\]\./);
  assert.match(text, /\[\^3\]: Where Milvus keeps its data, In Milvus Lite, line \d+ <https:\/\/docs\.example\.org\/\S+> “Milvus Lite 3\.x/);
  assert.doesNotMatch(text, /[^^]\[1\]/);
});

test("what looks like a marker in code stays, after characters beyond 16 bits too", () => {
  const hit = { title: "A", headings: [], source: "a.md", line: 1 };
  const text = "𝄞 `a[1]` holds [1].";
  const turn = { question: "Q", text, marks: [{ number: 1, position: [...text.slice(0, text.lastIndexOf("[1]"))].length }], hits: [hit], answer: null };
  assert.match(asMarkdown(turn), /𝄞 `a\[1\]` holds \[\^1\]\./);
});

test("the link of an answer asks its question, from any address of the page", () => {
  assert.equal(askLink("a & b?", "http://localhost:8080/docs/?demo=x#/map"), "http://localhost:8080/docs/?q=a+%26+b%3F");
});
