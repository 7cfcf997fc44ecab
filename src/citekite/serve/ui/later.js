// @ts-check
// The parts of the page that are not needed for its first paint.
import { html, useEffect, useState } from "./view.js";

const modules = {};
export const load = async (file) => (modules[file] ??= await import(file));

/** A part of the page whose module is fetched when it is first needed. */
export function Later({ file, name, ...part }) {
  const [problem, setProblem] = useState("");
  const [, arrived] = useState(false);
  useEffect(() => {
    load(file).then(() => arrived(true), (error) => setProblem(error.message));
  }, [file]);
  if (problem) return html`<p class="note">This part of the page could not be loaded: ${problem}</p>`;
  const Part = modules[file]?.[name];
  return Part ? html`<${Part} ...${part} />` : null;
}
