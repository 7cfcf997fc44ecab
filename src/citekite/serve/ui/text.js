// @ts-check
// The text of a document as every pane shows it: block by block, with what is meant marked in it; and its original.
import { icon } from "./icons.js";
import { plain } from "./session.js";
import { download } from "./share.js";
import { sheet } from "./sheets.js";
import { blocks, near, original, pieces, readable, rows, shortName } from "./spans.js";
import { html } from "./view.js";

await sheet("./reader.css");

/** The blocks near the first of the marks, in pieces, and whether there is more before and after them. */
export function laidOut(text, marks, [before, after]) {
  const at = marks[0] ?? { start: 0, end: 0 };
  const all = blocks(text);
  const shown = near(all, at.start, at.end, before, after);
  const cut = ({ start, end }) => pieces(text, marks, start, end);
  return {
    blocks: shown.map((block) => (block.kind === "table"
      ? { kind: "table", rows: rows(text, block).map((row) => row.map(cut)) }
      : { kind: block.kind, pieces: cut(block) })),
    more: [shown[0] !== all[0], shown[shown.length - 1] !== all[all.length - 1]],
  };
}

export function Text({ view, reach, setReach }) {
  return html`
    ${view.more[0] && html`<button type="button" class="quiet" onClick=${() => setReach([Infinity, reach[1]])}>Show what stands before</button>`}
    ${view.blocks.map(block)}
    ${view.more[1] && html`<button type="button" class="quiet" onClick=${() => setReach([reach[0], Infinity])}>Show the rest</button>`}`;
}

function block(one) {
  if (one.kind !== "table") return html`<p class=${one.kind}>${one.pieces.map(one.kind === "code" ? piece : prose)}</p>`;
  const meant = one.rows.flat(2).some(({ names }) => names.length);
  return html`<div class=${`table${meant ? " meant" : ""}`} tabindex="0"><table><tbody>${one.rows.map((row, index) => html`<tr>
    ${row.map((cell) => (index ? html`<td>${cell.map(prose)}</td>` : html`<th scope="col">${cell.map(prose)}</th>`))}</tr>`)}</tbody></table></div>`;
}

const piece = ({ text, names }) => {
  if (names.includes("quote")) return html`<mark class="quote">${text}</mark>`;
  return names.includes("passage") ? html`<span class="in-passage">${text}</span>` : text;
};

/** A piece without the marks of Markdown. */
export const prose = ({ text, names }) => piece({ text: readable(text), names });

/** The way to the original: a link where it has an address, or the file that the server keeps. */
export function Original({ source, id, page = null, quote = "", collection, api, actions }) {
  const target = original({ source, page, quote });
  if (!target) return null;
  if (target !== "upload") {
    return html`<a class="quiet" href=${target} target="_blank" rel="noopener noreferrer nofollow">Open original ${icon("open")}</a>`;
  }
  const save = async () => {
    try {
      download(shortName(source), await api.blob(`documents/${id}/original`, { collection }));
    } catch (error) {
      actions.say(plain(error).detail);
    }
  };
  return html`<button type="button" class="quiet" onClick=${save}>Save original ${icon("open")}</button>`;
}
