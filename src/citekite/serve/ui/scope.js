// @ts-check
// Which documents are searched, chosen beside the question.
import { icon } from "./icons.js";
import { shortName } from "./spans.js";
import { html, useEffect, useRef, useState } from "./view.js";

/** Which documents are searched: all, or those that are picked. */
export function Scope({ state, actions, api, close }) {
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
