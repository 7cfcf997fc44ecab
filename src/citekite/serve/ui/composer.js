// @ts-check
// Where a question is written: it grows to six lines, says what is searched, and turns into a stop button.
import { icon } from "./icons.js";
import { shortName } from "./spans.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./view.js";

const LINES = 6;

export function Composer({ state, actions, api, busy }) {
  const [text, setText] = useState("");
  const [choosing, setChoosing] = useState(false);
  const area = useRef(null);
  useLayoutEffect(() => {
    const { style } = area.current;
    style.height = "auto";
    const line = parseFloat(getComputedStyle(area.current).lineHeight);
    style.height = `${Math.min(area.current.scrollHeight, LINES * line + 16)}px`;
  }, [text]);
  const send = () => {
    if (!text.trim() || busy) return;
    actions.ask(text);
    setText("");
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  };
  const sources = state.filter.sources;
  return html`<form class="composer" onSubmit=${(event) => { event.preventDefault(); send(); }}>
    ${choosing && html`<${Scope} ...${{ state, actions, api }} close=${() => setChoosing(false)} />`}
    <label class="unseen" for="question">Question</label>
    <textarea id="question" ref=${area} rows="1" value=${text} placeholder=${state.turns.length ? "Ask a follow-up" : "Ask your documents"}
      autocomplete="off" onInput=${(event) => setText(event.currentTarget.value)} onKeyDown=${onKeyDown}></textarea>
    <div class="composer-foot">
      <button type="button" class=${`chip${sources.length ? " on" : ""}`} aria-expanded=${choosing} onClick=${() => setChoosing(!choosing)}>
        ${icon("scope")} ${sources.length === 0 ? "All documents" : sources.length === 1 ? shortName(sources[0]) : `${sources.length} documents`}
      </button>
      ${state.me?.model && html`<button type="button" class=${`chip${state.deep ? " on" : ""}`} aria-pressed=${state.deep}
        title="Split the question and search in rounds" onClick=${() => actions.set({ deep: !state.deep })}>${icon("deep")} Deep</button>`}
      <span class="muted hint">Enter to send</span>
      ${busy
        ? html`<button type="button" class="send stop" aria-label="Stop" title="Stop (Esc)" onClick=${actions.stop}>${icon("stop")}</button>`
        : html`<button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled=${!text.trim()}>${icon("send")}</button>`}
    </div>
  </form>`;
}

/** Which documents are searched: all, or those that are picked. */
function Scope({ state, actions, api, close }) {
  const [query, setQuery] = useState("");
  const [found, setFound] = useState(state.documents);
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  useEffect(() => {
    const controller = new AbortController();
    const timer = setTimeout(() => {
      api.get("documents", { query, limit: 100, collection: state.collection }, controller.signal)
        .then((page) => setFound(page.documents), () => {});
    }, 150);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [query, state.collection]);
  const chosen = state.filter.sources;
  const choose = (sources) => actions.set({ filter: { sources } });
  const words = query.trim().toLowerCase();
  const listed = found.filter((one) => `${one.title} ${one.source}`.toLowerCase().includes(words)).slice(0, 50);
  return html`<div class="scope" role="group" aria-label="Documents to search" onKeyDown=${(event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
      /** @type {HTMLElement} */ (document.querySelector(".composer .chip")).focus();
    }
  }}>
    <div class="scope-head">
      <input ref=${field} type="search" aria-label="Find a document" placeholder="Find a document" value=${query}
        onInput=${(event) => setQuery(event.currentTarget.value)} onKeyDown=${(event) => event.key === "Enter" && event.preventDefault()} />
      <button type="button" class="button" disabled=${!chosen.length} onClick=${() => choose([])}>All documents</button>
      <button type="button" class="tool" aria-label="Close" onClick=${close}>${icon("close")}</button>
    </div>
    <ul>${listed.map((one) => html`<li key=${one.source}><label>
      <input type="checkbox" checked=${chosen.includes(one.source)} onChange=${(event) => choose(
        event.currentTarget.checked ? [...chosen, one.source] : chosen.filter((source) => source !== one.source))} />
      <span class="names"><span>${one.title || shortName(one.source)}</span> <span class="muted">${shortName(one.source)}</span></span>
    </label></li>`)}</ul>
    ${!listed.length && html`<p class="muted">No document has these words in its title or name.</p>`}
  </div>`;
}
