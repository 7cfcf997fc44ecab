// @ts-check
// Spans of documents. The server counts Unicode code points, JavaScript UTF-16 units; here one becomes the other.

/** The UTF-16 index of a code point index. */
export function toUtf16(text, codePoints) {
  if (!/[\ud800-\udbff]/.test(text)) return Math.min(codePoints, text.length);
  let at = 0;
  for (let count = 0; count < codePoints && at < text.length; count += 1) {
    at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
  }
  return at;
}

/** The text in pieces, cut where a mark begins or ends; each knows the names of the marks that it lies in. */
export function pieces(text, marks, from = 0, to = text.length) {
  const cuts = [from, to, ...marks.flatMap((mark) => [mark.start, mark.end])].filter((at) => at >= from && at <= to);
  const sorted = [...new Set(cuts)].sort((one, other) => one - other);
  return sorted.slice(1).map((end, index) => {
    const start = sorted[index];
    const names = marks.filter((mark) => mark.start <= start && end <= mark.end).map((mark) => mark.name);
    return { text: text.slice(start, end), names };
  });
}

/** The blocks of a plain or Markdown text between its blank lines: where each lies, and what kind it is. */
export function blocks(text) {
  const found = [];
  const pattern = /(```|~~~)[^\n]*\n[\s\S]*?(?:\n\1[^\n]*|$)|[ \t]*\|[^\n]*(?:\n[ \t]*\|[^\n]*)*|#{1,6} [^\n]*|[^\n]*\S[^\n]*(?:\n(?!#{1,6} |[ \t]*\||```|~~~)[^\n]*\S[^\n]*)*/g;
  for (let match; (match = pattern.exec(text)); ) {
    const raw = match[0];
    if (!raw.trim()) {
      pattern.lastIndex += 1;
      continue;
    }
    const kind = match[1] ? "code" : /^\s*\|/.test(raw) ? "table" : /^#{1,6} /.test(raw) ? "heading" : "prose";
    const inside = match[1] ? /^[^\n]*\n([\s\S]*?)\n?(?:(?:```|~~~)[^\n]*)?$/.exec(raw)?.[1] ?? raw : raw; // without its fences
    const start = match.index + raw.indexOf(inside, match[1] ? raw.indexOf("\n") : 0);
    found.push({ start, end: start + inside.length, kind });
  }
  return found;
}

/** The rows of a table block, each the spans of its cells; the line under the head is none. */
export function rows(text, { start, end }) {
  const found = [];
  for (let at = start; at < end; ) {
    const stop = Math.min(...[text.indexOf("\n", at), end].filter((one) => one >= 0));
    const line = text.slice(at, stop);
    if (!/^[\s|:-]+$/.test(line)) {
      const cells = [...line.matchAll(/(?<=(?<!\\)\|)(?:\\\||[^|])*/g)].map((cell) => trimmed(text, at + cell.index, cell[0]));
      found.push(/\|\s*$/.test(line) ? cells.slice(0, -1) : cells);
    }
    at = stop + 1;
  }
  return found;
}

const trimmed = (text, start, cell) => {
  const from = start + cell.length - cell.trimStart().length;
  return { start: Math.min(from, start + cell.length), end: from + cell.trim().length };
};

/** The blocks near a span: those that lie within so many characters of it. */
export const near = (all, start, end, before, after) =>
  all.filter((block) => block.end >= start - before && block.start <= end + after);

/** Where a place is, for a reader: "page 3" or "line 12". */
export const place = ({ page, line }) => (page ? `page ${page}` : line ? `line ${line}` : "");

/** The headings below the title, as a path. */
export const path = ({ title, headings }) =>
  (headings ?? []).filter((one, index) => index > 0 || one !== title).join(" › ");

const decoded = (source) => decodeURI(source.replace(/%(?![0-9a-f]{2})/gi, "%25"));

/** The name of a source without its folders. */
export const shortName = (source) => decoded(source).split(/[\\/]/).filter(Boolean).pop() ?? source;

/** A source as it is shown: an address without its scheme, an upload by its name, a file with its last two folders. */
export function shortSource(source) {
  if (/^https?:\/\//i.test(source)) return decoded(source).replace(/^https?:\/\/(www\.)?/i, "").replace(/\/$/, "");
  if (source.startsWith("upload://")) return decoded(source).split("/").slice(3).join("/");
  const parts = decoded(source).split(/[\\/]/).filter(Boolean);
  return parts.length > 3 ? `…/${parts.slice(-3).join("/")}` : decoded(source);
}

const MARKUP = [
  [/^#{1,6} +/gm, ""],
  [/!\[([^\]\n]*)\]\([^)\n]*\)/g, "$1"],
  [/\[([^\]\n]+)\]\([^)\n]*\)/g, "$1"],
  [/<\/?[a-z][^<>\n]*>/gi, ""],
  [/\*\*(?=\S)([^*\n]+)\*\*/g, "$1"],
  [/`([^`\n]+)`/g, "$1"],
  [/(^|[\s(])\*(?=\S)([^*\n]+)\*(?=[\s).,;:!?]|$)/g, "$1$2"],
  [/^[ \t]*(```|~~~).*$/gm, ""],
  [/^[ \t]*\|[\s|:-]*\|[ \t]*$\n?/gm, ""],
  [/^[ \t]*\|[ \t]*|[ \t]*\|[ \t]*$/gm, ""],
  [/ +\| +/g, " · "],
];

/** A piece of a document without the marks of Markdown and the tags of HTML: what its author wanted to be read. */
export const readable = (text) => MARKUP.reduce((now, [pattern, by]) => now.replace(pattern, by), text);

/** Where the original can be opened: an address for a link, "upload" for one that the server keeps, or null. */
export function original({ source, page, quote = "" }) {
  if (source.startsWith("upload://")) return "upload";
  if (!/^https?:\/\//i.test(source)) return null;
  const [address] = source.split("!/");
  if (page) return `${address.split("#")[0]}#page=${page}`;
  const words = quote.trim().split(/\s+/).slice(0, 8).join(" ");
  return words && address === source && !address.includes("#")
    ? `${address}#:~:text=${encodeURIComponent(words).replace(/-/g, "%2D")}`
    : address;
}
