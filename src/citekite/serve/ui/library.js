// @ts-check
import { html } from "./view.js";

export function Library({ state }) {
  return html`<section class="page"><h1>${state.collection ?? "citekite"}</h1></section>`;
}
