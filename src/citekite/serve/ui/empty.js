// @ts-check
import { html } from "./view.js";

export function EmptyLibrary({ state }) {
  return html`<section class="page"><h1>${state.collection ?? "citekite"}</h1></section>`;
}
