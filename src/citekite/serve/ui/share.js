// @ts-check
// An answer to take along: Markdown with footnotes, JSON, and a link that asks again.
import { citationOf, cited } from "./state.js";
import { path, place, toUtf16 } from "./spans.js";

/** The answer with its markers as footnotes, each with the place and the cited words. */
export function asMarkdown(turn) {
  const numbers = cited(turn);
  const notes = numbers.map((number) => {
    const one = citationOf(turn, number) ?? turn.hits[number - 1];
    const where = [one.title, path(one), place(one)].filter(Boolean).join(", ");
    const quote = one.quote ? ` “${one.quote.trim().replace(/\s+/g, " ")}”` : "";
    return `[^${number}]: ${where} <${one.source}>${quote}`;
  });
  return [`**${turn.question}**`, withFootnotes(turn), ...(turn.answer?.notes ?? []).map((note) => `*${note}*`)]
    .concat(notes.length ? [notes.join("\n")] : [])
    .join("\n\n");
}

/** `[1]` becomes `[^1]` where the server says that a marker stands, so not within code. */
function withFootnotes({ text, marks }) {
  const at = marks.map(({ number, position }) => ({ marker: `[${number}]`, index: toUtf16(text, position) }));
  return at
    .filter(({ marker, index }) => text.startsWith(marker, index))
    .sort((one, other) => other.index - one.index)
    .reduce((now, { index }) => `${now.slice(0, index + 1)}^${now.slice(index + 1)}`, text);
}

export function askLink(question, here = location.href) {
  const url = new URL(here);
  url.search = "";
  url.hash = "";
  url.searchParams.set("q", question);
  return url.href;
}

export function download(name, content) {
  const blob = content instanceof Blob ? content : new Blob([content], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Copy, also where the page is not served over https (there the clipboard API is missing). */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
