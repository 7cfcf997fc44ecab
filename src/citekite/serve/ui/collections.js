// @ts-check
// The collection that is asked, chosen in the header.
import { icon } from "./icons.js";
import { plain } from "./session.js";
import { nameOf } from "./state.js";
import { html, useEffect, useRef, useState } from "./view.js";

const CHOSEN = "citekite.collection";
const NAME = "[A-Za-z_][A-Za-z0-9_]{0,199}";

export function Collections({ state, actions, api }) {
  const [open, setOpen] = useState(false);
  const root = useRef(/** @type {any} */ (null));
  const button = useRef(/** @type {any} */ (null));
  const count = state.status?.documents;
  useEffect(() => {
    if (!open) return undefined;
    const outside = (event) => !root.current.contains(event.target) && setOpen(false);
    addEventListener("pointerdown", outside);
    return () => removeEventListener("pointerdown", outside);
  }, [open]);
  const close = () => {
    setOpen(false);
    button.current.focus();
  };
  const keys = (event) => {
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    close();
  };
  return html`<div class="collections" ref=${root} onKeyDown=${keys}>
    <button type="button" ref=${button} class="collections-button" aria-expanded=${open} title="Choose a collection" onClick=${() => setOpen(!open)}>
      <span class="collection">${nameOf(state)}</span>
      <span class="muted">${count === undefined ? (state.empty ? "empty" : "") : `${count.toLocaleString("en")} ${count === 1 ? "document" : "documents"}`}</span>
      ${icon("down")}
    </button>
    ${open && html`<${Menu} ...${{ state, actions, api, close }} />`}
  </div>`;
}

/** Ask this collection from now on, also after a reload. */
export function choose(actions, name, fallback) {
  if (name === fallback) localStorage.removeItem(CHOSEN);
  else localStorage.setItem(CHOSEN, name);
  actions.dispatch({ type: "collection", name: name === fallback ? null : name });
  actions.refresh();
}

function Menu({ state, actions, api, close }) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState("");
  const [name, setName] = useState("");
  const list = useRef(/** @type {any} */ (null));
  useEffect(() => {
    api.get("collections").then(setFound, (error) => setProblem(plain(error).detail));
  }, []);
  useEffect(() => list.current?.querySelector("[aria-current], button, a")?.focus(), [found]);
  const fallback = found?.default ?? state.me?.collection;
  const current = state.collection ?? fallback;
  const pick = (picked) => {
    close();
    if (picked !== current) choose(actions, picked, fallback);
  };
  const create = async (event) => {
    event.preventDefault();
    if (!new RegExp(`^${NAME}$`).test(name)) return setProblem("A name has letters, digits and _, and does not begin with a digit.");
    try {
      await api.post("collections", { name });
      return pick(name);
    } catch (error) {
      return setProblem(plain(error).detail);
    }
  };
  const collections = found?.collections ?? [];
  const listed = !found || collections.some((one) => one.name === current)
    ? collections
    : [{ name: current, documents: 0 }, ...collections];
  return html`<div class="collections-menu" ref=${list}>
    <ul aria-label="Collections">${listed.map((one) => html`<li key=${one.name}>
      <button type="button" aria-current=${one.name === current ? "true" : null} onClick=${() => pick(one.name)}>
        <span class="check-place">${one.name === current && icon("done")}</span><span class="name">${one.name}</span>
        <span class="muted">${one.documents.toLocaleString("en")} ${one.documents === 1 ? "document" : "documents"}</span>
      </button></li>`)}</ul>
    ${!found && !problem && html`<p class="muted">Looking…</p>`}
    ${state.me?.scope === "admin" && html`<form class="new-collection" onSubmit=${create}>
      <input class="field" type="text" aria-label="Name of a new collection" placeholder="New collection" value=${name} autocomplete="off" spellcheck="false"
        onInput=${(event) => { setName(event.currentTarget.value); setProblem(""); }} />
      <button type="submit" class="button" disabled=${!name}>Create</button>
    </form>`}
    ${problem && html`<p class="note" role="alert">${problem}</p>`}
  </div>`;
}
