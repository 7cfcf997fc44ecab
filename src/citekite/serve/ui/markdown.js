// @ts-check
// Markdown of an answer as elements. Raw HTML becomes text, an image becomes a link, and nothing is fetched or run.
import { Marked } from "./vendor/marked-18.2.1.esm.js";
import { html } from "./view.js";

// First of all: `[1]` is a citation wherever it stands, also before "(...)", and no definition can make it a link.
const citation = {
  name: "citation",
  level: "inline",
  start: (source) => source.search(/\[\d{1,3}\]/),
  tokenizer(source) {
    const match = /^\[(\d{1,3})\]/.exec(source);
    return match ? { type: "citation", raw: match[0], number: Number(match[1]) } : undefined;
  },
};
const marked = new Marked({ extensions: [citation], tokenizer: { def: () => undefined } });

const LONGEST = 100_000; // characters; an answer is far shorter
const DEEPEST = 24; // nested quotes, lists and emphasis; beyond, they are text

/** Elements of a text that may still be coming; `cite(number)` gives the element of a marker, or null for plain text. */
export function markdown(text, cite = (number) => null, coming = false) {
  try {
    if (text.length <= LONGEST) return blocks(marked.lexer(framed(coming ? settled(text) : text)), { cite, depth: 0 });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // too deeply nested to be read
  }
  return [html`<p>${text}</p>`];
}

const ROW = /^\s*\|.*\S|\S +\| +\S.* \| +\S/;
const UNDER_HEAD = /^\s*\|?[\s:]*-+[\s:|-]*$/;

/** Rows of a table without its head, as an answer of a document's own sentences has them: one is a line, more a table. */
export function framed(text) {
  const lines = text.split("\n");
  const whole = [];
  let fenced = false;
  for (let at = 0; at < lines.length; ) {
    if (/^\s*(```|~~~)/.test(lines[at])) fenced = !fenced;
    let end = at;
    while (!fenced && end < lines.length && (ROW.test(lines[end]) || (end > at && UNDER_HEAD.test(lines[end])))) end += 1;
    const run = lines.slice(at, end);
    if (end === at) whole.push(lines[(end += 1) - 1]);
    else if (run.some((line) => UNDER_HEAD.test(line))) whole.push(...run);
    else if (run.length === 1) whole.push(run[0].trim().replace(/^\| *| *\|$/g, "").replace(/ +\| +/g, " · "));
    else {
      const columns = Math.max(...run.map((line) => line.trim().replace(/^\||\|$/g, "").split("|").length));
      whole.push("", `|${" |".repeat(columns)}`, `|${"---|".repeat(columns)}`, ...run, "");
    }
    at = end;
  }
  return whole.join("\n");
}

/** A half-written text with its open emphasis closed, so that asterisks do not flash up before their end comes. */
export function settled(text) {
  const last = text.slice(text.lastIndexOf("\n\n") + 1);
  if (/^(```|~~~)/m.test(last)) return text;
  const ended = text.replace(/(\s|^)(\*{1,3}|`|_{1,2}|\[[^\]\n]*)$/, "$1");
  for (const mark of ["**", "`"]) {
    if ((last.split(mark).length - 1) % 2 && ended === text) return text.trimEnd() + mark;
  }
  return ended;
}

const raw = (tokens) => tokens.map((token) => token.raw);
const deeper = (at) => ({ ...at, depth: at.depth + 1 });

function blocks(tokens, at) {
  return at.depth > DEEPEST ? raw(tokens) : tokens.map((token) => block(token, deeper(at)));
}

const LAST_WORD = /[^\s\u2e80-\u9fff\uac00-\ud7af]{1,16}$|\S$/; // or the last character of a script without spaces
const STOPS = /^[.,;:!?)。，；：！？）]+/;

/** Inline elements; a marker stays on the line of the word before it and of the stop after it, wherever the model put spaces. */
function inlines(tokens = [], at) {
  if (at.depth > DEEPEST) return raw(tokens);
  const marker = (token) => (token?.type === "citation" ? at.cite(token.number) : null);
  return tokens.map((token, index) => {
    const [before, next] = [tokens[index - 1], tokens[index + 1]];
    if (marker(token)) {
      const word = before?.type === "text" ? LAST_WORD.exec(decoded(before.text).trimEnd())?.[0] : "";
      const stop = next?.type === "text" ? STOPS.exec(decoded(next.text))?.[0] : "";
      return html`<span class="held">${word}${marker(token)}${stop}</span>`;
    }
    if (token.type !== "text" || token.tokens) return inline(token, deeper(at));
    const text = marker(before) ? decoded(token.text).replace(STOPS, "") : decoded(token.text);
    return marker(next) ? text.trimEnd().replace(LAST_WORD, "") : text;
  });
}

function block(token, at) {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading":
      return token.depth < 3
        ? html`<h3>${inlines(token.tokens, at)}</h3>`
        : html`<h4>${inlines(token.tokens, at)}</h4>`;
    case "paragraph":
      return html`<p>${inlines(token.tokens, at)}</p>`;
    case "code":
      return html`<pre tabindex="0"><code>${token.text}</code></pre>`;
    case "blockquote":
      return html`<blockquote>${blocks(token.tokens, at)}</blockquote>`;
    case "hr":
      return html`<hr />`;
    case "list": {
      const items = token.items.map((item) => html`<li>${blocks(item.tokens, at)}</li>`);
      return token.ordered ? html`<ol start=${token.start || 1}>${items}</ol>` : html`<ul>${items}</ul>`;
    }
    case "table":
      return table(token, at);
    default:
      return inline(token, at);
  }
}

function table(token, at) {
  const cells = (row, Tag) => row.map((cell) => html`<${Tag}>${inlines(cell.tokens, at)}</${Tag}>`);
  return html`<div class="table" tabindex="0"><table>
    ${token.header.some((cell) => cell.text) && html`<thead><tr>${cells(token.header, "th")}</tr></thead>`}
    <tbody>${token.rows.map((row) => html`<tr>${cells(row, "td")}</tr>`)}</tbody>
  </table></div>`;
}

function inline(token, at) {
  switch (token.type) {
    case "citation":
      return at.cite(token.number) ?? token.raw;
    case "strong":
      return html`<strong>${inlines(token.tokens, at)}</strong>`;
    case "em":
      return html`<em>${inlines(token.tokens, at)}</em>`;
    case "del":
      return html`<del>${inlines(token.tokens, at)}</del>`;
    case "codespan":
      return html`<code>${token.text}</code>`;
    case "br":
      return html`<br />`;
    case "checkbox":
      return token.checked ? "☑ " : "☐ ";
    case "link":
      return link(token.href, inlines(token.tokens, at));
    case "image":
      return link(token.href, `[image: ${token.text || token.href}]`);
    case "html":
      return token.raw;
    default:
      return token.tokens ? inlines(token.tokens, at) : decoded(token.text ?? token.raw);
  }
}

/** A link, where its scheme is one that only ever opens something. */
export function link(href, children) {
  const safe = /^(https?:\/\/|mailto:)/i.test(href);
  return safe ? html`<a href=${href} target="_blank" rel="noopener noreferrer nofollow">${children}</a>` : children;
}

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

function decoded(text) {
  return text.replace(/&(?:#(\d{1,7})|(\w+));/g, (whole, number, name) => {
    if (number) return Number(number) <= 0x10ffff ? String.fromCodePoint(Number(number)) : whole;
    return ENTITIES[name] ?? whole;
  });
}
