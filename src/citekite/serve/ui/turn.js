// @ts-check
// One question and its answer, in each state that an answer can be in.
import { icon } from "./icons.js";
import { markdown } from "./markdown.js";
import { askLink, asMarkdown, copy, download } from "./share.js";
import { path, place, shortName, shortSource } from "./spans.js";
import { citationOf, cited, isRunning } from "./state.js";
import { html, useEffect, useMemo, useState } from "./view.js";

export function Turn({ turn, state, actions, last }) {
  const refused = turn.answer?.outcome === "no_evidence";
  const open = state.pinned?.turn === turn.id ? state.pinned.number : null;
  const text = refused ? turn.text.replace(/^The documents may not answer this question\.[^\n]*\n+/, "") : turn.text;
  // Other answers are not read anew while one comes.
  const body = useMemo(() => {
    const marker = (number) => turn.hits[number - 1] ? html`<${Marker} ...${{ number, turn, open: number === open, actions }} />` : null;
    return markdown(text, marker, isRunning(turn));
  }, [text, turn.phase, turn.hits, turn.answer, open]);
  return html`<article class=${`turn ${turn.phase}`} aria-labelledby=${`q-${turn.id}`} data-turn=${turn.id}>
    <h2 class="question" id=${`q-${turn.id}`}>${turn.question}</h2>
    <${Progress} turn=${turn} actions=${actions} />
    <${Steps} turn=${turn} />
    ${refused && html`<${Refusal} ...${{ turn, actions, last, closest: cited(turn).length > 0 && body }} />`}
    ${text && !refused && html`<div class="answer">${body}</div>`}
    <${Remarks} turn=${turn} />
    <${Ending} ...${{ turn, actions }} />
    ${!isRunning(turn) && html`<${Tools} ...${{ turn, actions }} />`}
    <${Printed} turn=${turn} />
  </article>`;
}

/** The sources on paper, where nothing can be opened. */
function Printed({ turn }) {
  return html`<ol class="printed">${cited(turn).map((number) => {
    const one = citationOf(turn, number) ?? turn.hits[number - 1];
    return one && html`<li><span>[${number}]</span>
      <span>${[one.title, path(one), place(one), shortSource(one.source)].filter(Boolean).join(", ")}<br /><q>${(one.quote ?? one.text).trim()}</q></span></li>`;
  })}</ol>`;
}

/** A citation: hover or focus shows the words, a click opens them in their document. */
function Marker({ number, turn, open, actions }) {
  const citation = citationOf(turn, number);
  const hit = turn.hits[number - 1];
  const doubtful = citation && !citation.verified;
  const show = (event) => actions.preview({ number, hit, citation, at: event.currentTarget });
  const hide = () => actions.preview(null);
  return html`<button
    type="button" class=${`mark${open ? " open" : ""}${doubtful ? " doubtful" : ""}`} data-number=${number}
    aria-label=${`Source ${number}: ${hit.title || shortName(hit.source)}${doubtful ? ", quote not verified" : ""}`}
    aria-pressed=${open} onMouseEnter=${show} onFocus=${show} onMouseLeave=${hide} onBlur=${hide}
    onClick=${() => { hide(); actions.pin(turn.id, number); }}
  >${number}</button>`;
}

function Progress({ turn, actions }) {
  const { phase, hits } = turn;
  const count = `${hits.length} ${hits.length === 1 ? "passage" : "passages"}`;
  if (!isRunning(turn)) {
    return hits.length > 0 && html`<p class="progress"><button type="button" class="quiet" onClick=${() => actions.show(turn.id)}>
      ${count} read, ${cited(turn).length} cited</button></p>`;
  }
  const steps = [["searching", "Searching"], ["reading", hits.length ? `Reading ${count}` : "Reading"], ["writing", "Writing"]];
  const now = steps.findIndex(([name]) => name === phase);
  return html`<ol class="progress" aria-label="Progress">
    ${steps.map(([name, label], index) => html`<li
      class=${index < now ? "past" : index === now ? "now" : "next"} aria-current=${index === now ? "step" : null}
    >${label}</li>`)}
  </ol>`;
}

const STEP = { plan: "Planned", search: "Searched", assess: "Missing", stop: "Ended" };

function Steps({ turn }) {
  if (!turn.steps.length) return null;
  const telling = turn.steps.filter((step) => step.kind !== "assess" || step.text);
  const lines = telling.map((step) => html`<li>
    <span class="kind">${STEP[step.kind] ?? step.kind}</span>
    <span>${step.text}${step.text && step.queries.length ? " " : ""}${step.queries.map((query) => html`<q>${query}</q> `)}
      ${step.kind === "search" && html`<span class="muted">${step.new} new</span>`}</span>
  </li>`);
  const rounds = Math.max(...turn.steps.map((step) => step.round));
  return html`<details class="steps" open=${isRunning(turn)}>
    <summary>${isRunning(turn) ? `Round ${rounds}` : `Searched in ${rounds} ${rounds === 1 ? "round" : "rounds"}`}</summary>
    <ol>${lines}</ol>
  </details>`;
}

function Refusal({ turn, actions, last, closest }) {
  const scoped = turn.filter?.sources?.length > 0;
  const nearest = turn.hits.slice(0, 3);
  return html`<section class="calm" aria-label="No evidence">
    <h3>Nothing in these documents answers this</h3>
    ${closest ? html`<p>What comes closest:</p><div class="answer">${closest}</div>` : nearest.length > 0 && html`<p>These passages come closest:</p>
      <ol class="nearest">${nearest.map((hit, index) => html`<li>
        <button type="button" class="plain" onClick=${() => actions.pin(turn.id, index + 1)}>
          <span>${hit.title || shortName(hit.source)}</span> <span class="muted">${hit.headings[hit.headings.length - 1] !== hit.title ? hit.headings[hit.headings.length - 1] : place(hit)}</span>
        </button></li>`)}</ol>`}
    <p class="muted">${scoped ? "Only a part of the documents was searched." : html`Try other words, or <a href="#/documents">add documents</a> that could answer it.`}</p>
    ${scoped && last && html`<button type="button" class="button" onClick=${() => actions.widen(turn.id)}>Ask all documents</button>`}
  </section>`;
}

/** What the server remarks on the answer, and which of its sentences are not supported by what they cite. */
function Remarks({ turn }) {
  if (!turn.answer) return null;
  const doubtful = turn.answer.unverified_quotes;
  const weak = turn.answer.claims.filter(
    (claim) => claim.verdict !== "supported" && !doubtful.some((quote) => claim.text.includes(quote)),
  );
  const notes = turn.answer.notes;
  if (!weak.length && !doubtful.length && !notes.length) return null;
  return html`<div class="remarks">
    ${notes.map((note) => html`<p class="note">${note}</p>`)}
    ${doubtful.length > 0 && html`<div class="note doubt">
      <p>${doubtful.length === 1 ? "This quote does" : "These quotes do"} not stand in the cited passages:</p>
      <ul>${doubtful.map((quote) => html`<li><q class="doubtful">${quote}</q></li>`)}</ul>
    </div>`}
    ${weak.length > 0 && html`<details class="note"><summary>${unsupported(weak.length, turn.answer.claims.length)}</summary>
      <ul>${weak.map((claim) => html`<li>${claim.text.replace(/\s*\[\d+\]/g, "")} <span class="muted">${claim.reason}</span></li>`)}</ul>
    </details>`}
  </div>`;
}

function unsupported(weak, all) {
  if (all === 1) return "The sentence is not fully supported by the sources";
  if (weak === all) return `None of the ${all} sentences is fully supported by the sources`;
  return `${weak} of ${all} sentences ${weak === 1 ? "is" : "are"} not fully supported by the sources`;
}

const HINTS = {
  401: "The server needs an API key. Whoever runs it makes one with: citekite keys create",
  403: "The key does not reach so far. Another key may.",
  404: "Look under Documents whether anything has been added.",
  0: "Is the server still running? Start it with: citekite serve",
};

/** How an answer ended that did not come to its end, with what to do. */
function Ending({ turn, actions }) {
  const { phase, problem } = turn;
  if (phase === "stopped" || phase === "lost") {
    return html`<p class=${`ending ${phase}`}>
      <span class="label">${phase === "stopped" ? "stopped" : "connection lost"}</span>
      ${turn.text ? "The answer is not complete." : "No answer had come yet."}
      <button type="button" class="button" onClick=${() => actions.again(turn.id)}>${phase === "lost" ? "Retry" : "Ask again"}</button>
    </p>`;
  }
  if (phase !== "failed") return null;
  return html`<div class="ending failed" role="alert">
    <p><span class="label">${turn.text ? "broken off" : "no answer"}</span> ${problem.detail || problem.title}</p>
    ${HINTS[problem.status] && html`<p class="muted">${HINTS[problem.status]}</p>`}
    ${problem.status === 401
      ? html`<button type="button" class="button" onClick=${() => actions.dialog("key")}>Enter a key</button>`
      : html`<${Retry} ...${{ turn, actions }} />`}
  </div>`;
}

function Retry({ turn, actions }) {
  const { status, retryAfter } = turn.problem;
  const waits = retryAfter || (status === 429 ? 5 : 0);
  const [left, setLeft] = useState(waits);
  useEffect(() => {
    const until = Date.now() + waits * 1000;
    const timer = setInterval(() => setLeft(Math.max(0, Math.ceil((until - Date.now()) / 1000))), 250);
    return () => clearInterval(timer);
  }, [turn.problem]);
  return html`<button type="button" class="button" disabled=${left > 0} onClick=${() => actions.again(turn.id)}>
    ${left > 0 ? `Retry in ${left} s` : "Retry"}</button>`;
}

function Tools({ turn, actions }) {
  const [done, setDone] = useState("");
  const say = (name) => (ok) => {
    setDone(ok ? name : "");
    setTimeout(() => setDone(""), 1500);
  };
  const tool = (name, label, image, onClick) => html`<button type="button" class="tool" title=${label} aria-label=${label} onClick=${onClick}>
    ${icon(done === name ? "done" : image)}</button>`;
  return html`<footer class="tools">
    ${turn.text && tool("copy", "Copy as Markdown with sources", "copy", () => copy(asMarkdown(turn)).then(say("copy")))}
    ${tool("link", "Copy a link that asks this", "link", () => copy(askLink(turn.question)).then(say("link")))}
    ${turn.answer && tool("json", "Download the answer as JSON", "json", () => download("answer.json", JSON.stringify(turn.answer, null, 2)))}
    ${turn.phase === "done" && tool("again", "Ask again", "again", () => actions.again(turn.id))}
    ${turn.phase === "done" && html`<a class="tool" href=${`#/map?q=${encodeURIComponent(turn.standalone || turn.question)}`} title="Show on the map" aria-label="Show on the map">${icon("map")}</a>`}
    ${turn.answer?.model && html`<span class="muted model">${turn.answer.model.split("/").pop()}</span>`}
    <span role="status" class="unseen">${done === "copy" ? "Copied" : done === "link" ? "Link copied" : ""}</span>
  </footer>`;
}
