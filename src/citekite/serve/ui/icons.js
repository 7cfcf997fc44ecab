// @ts-check
// Line icons, 20 units square.
import { html } from "./view.js";

const PATHS = {
  send: "M10 16V4m0 0L5 9m5-5 5 5",
  stop: "M6 6h8v8H6z",
  close: "m5 5 10 10M15 5 5 15",
  back: "M12 4 6 10l6 6",
  forward: "m8 4 6 6-6 6",
  down: "m5 8 5 5 5-5",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  done: "m4 10.5 4 4 8-9",
  link: "M8 12a3 3 0 0 0 4.2 0l3-3A3 3 0 0 0 11 4.800l-1 1M12 8a3 3 0 0 0-4.200 0l-3 3A3 3 0 0 0 9 15.200l1-1",
  json: "M7 4c-2 0-2 1-2 3s0 3-2 3c2 0 2 1 2 3s0 3 2 3M13 4c2 0 2 1 2 3s0 3 2 3c-2 0-2 1-2 3s0 3-2 3",
  again: "M15.500 8A6 6 0 1 0 16 11m0-7v4h-4",
  theme: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  help: "M7.500 7.500a2.500 2.500 0 1 1 3.800 2.100c-.8.500-1.300 1-1.300 1.900m0 2.500v.1",
  scope: "M3 5h14M6 10h8M8.500 15h3",
  forget: "M4 6h12M8 6V4h4v2m2.500 0-.7 10H6.200L5.500 6",
  open: "M8 5H4v11h11v-4M11 4h5v5m0-5-7 7",
  deep: "M4 5h12M4 10h8M4 15h5m4-3.500 2.500 2.500L13 16.500",
  add: "M10 13V3.500m0 0L6 7.500m4-4 4 4M3.500 12v3.500a1.500 1.500 0 0 0 1.500 1.500h10a1.500 1.500 0 0 0 1.500-1.500V12",
  ask: "M4 4.500h12v9H9.500L6 16.500v-3H4zM7 7.500h6M7 10.500h4",
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  fit: "M4 8V4h4m4 0h4v4m0 4v4h-4m-4 0H4v-4",
  map: "M5.500 12.500a1.800 1.800 0 1 0 .1 0zM8.500 4a1.800 1.800 0 1 0 .1 0zM15 9a1.800 1.800 0 1 0 .1 0z",
  scores: "M4 16V9m4 7V4m4 12v-5m4 5V7",
};

export const icon = (name) => html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
  <path d=${PATHS[name]} />
</svg>`;
