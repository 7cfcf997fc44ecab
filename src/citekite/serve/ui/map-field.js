// @ts-check
// The canvas of the map, and all that moves it.
import { COLOURS, between, createPoints, fitted, nearest, paint, panned, toScreen, zoomed } from "./atlas.js";
import { icon } from "./icons.js";
import { path } from "./spans.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./view.js";

const GLIDE_MS = 450;
const STEP = 60; // pixels of an arrow key
const REST_MS = 120; // after this long without a move the points are drawn sharp

export function Field({ atlas, hits, located, only, emphasised, setEmphasised, show, label }) {
  const canvas = useRef(/** @type {any} */ (null));
  const tip = useRef(/** @type {any} */ (null));
  const probes = useRef(/** @type {any} */ (null));
  const [hovered, setHovered] = useState(/** @type {any} */ (null));
  const now = useRef(/** @type {any} */ ({ view: null, base: null, frame: 0, glide: 0, rest: 0, moving: false, framed: true, points: null, touches: new Map() }));
  now.current.points ??= createPoints();
  const shows = (one) => !only.length || only.includes(Math.min(one.part, COLOURS));
  const scene = { ...atlas, hits, star: located, emphasised, hovered, only, shows, base: now.current.base };
  now.current.scene = scene;

  const size = () => [canvas.current.clientWidth, canvas.current.clientHeight];
  const draw = () => {
    cancelAnimationFrame(now.current.frame);
    now.current.frame = requestAnimationFrame(() => {
      if (!canvas.current || !now.current.view) return;
      paint(canvas.current, { ...now.current.scene, base: now.current.base }, now.current.view, now.current.colours, now.current.points, now.current.moving);
      canvas.current.dataset.view = [now.current.view.x, now.current.view.y, now.current.view.scale].map((one) => one.toFixed(4)).join(" ");
      placeTip();
    });
  };
  const drawMoving = () => {
    clearTimeout(now.current.rest);
    now.current.moving = true;
    now.current.rest = setTimeout(() => {
      now.current.moving = false;
      draw();
    }, REST_MS);
    draw();
  };
  const settle = (view) => {
    cancelAnimationFrame(now.current.glide);
    now.current.view = view;
    drawMoving();
  };
  /** A move of the reader's own: from now on a change of the size changes nothing else. */
  const move = (view) => {
    now.current.framed = false;
    settle(view);
  };
  const glide = (to) => {
    cancelAnimationFrame(now.current.glide);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || !now.current.view) return settle(to);
    const from = now.current.view;
    const began = performance.now();
    const step = (time) => {
      const share = Math.min(1, Math.max(0, (time - began) / GLIDE_MS));
      now.current.view = between(from, to, share);
      drawMoving();
      if (share < 1) now.current.glide = requestAnimationFrame(step);
    };
    now.current.glide = requestAnimationFrame(step);
    return undefined;
  };
  const frame = () => fitted(located ? [located, ...hits] : atlas.points, ...size(), located ? 0.4 : 0.12);
  const fit = () => {
    now.current.framed = true;
    glide(frame());
  };
  now.current.frameNow = frame;
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
      now.current.base = fitted(atlas.points, width, height);
      if (!now.current.view || now.current.framed) now.current.view = now.current.frameNow();
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
      clearTimeout(now.current.rest);
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
  const step = (factor) => {
    now.current.framed = false;
    glide(zoom(factor));
  };
  const told = hovered ?? hits[emphasised ?? -1];
  return html`
    <canvas ref=${canvas} tabindex="0" role="img" aria-label=${label}
      onPointerDown=${pointerDown} onPointerMove=${pointerMove} onPointerUp=${pointerUp} onPointerCancel=${pointerUp}
      onPointerLeave=${() => { setHovered(null); setEmphasised(null); }} onKeyDown=${keys}></canvas>
    <div class="map-probes" ref=${probes} aria-hidden="true"><i class="ink"></i><i class="ground"></i><i class="accent"></i>${Array.from({ length: COLOURS + 1 }, (_, part) => html`<i class=${`part-${part}`}></i>`)}</div>
    ${told && html`<div class="map-tip" ref=${tip}><strong>${(told.hit ?? told).title}</strong><span class="muted">${told.hit ? path(told.hit) : told.heading === told.title ? "" : told.heading}</span></div>`}
    <div class="map-zoom">
      <button type="button" class="tool" aria-label="Zoom in" title="Zoom in (+)" onClick=${() => step(1.8)}>${icon("plus")}</button>
      <button type="button" class="tool" aria-label="Zoom out" title="Zoom out (−)" onClick=${() => step(1 / 1.8)}>${icon("minus")}</button>
      <button type="button" class="tool" aria-label="Show all" title="Show all (0)" onClick=${() => { now.current.framed = !located; glide(now.current.base); }}>${icon("fit")}</button>
    </div>`;
}
