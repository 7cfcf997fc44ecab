// @ts-check
// The map of a collection: its passages as points, near each other where they are alike, and questions among them.
import { COLOURS, labelled, svgPath } from "./atlas.js";
import { DocumentPane, counted } from "./document.js";
import { EmptyLibrary } from "./empty.js";
import { icon } from "./icons.js";
import { Field } from "./map-field.js";
import { plain } from "./session.js";
import { sheet } from "./sheets.js";
import { path, shortName } from "./spans.js";
import { html, useEffect, useMemo, useRef, useState } from "./view.js";

await sheet("./map.css");

const MOST_LISTED = 300;
const HITS = 8;

const asked = () => new URLSearchParams(location.hash.split("?")[1] ?? "").get("q") ?? "";

export function MapView({ state, actions, api }) {
  const [atlas, problem, again] = useAtlas(api, state);
  const [question, setQuestion] = useState(asked());
  const [located, setLocated] = useState(/** @type {any} */ (null));
  const [only, setOnly] = useState(/** @type {number[]} */ ([]));
  const [emphasised, setEmphasised] = useState(/** @type {number | null} */ (null));
  const [open, setOpen] = useState(/** @type {any} */ (null));
  const asking = useRef(0); // an answer that comes after another question, or after "Clear", is none
  const locate = async (text) => {
    const mine = (asking.current += 1);
    if (!text.trim()) return setLocated(null);
    try {
      const found = await api.post("map/locate", { question: text.trim(), k: HITS, ...(state.collection ? { collection: state.collection } : {}) });
      if (mine !== asking.current) return undefined;
      history.replaceState(null, "", `#/map?q=${encodeURIComponent(text.trim())}`);
      return setLocated({ ...found, question: text.trim() });
    } catch (error) {
      return actions.say(plain(error).detail);
    }
  };
  const clear = () => {
    asking.current += 1;
    setLocated(null);
    setQuestion("");
    history.replaceState(null, "", "#/map");
  };
  const wanted = asked();
  useEffect(() => {
    if (!atlas || wanted === (located?.question ?? "")) return;
    setQuestion(wanted);
    locate(wanted);
  }, [atlas, wanted]);
  useEffect(() => {
    setOnly([]);
    setOpen(null);
    setEmphasised(null);
  }, [state.collection]);
  const hits = useHits(atlas, located);
  if (state.empty) return html`<${EmptyLibrary} ...${{ state, actions, api }} />`;
  const show = (documentId, chunk) => setOpen({ id: documentId, chunk });
  const toggle = (part) => setOnly(only.includes(part) ? only.filter((one) => one !== part) : [...only, part]);
  return html`<div class="map" data-points=${atlas?.points.length ?? null} data-hits=${hits.length} data-question=${located ? `${located.x},${located.y}` : null}>
    <section class="map-side" aria-label="About the map">
      <header class="map-head"><h1>Map</h1><p class="muted">${atlas ? summary(atlas) : ""}</p></header>
      <form class="map-ask" onSubmit=${(event) => { event.preventDefault(); locate(question); }}>
        <input class="field" type="search" aria-label="Question to place on the map" placeholder="Place a question" value=${question} disabled=${!atlas}
          onInput=${(event) => { setQuestion(event.currentTarget.value); if (!event.currentTarget.value) clear(); }} />
        <button type="submit" class="send" aria-label="Place it on the map" title="Place it on the map" disabled=${!question.trim()}>${icon("send")}</button>
      </form>
      <div class="scroll" tabindex="0" role="region" aria-label="Hits and legend">
        ${located && html`<${Hits} ...${{ hits, located, emphasised, setEmphasised, show, actions, clear }} />`}
        ${atlas && html`<${Legend} ...${{ atlas, only, toggle, setOnly }} />`}
        ${atlas && html`<${Sources} atlas=${atlas} />`}
        ${atlas && html`<p class="muted map-about">Each point is a passage. Passages that lie near each other are often about the same; the two directions are those that tell the groups apart best. They show only a part of what the passages differ in (${Math.max(1, Math.round(100 * atlas.explained))} % of the variance), so the search itself does not use them.</p>`}
      </div>
    </section>
    <div class="map-field">
      ${atlas
        ? html`<${Field} ...${{ atlas, hits, located, only, emphasised, setEmphasised, show, label: label(atlas, located, hits) }} />`
        : html`<div class="map-wait">${problem
            ? html`<p>${problem.detail}</p><button type="button" class="button" onClick=${again}>Retry</button>`
            : html`<p role="status">Drawing the map…</p>`}</div>`}
    </div>
    ${open && html`<${DocumentPane} key=${open.id} ...${{ ...open, state, actions, api }} close=${() => setOpen(null)} />`}
  </div>`;
}

const summary = (atlas) => {
  const drawn = atlas.points.length < atlas.chunks ? `${atlas.points.length.toLocaleString("en")} of ${counted(atlas.chunks, "passage")}` : counted(atlas.chunks, "passage");
  return `${drawn} in ${counted(atlas.sources.length, "document")}`;
};

/** The map of the collection, with what is looked up in it often. */
function useAtlas(api, state) {
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const [tries, setTries] = useState(0);
  useEffect(() => {
    if (state.empty || !state.status) return undefined; // the number of passages is what says that a map is out of date
    const controller = new AbortController();
    setProblem(null);
    api.get("map", { collection: state.collection }, controller.signal).then(
      (map) => setFound({ ...map, of: state.collection }), (error) => error.name !== "AbortError" && setProblem(plain(error)),
    );
    return () => controller.abort();
  }, [state.collection, state.status?.chunks, state.empty, tries]);
  const atlas = useMemo(() => found && found.of === state.collection && prepared(found), [found, state.collection]);
  return [atlas || null, problem, () => setTries(tries + 1)];
}

function prepared(map) {
  const source = new Map(map.sources.map((one) => [one.document_id, one]));
  const points = map.points.map((point) => ({ ...point, part: source.get(point.document_id).part }));
  return {
    ...map, points, source,
    partLabels: labelled(points, (point) => point.part, (part) => map.parts[part].name).filter((one) => one.part < COLOURS),
    documentLabels: labelled(points, (point) => point.document_id, (id) => source.get(id).title || shortName(source.get(id).source)),
  };
}

function useHits(atlas, located) {
  return useMemo(() => (atlas && located ? located.hits.map((hit, index) => ({
    ...located.points[index], hit, part: atlas.source.get(hit.document_id)?.part ?? COLOURS,
  })) : []), [atlas, located]);
}

function Hits({ hits, located, emphasised, setEmphasised, show, actions, clear }) {
  const ask = () => {
    location.hash = "#/";
    actions.ask(located.question);
  };
  return html`<section class="map-hits">
    <h2>${hits.length ? "Found for this question" : "Nothing was found for this question"}</h2>
    <ol>${hits.map(({ hit }, index) => html`<li key=${hit.id}>
      <button type="button" class=${`hit${emphasised === index ? " on" : ""}`} onClick=${() => show(hit.document_id, hit.id)}
        onFocus=${() => setEmphasised(index)} onBlur=${() => setEmphasised(null)} onPointerEnter=${() => setEmphasised(index)} onPointerLeave=${() => setEmphasised(null)}>
        <span class="number">${index + 1}</span>
        <span class="names"><span class="title">${hit.title || shortName(hit.source)}</span><span class="muted">${path(hit) || shortName(hit.source)}</span></span>
      </button></li>`)}</ol>
    <p class="tools"><button type="button" class="quiet" onClick=${ask}>Ask this question</button><button type="button" class="quiet" onClick=${clear}>Clear</button></p>
  </section>`;
}

function Legend({ atlas, only, toggle, setOnly }) {
  const rest = atlas.parts.slice(COLOURS);
  const entry = (part, name, chunks) => html`<li key=${part}><button type="button" class=${only.length && !only.includes(part) ? "dimmed" : ""} aria-pressed=${only.includes(part)} onClick=${() => toggle(part)}>
    <svg class=${`part-${part}`} viewBox="0 0 24 24" aria-hidden="true"><path d=${svgPath(part)} /></svg>
    <span class="name">${name}</span><span class="muted">${chunks.toLocaleString("en")}</span></button></li>`;
  return html`<section>
    <h2>Groups ${only.length > 0 && html`<button type="button" class="quiet" onClick=${() => setOnly([])}>Show all</button>`}</h2>
    <ul class="legend">
      ${atlas.parts.slice(0, COLOURS).map((one, part) => entry(part, one.name, one.chunks))}
      ${rest.length > 0 && entry(COLOURS, rest.length === 1 ? rest[0].name : `${rest.length} others`, rest.reduce((sum, one) => sum + one.chunks, 0))}
    </ul>
  </section>`;
}

/** The map for those who do not see it. */
function Sources({ atlas }) {
  const [open, setOpen] = useState(false);
  const listed = [...atlas.sources].sort((one, other) => one.part - other.part || other.chunks - one.chunks).slice(0, MOST_LISTED);
  return html`<details class="map-list" onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>As a table</summary>
    ${open && html`<table><thead><tr><th scope="col">Document</th><th scope="col">Group</th><th scope="col">Passages</th></tr></thead><tbody>
      ${listed.map((one) => html`<tr key=${one.document_id}><td><a href=${`#/documents?id=${one.document_id}`}>${one.title || shortName(one.source)}</a></td><td class="muted">${atlas.parts[one.part].name}</td><td>${one.chunks}</td></tr>`)}
    </tbody></table>
    ${atlas.sources.length > listed.length && html`<p class="muted">and ${counted(atlas.sources.length - listed.length, "document")} more, under <a href="#/documents">Documents</a></p>`}`}
  </details>`;
}

function label(atlas, located, hits) {
  const groups = atlas.parts.slice(0, COLOURS).map((one) => one.name).join(", ");
  const found = located ? ` The question “${located.question}” is a star joined to ${counted(hits.length, "passage")}.` : "";
  return `Map of ${summary(atlas)}, coloured by group: ${groups}.${found} Arrow keys move it, plus and minus zoom, 0 shows all.`;
}
