// @ts-check
// The evidence beside an answer: its passages as numbered cards, and the one that is open inside its document.
import { icon } from "./icons.js";
import { path, pieces, place, shortName, shortSource, toUtf16 } from "./spans.js";
import { citationOf, isRunning, passages } from "./state.js";
import { Original, Text, laidOut, prose } from "./text.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./view.js";

export function Evidence({ turn, state, actions, api }) {
  const pinned = state.pinned?.turn === turn.id && turn.hits[state.pinned.number - 1] ? state.pinned.number : null;
  return html`<aside class=${`evidence${state.sheet ? " up" : ""}`} aria-label="Evidence">
    ${pinned
      ? html`<${Reader} key=${`${turn.id}-${pinned}`} ...${{ turn, number: pinned, actions, api }} />`
      : html`<${Passages} ...${{ turn, state, actions, api }} />`}
  </aside>`;
}

function Passages({ turn, state, actions, api }) {
  const { first, folded } = passages(turn);
  const [open, setOpen] = useState(/** @type {Record<string, boolean>} */ ({}));
  const card = (one) => html`<${Card}
    key=${one.number} ...${{ ...one, turn, actions, api, debug: state.debug, open: Boolean(open[`${turn.id}-${one.number}`]) }}
    toggle=${() => setOpen({ ...open, [`${turn.id}-${one.number}`]: !open[`${turn.id}-${one.number}`] })}
  />`;
  return html`<div class="pane">
    <header class="pane-head">
      <h2>${turn.hits.length ? "Passages" : isRunning(turn) ? "Searching" : "No passages"}</h2>
      <span class="muted">${turn.standalone && turn.standalone !== turn.question ? html`for <q>${turn.standalone}</q>` : ""}</span>
      <button type="button" class="tool" aria-pressed=${state.debug} title="Show how each passage was found" aria-label="Show how each passage was found" onClick=${actions.toggleDebug}>${icon("scores")}</button>
      <button type="button" class="tool close" aria-label="Close the passages" onClick=${actions.close}>${icon("close")}</button>
    </header>
    <div class="scroll" tabindex="0" role="region" aria-label="Passages">
      ${state.debug && turn.queries.length > 0 && html`<p class="muted queries">Also searched: ${turn.queries.map((query) => html`<q>${query}</q> `)}</p>`}
      ${!turn.hits.length && isRunning(turn) && html`<div class="skeletons" aria-hidden="true"><i></i><i></i><i></i></div>`}
      <ol class="cards">${first.map(card)}</ol>
      ${folded.length > 0 && html`<details class="folded"><summary>Retrieved, not cited (${folded.length})</summary>
        <ol class="cards">${folded.map(card)}</ol></details>`}
    </div>
  </div>`;
}

function Card({ hit, number, cited, turn, open, toggle, debug, actions, api }) {
  const citation = citationOf(turn, number);
  const marks = quoteMarks(hit, citation);
  const where = [path(hit), place(citation ? { ...hit, line: citation.line } : hit)].filter(Boolean).join(" · ");
  return html`<li class=${`card${cited ? " cited" : ""}`}>
    <button type="button" class="card-head" aria-expanded=${open} onClick=${toggle}>
      <span class="number">${number}</span>
      <span class="names"><span class="title">${hit.title || shortName(hit.source)}</span><span class="muted">${where}</span></span>
    </button>
    <p class=${`passage${open ? "" : " clamp"}`}>${marked(hit.text, marks, open)}</p>
    ${citation && !citation.verified && html`<p class="note doubt">A quote of the answer does not stand in this passage.</p>`}
    ${debug && html`<${Scores} hit=${hit} />`}
    <div class="card-tools">
      <button type="button" class="quiet" onClick=${() => actions.pin(turn.id, number)}>Open in document</button>
      <${Original} ...${originalOf({ hit, citation, turn, api, actions })} />
    </div>
  </li>`;
}

function Scores({ hit }) {
  const legs = Object.entries(hit.legs ?? {});
  return html`<table class="scores"><thead><tr><th>found by</th><th>rank</th><th>score</th></tr></thead><tbody>
    ${legs.map(([name, leg]) => html`<tr><td>${name}</td><td>${leg.rank}</td><td>${leg.score.toFixed(4)}</td></tr>`)}
    <tr><td>in the end</td><td>${hit.rank}</td><td>${hit.score.toFixed(4)}</td></tr>
  </tbody></table>`;
}

const originalOf = ({ hit, citation, turn, api, actions }) => ({
  source: hit.source, id: hit.document_id, page: hit.page, quote: citation?.quote, collection: turn.collection, api, actions,
});

/** Where the cited words lie in the passage's own text, in UTF-16. */
function quoteMarks(hit, citation) {
  if (!citation || citation.end <= citation.start) return [];
  const start = toUtf16(hit.text, citation.start - hit.start);
  return [{ start, end: toUtf16(hit.text, citation.end - hit.start), name: "quote" }];
}

/** A text with its marks; closed, it begins below its heading and a little before the first mark: three lines show it. */
function marked(text, marks, whole) {
  const heading = /^\s*(#{1,6} [^\n]*\n\s*)*/.exec(text)?.[0].length ?? 0;
  const first = marks[0]?.start ?? heading;
  if (whole) return pieces(text.trimEnd(), marks).map(prose);
  const from = first - heading < 90 ? Math.min(first, heading) : text.lastIndexOf(" ", first - 50) + 1;
  return [from > heading ? "… " : "", ...pieces(text, marks, from).map(prose)];
}

const REACH = [2500, 5000]; // characters shown before and after the passage at first

/** The document with the passage marked in it and the cited words in sight. */
function Reader({ turn, number, actions, api }) {
  const hit = turn.hits[number - 1];
  const citation = citationOf(turn, number);
  const [found, problem] = useDocument(api, hit.document_id, turn.collection);
  const [reach, setReach] = useState(REACH);
  const scroller = useRef(null);
  const title = useRef(null);
  const view = useMemo(() => laidOut(found?.text ?? hit.text, readerMarks(found, hit, citation), reach), [found, hit, citation, reach]);
  useLayoutEffect(() => {
    const target = scroller.current?.querySelector("mark, .in-passage");
    if (target) scroller.current.scrollTop += target.getBoundingClientRect().top - scroller.current.getBoundingClientRect().top - 110;
  }, [found]);
  useEffect(() => {
    if (matchMedia("(max-width: 899px)").matches) title.current?.focus();
  }, []);
  const where = [path(hit), place(citation ? { ...hit, line: citation.line } : hit)].filter(Boolean).join(" · ");
  return html`<div class="pane reader">
    <header class="pane-head">
      <button type="button" class="tool" aria-label="Back to the passages" title="Back to the passages" onClick=${actions.unpin}>${icon("back")}</button>
      <span class="number">${number}</span>
      <h2 ref=${title} tabindex="-1">${hit.title || shortName(hit.source)}</h2>
      <button type="button" class="tool close" aria-label="Close the document" onClick=${actions.close}>${icon("close")}</button>
    </header>
    <div class="reader-where"><span>${where}</span> <${Original} ...${originalOf({ hit, citation, turn, api, actions })} /></div>
    <div class="scroll text" tabindex="0" role="region" aria-label="Document" ref=${scroller}>
      ${problem && html`<p class="note">${problem.detail} Here is the passage alone.</p>`}
      <${Text} ...${{ view, reach, setReach }} />
    </div>
    <footer class="reader-foot">
      ${citation && !citation.verified && html`<p class="note doubt">A quote of the answer does not stand in this passage.</p>`}
      ${(citation?.also ?? hit.also).map((other) => html`<p class="muted">Also in ${[other.title || shortName(other.source), path(other), place(other)].filter(Boolean).join(" · ")}</p>`)}
      <p class="muted source" title=${hit.source}>${shortSource(hit.source)}</p>
    </footer>
  </div>`;
}

/** The passage and the cited words, in the document, or in the passage alone where the document is not there. */
function readerMarks(found, hit, citation) {
  const text = found?.text ?? hit.text;
  const base = found ? 0 : hit.start;
  const span = (start, end, name) => ({ start: toUtf16(text, start - base), end: toUtf16(text, end - base), name });
  const passage = span(hit.start, hit.end, "passage");
  return citation && citation.end > citation.start ? [passage, span(citation.start, citation.end, "quote")] : [passage];
}

function useDocument(api, id, collection) {
  const [state, setState] = useState(/** @type {any[]} */ ([null, null]));
  useEffect(() => {
    const controller = new AbortController();
    api.get(`documents/${id}`, { collection }, controller.signal).then(
      (found) => setState([found, null]),
      (error) => error.name !== "AbortError" && setState([null, error]),
    );
    return () => controller.abort();
  }, [id, collection]);
  return state;
}
