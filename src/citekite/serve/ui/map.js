// @ts-check
// The map of a collection: its passages as points, near each other where they are alike, and questions among them.
import { COLOURS, between, fitted, labelled, nearest, paint, panned, svgPath, toScreen, zoomed } from "./atlas.js";
import { DocumentPane, counted } from "./document.js";
import { EmptyLibrary } from "./empty.js";
import { icon } from "./icons.js";
import { plain } from "./session.js";
import { sheet } from "./sheets.js";
import { path, shortName } from "./spans.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./view.js";

await sheet("./map.css");

const GLIDE_MS = 450;
const STEP = 60; // pixels of an arrow key
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
  const locate = async (text) => {
    if (!text.trim()) return setLocated(null);
    try {
      const found = await api.post("map/locate", { question: text.trim(), k: HITS, ...(state.collection ? { collection: state.collection } : {}) });
      history.replaceState(null, "", `#/map?q=${encodeURIComponent(text.trim())}`);
      setLocated({ ...found, question: text.trim() });
    } catch (error) {
      actions.say(plain(error).detail);
    }
  };
  const clear = () => {
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
        ? html`<${Field} ...${{ atlas, hits, located, only, emphasised, setEmphasised, show }} />`
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
    if (state.empty) return undefined;
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

/** The canvas, and all that moves it. */
function Field({ atlas, hits, located, only, emphasised, setEmphasised, show }) {
  const canvas = useRef(/** @type {any} */ (null));
  const tip = useRef(/** @type {any} */ (null));
  const probes = useRef(/** @type {any} */ (null));
  const [hovered, setHovered] = useState(/** @type {any} */ (null));
  const now = useRef(/** @type {any} */ ({ view: null, base: null, frame: 0, glide: 0, touches: new Map() }));
  const shows = (one) => !only.length || only.includes(Math.min(one.part, COLOURS));
  const scene = { ...atlas, hits, star: located, emphasised, hovered, shows, base: now.current.base };
  now.current.scene = scene;

  const size = () => [canvas.current.clientWidth, canvas.current.clientHeight];
  const draw = () => {
    cancelAnimationFrame(now.current.frame);
    now.current.frame = requestAnimationFrame(() => {
      if (!canvas.current || !now.current.view) return;
      paint(canvas.current, { ...now.current.scene, base: now.current.base }, now.current.view, now.current.colours);
      canvas.current.dataset.view = [now.current.view.x, now.current.view.y, now.current.view.scale].map((one) => one.toFixed(4)).join(" ");
      placeTip();
    });
  };
  const move = (view) => {
    cancelAnimationFrame(now.current.glide);
    now.current.view = view;
    draw();
  };
  const glide = (to) => {
    cancelAnimationFrame(now.current.glide);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || !now.current.view) return move(to);
    const from = now.current.view;
    const began = performance.now();
    const step = (time) => {
      const share = Math.min(1, Math.max(0, (time - began) / GLIDE_MS));
      now.current.view = between(from, to, share);
      draw();
      if (share < 1) now.current.glide = requestAnimationFrame(step);
    };
    now.current.glide = requestAnimationFrame(step);
    return undefined;
  };
  const fit = () => glide(fitted(located ? [located, ...hits] : atlas.points, ...size(), located ? 0.4 : 0.12));
  const zoom = (factor, left, top) => zoomed(now.current.view, now.current.base, factor, ...size(), left, top);
  const placeTip = () => {
    const one = now.current.scene.hovered ?? now.current.scene.hits[now.current.scene.emphasised];
    if (!one || !tip.current) return;
    const [width, height] = size();
    const [x, y] = toScreen(now.current.view, width, height, one);
    const { offsetWidth, offsetHeight, style } = tip.current;
    style.left = `${Math.max(8, Math.min(x - offsetWidth / 2, width - offsetWidth - 8))}px`;
    style.top = `${y > offsetHeight + 24 ? y - offsetHeight - 16 : y + 18}px`;
  };

  useLayoutEffect(() => {
    const measure = () => {
      const [width, height] = size();
      if (!width || !height) return;
      const first = !now.current.view;
      const whole = !first && now.current.base && Math.abs(now.current.view.scale / now.current.base.scale - 1) < 0.01;
      now.current.base = fitted(atlas.points, width, height);
      if (first || whole) now.current.view = now.current.base;
      draw();
    };
    const recolour = () => {
      const colour = (name) => getComputedStyle(probes.current.querySelector(`.${name}`)).color;
      now.current.colours = {
        font: getComputedStyle(document.body).fontFamily, ink: colour("ink"), ground: colour("ground"), accent: colour("accent"),
        parts: Array.from({ length: COLOURS + 1 }, (_, part) => colour(`part-${part}`)),
      };
      draw();
    };
    recolour();
    measure();
    const sizes = new ResizeObserver(measure);
    sizes.observe(canvas.current);
    const themes = new MutationObserver(recolour);
    themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", recolour);
    return () => {
      sizes.disconnect();
      themes.disconnect();
      scheme.removeEventListener("change", recolour);
      cancelAnimationFrame(now.current.frame);
      cancelAnimationFrame(now.current.glide);
    };
  }, [atlas]);
  useEffect(draw, [only, emphasised, hovered, hits]);
  useEffect(() => {
    if (now.current.view) fit();
  }, [located]);
  useEffect(() => {
    // Preact listens passively to a wheel, and then the page would scroll
    const wheel = (event) => {
      event.preventDefault();
      const { left, top } = canvas.current.getBoundingClientRect();
      move(zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.06 : 0.0022)), event.clientX - left, event.clientY - top));
    };
    canvas.current.addEventListener("wheel", wheel, { passive: false });
    return () => canvas.current?.removeEventListener("wheel", wheel);
  }, [atlas]);

  const under = (event, within = 12) => {
    const { left, top } = canvas.current.getBoundingClientRect();
    const place = [event.clientX - left, event.clientY - top];
    const hit = nearest(hits, now.current.view, ...size(), ...place, 14, () => true);
    return hit ?? nearest(atlas.points, now.current.view, ...size(), ...place, within, shows);
  };
  const pointerDown = (event) => {
    canvas.current.setPointerCapture(event.pointerId);
    now.current.touches.set(event.pointerId, [event.clientX, event.clientY]);
    now.current.moved = 0;
  };
  const pointerMove = (event) => {
    const { touches } = now.current;
    const last = touches.get(event.pointerId);
    if (!last) return hover(event);
    const here = [event.clientX, event.clientY];
    const [dx, dy] = [here[0] - last[0], here[1] - last[1]];
    now.current.moved += Math.abs(dx) + Math.abs(dy);
    if (now.current.moved > 4) canvas.current.classList.add("dragging");
    if (touches.size === 2) pinch(event.pointerId, last, here);
    else if (now.current.moved > 4) move(panned(now.current.view, dx, dy));
    touches.set(event.pointerId, here);
    return undefined;
  };
  const pinch = (id, last, here) => {
    const [[, other]] = [...now.current.touches].filter(([key]) => key !== id);
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
    const { left, top } = canvas.current.getBoundingClientRect();
    const middle = [(here[0] + other[0]) / 2 - left, (here[1] + other[1]) / 2 - top];
    move(panned(zoom(apart(here) / Math.max(1, apart(last)), ...middle), (here[0] - last[0]) / 2, (here[1] - last[1]) / 2));
  };
  const pointerUp = (event) => {
    const wasClick = now.current.touches.delete(event.pointerId) && now.current.moved <= 4 && event.type === "pointerup";
    canvas.current.classList.remove("dragging");
    if (!wasClick) return;
    const found = under(event, event.pointerType === "touch" ? 22 : 12);
    if (found) show(found.hit?.document_id ?? found.document_id, found.hit?.id ?? found.id);
  };
  const hover = (event) => {
    const found = under(event);
    canvas.current.classList.toggle("over", Boolean(found));
    setEmphasised(found?.hit ? hits.indexOf(found) : null);
    setHovered(found && !found.hit ? found : null);
  };
  const keys = (event) => {
    const steps = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
    const zooms = { "+": 1.4, "=": 1.4, "-": 1 / 1.4 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (steps[event.key]) move(panned(now.current.view, ...steps[event.key]));
    else if (zooms[event.key]) move(zoom(zooms[event.key]));
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const told = hovered ?? hits[emphasised ?? -1];
  return html`
    <canvas ref=${canvas} tabindex="0" role="img" aria-label=${label(atlas, located, hits)}
      onPointerDown=${pointerDown} onPointerMove=${pointerMove} onPointerUp=${pointerUp} onPointerCancel=${pointerUp}
      onPointerLeave=${() => { setHovered(null); setEmphasised(null); }} onKeyDown=${keys}></canvas>
    <div class="map-probes" ref=${probes} aria-hidden="true"><i class="ink"></i><i class="ground"></i><i class="accent"></i>${Array.from({ length: COLOURS + 1 }, (_, part) => html`<i class=${`part-${part}`}></i>`)}</div>
    ${told && html`<div class="map-tip" ref=${tip}><strong>${(told.hit ?? told).title}</strong><span class="muted">${told.hit ? path(told.hit) : told.heading === told.title ? "" : told.heading}</span></div>`}
    <div class="map-zoom">
      <button type="button" class="tool" aria-label="Zoom in" title="Zoom in (+)" onClick=${() => glide(zoom(1.8))}>${icon("plus")}</button>
      <button type="button" class="tool" aria-label="Zoom out" title="Zoom out (−)" onClick=${() => glide(zoom(1 / 1.8))}>${icon("minus")}</button>
      <button type="button" class="tool" aria-label="Show all" title="Show all (0)" onClick=${() => glide(now.current.base)}>${icon("fit")}</button>
    </div>`;
}

function label(atlas, located, hits) {
  const groups = atlas.parts.slice(0, COLOURS).map((one) => one.name).join(", ");
  const found = located ? ` The question “${located.question}” is a star joined to ${counted(hits.length, "passage")}.` : "";
  return `Map of ${summary(atlas)}, coloured by group: ${groups}.${found} Arrow keys move it, plus and minus zoom, 0 shows all.`;
}
