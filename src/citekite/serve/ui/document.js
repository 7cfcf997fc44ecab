// @ts-check
// A document of the collection, opened beside the list or the map; where one of its passages was meant, at that passage.
import { icon } from "./icons.js";
import { plain } from "./session.js";
import { sheet } from "./sheets.js";
import { path, place, shortName, shortSource, toUtf16 } from "./spans.js";
import { Original, Text, laidOut } from "./text.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./view.js";

await sheet("./library.css");

const REACH = [4000, 16_000]; // characters shown before and after the passage at first

/** Search this document alone from now on, and go where the question is written. */
export function askOnly(actions, source) {
  actions.set({ filter: { sources: [source] } });
  addEventListener("hashchange", () => setTimeout(() => /** @type {any} */ (document.querySelector("#question"))?.focus()), { once: true });
  location.hash = "#/";
}

export function DocumentPane({ id, chunk = null, state, actions, api, close }) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const [reach, setReach] = useState(REACH);
  const scroller = useRef(/** @type {any} */ (null));
  const title = useRef(/** @type {any} */ (null));
  useEffect(() => {
    const controller = new AbortController();
    setProblem(null);
    setReach(REACH);
    api.get(`documents/${encodeURIComponent(id)}`, { collection: state.collection }, controller.signal).then(
      setFound, (error) => error.name !== "AbortError" && setProblem(plain(error)),
    );
    return () => controller.abort();
  }, [id, state.collection]);
  const document_ = found?.id === id ? found : null;
  const passage = document_?.chunks.find((one) => one.id === chunk) ?? null;
  const view = useMemo(() => document_ && laidOut(document_.text, passageMark(document_, passage), reach), [document_, passage, reach]);
  useLayoutEffect(() => {
    const target = scroller.current?.querySelector(".in-passage");
    if (!scroller.current) return;
    if (target) scroller.current.scrollTop += target.getBoundingClientRect().top - scroller.current.getBoundingClientRect().top - 90;
    else scroller.current.scrollTop = 0;
  }, [document_, passage]);
  useEffect(() => {
    if (document_ && matchMedia("(max-width: 899px)").matches) title.current?.focus();
  }, [document_]);
  const where = passage ? [path({ ...document_, ...passage }), place(passage)].filter(Boolean).join(" · ") : "";
  return html`<aside class="evidence up" aria-label="Document"><div class="pane reader">
    <header class="pane-head">
      <h2 ref=${title} tabindex="-1">${document_ ? document_.title || shortName(document_.source) : "…"}</h2>
      <button type="button" class="tool shut" aria-label="Close the document" title="Close" onClick=${close}>${icon("close")}</button>
    </header>
    ${document_ && html`<div class="reader-where">
      <span>${where || `${counted(document_.chunks.length, "passage")}`}${document_.access?.length > 0 && html` <${Badges} access=${document_.access} />`}</span>
      <button type="button" class="quiet" onClick=${() => askOnly(actions, document_.source)}>Ask only this document</button>
      <${Original} ...${{ source: document_.source, id: document_.id, page: passage?.page, collection: state.collection, api, actions }} />
    </div>`}
    <div class="scroll text" tabindex="0" role="region" aria-label="Text of the document" ref=${scroller}>
      ${problem && html`<p class="note">${problem.detail}</p>`}
      ${!document_ && !problem && html`<div class="skeletons" aria-hidden="true"><i></i><i></i></div>`}
      ${view && html`<${Text} ...${{ view, reach, setReach }} />`}
    </div>
    ${document_ && html`<footer class="reader-foot"><p class="muted source" title=${document_.source}>${shortSource(document_.source)}</p></footer>`}
  </div></aside>`;
}

const passageMark = ({ text }, passage) =>
  passage ? [{ start: toUtf16(text, passage.start), end: toUtf16(text, passage.end), name: "passage" }] : [];

export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const Badges = ({ access }) => html`<span class="badges">${access.map((group) => html`<span class="badge" title="Only these groups see it">${group}</span>`)}</span>`;
