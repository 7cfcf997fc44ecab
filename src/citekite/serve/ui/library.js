// @ts-check
// The documents of a collection: found, opened, asked alone, deleted.
import { Badges, DocumentPane, askOnly, counted } from "./document.js";
import { EmptyLibrary } from "./empty.js";
import { icon } from "./icons.js";
import { plain } from "./session.js";
import { shortName, shortSource } from "./spans.js";
import { mayWrite, nameOf } from "./state.js";
import { AddDocuments, useUploads } from "./upload.js";
import { html, useEffect, useRef, useState } from "./view.js";

const PAGE = 50;
const TYPING_MS = 150;

/** What the address says is open: `#/documents?id=...`. */
const opened = () => new URLSearchParams(location.hash.split("?")[1] ?? "").get("id");

export function Library({ state, actions, api }) {
  const [query, setQuery] = useState("");
  const [offset, setOffset] = useState(0);
  const [deleted, setDeleted] = useState(0);
  const added = useUploads(api, actions).rows.filter((row) => row.state === "ready").length;
  const [page, problem] = useDocuments(api, state, query, offset, `${added} ${deleted}`);
  const open = opened();
  useEffect(() => setOffset(0), [state.collection]);
  if (state.empty) return html`<${EmptyLibrary} ...${{ state, actions, api }} />`;
  const close = () => {
    location.hash = "#/documents";
    /** @type {any} */ (document.querySelector(`[data-document="${CSS.escape(open ?? "")}"] .doc-title`))?.focus();
  };
  const remove = async (one) => {
    try {
      await api.delete(`documents/${one.id}`, { collection: state.collection });
      actions.say(`Deleted ${one.title || shortName(one.source)}`);
      if (open === one.id) close();
      if (state.filter.sources.includes(one.source)) actions.set({ filter: { sources: [] } });
      setDeleted(deleted + 1);
      actions.refresh();
    } catch (error) {
      actions.say(plain(error).detail);
    }
  };
  return html`<div class="library">
    <div class="scroll shelf" tabindex="0" role="region" aria-label="Documents">
      <div class="shelf-in">
        <header class="shelf-head">
          <h1>${nameOf(state)}</h1>
          <p class="muted">${state.status ? `${counted(state.status.documents, "document")}, ${counted(state.status.chunks, "passage")}` : ""}</p>
        </header>
        ${mayWrite(state) && html`<${AddDocuments} ...${{ api, state, actions }} />`}
        <div class="shelf-search">
          <input class="field" type="search" aria-label="Find a document" placeholder="Find by title or name" value=${query}
            onInput=${(event) => { setQuery(event.currentTarget.value); setOffset(0); }} />
        </div>
        ${problem && html`<p class="note" role="alert">${problem.detail}</p>`}
        ${!page && !problem && html`<div class="skeletons" aria-hidden="true"><i></i><i></i><i></i></div>`}
        ${page && html`<ul class="docs">${page.documents.map((one) => html`<${Item} key=${one.id} ...${{ one, state, actions, remove }} open=${open === one.id} />`)}</ul>`}
        ${page && !page.documents.length && html`<p class="muted none">No document has <q>${query}</q> in its title or name.</p>`}
        ${page && page.total > PAGE && html`<${Paging} ...${{ page, offset, setOffset }} />`}
      </div>
    </div>
    ${open && html`<${DocumentPane} key=${open} id=${open} ...${{ state, actions, api, close }} />`}
  </div>`;
}

function useDocuments(api, state, query, offset, version) {
  const [page, setPage] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  useEffect(() => {
    const controller = new AbortController();
    const timer = setTimeout(() => {
      const wanted = { collection: state.collection, query: query.trim(), offset, limit: PAGE };
      api.get("documents", wanted, controller.signal).then(
        (found) => { setPage(found); setProblem(null); },
        (error) => error.name !== "AbortError" && setProblem(plain(error)),
      );
    }, query ? TYPING_MS : 0);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [state.collection, query, offset, version]);
  return [page, problem];
}

function Item({ one, state, actions, open, remove }) {
  const [asking, setAsking] = useState(false);
  const keep = useRef(/** @type {any} */ (null));
  const bin = useRef(/** @type {any} */ (null));
  useEffect(() => {
    if (asking) keep.current?.focus();
  }, [asking]);
  const dismiss = () => {
    setAsking(false);
    requestAnimationFrame(() => bin.current?.focus());
  };
  const name = one.title || shortName(one.source);
  return html`<li class=${`doc${open ? " open" : ""}`} data-document=${one.id}>
    <div class="doc-line">
      <a class="doc-title" href=${`#/documents?id=${encodeURIComponent(one.id)}`} aria-current=${open ? "true" : null}>${name}</a>
      ${one.access?.length > 0 && html`<${Badges} access=${one.access} />`}
      <span class="doc-source muted" title=${one.source}>${shortSource(one.source)}</span>
      <span class="doc-chunks muted">${counted(one.chunks, "passage")}</span>
      <span class="doc-tools">
        <button type="button" class="tool" title="Ask only this document" aria-label=${`Ask only ${name}`} onClick=${() => askOnly(actions, one.source)}>${icon("ask")}</button>
        ${mayWrite(state) && html`<button type="button" ref=${bin} class="tool" title="Delete" aria-label=${`Delete ${name}`} aria-expanded=${asking} onClick=${() => setAsking(true)}>${icon("forget")}</button>`}
      </span>
    </div>
    ${asking && html`<div class="doc-delete" role="group" aria-label=${`Delete ${name}?`} onKeyDown=${(event) => { if (event.key === "Escape") { event.stopPropagation(); dismiss(); } }}>
      <p>Delete it with its ${counted(one.chunks, "passage")}? ${one.source.startsWith("upload://") ? "The uploaded file goes too." : "The original stays; a later sync takes it in again."}</p>
      <button type="button" class="button danger" onClick=${() => remove(one)}>Delete</button>
      <button type="button" class="button" ref=${keep} onClick=${dismiss}>Keep</button>
    </div>`}
  </li>`;
}

function Paging({ page, offset, setOffset }) {
  const last = Math.min(offset + PAGE, page.total);
  return html`<nav class="paging" aria-label="Pages of documents">
    <button type="button" class="button" disabled=${offset === 0} onClick=${() => setOffset(Math.max(0, offset - PAGE))}>Previous</button>
    <span class="muted">${(offset + 1).toLocaleString("en")}–${last.toLocaleString("en")} of ${page.total.toLocaleString("en")}</span>
    <button type="button" class="button" disabled=${last >= page.total} onClick=${() => setOffset(offset + PAGE)}>Next</button>
  </nav>`;
}
