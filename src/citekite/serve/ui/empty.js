// @ts-check
// A collection with nothing in it: three ways to begin.
import { icon } from "./icons.js";
import { copy } from "./share.js";
import { mayWrite, nameOf } from "./state.js";
import { AddDocuments, uploadsOf } from "./upload.js";
import { html, useState } from "./view.js";

const COMMAND = "citekite sync ./docs";

export function EmptyLibrary({ state, actions, api }) {
  const [copied, setCopied] = useState(false);
  const copyCommand = async () => {
    const done = await copy(COMMAND);
    setCopied(done);
    if (!done) actions.say("Copying is not allowed here");
  };
  if (!mayWrite(state)) {
    return html`<section class="empty">
      <h1>Nothing to ask yet</h1>
      <p class="muted">The collection <strong>${nameOf(state)}</strong> is empty, and your key may only read. Ask who runs this server to add documents.</p>
    </section>`;
  }
  const sample = () => uploadsOf(api, actions).add([{ name: "Sample library", sample: true }], { collection: state.collection });
  return html`<section class="empty">
    <h1>Add documents, then ask them</h1>
    <p class="muted">PDF, Word, PowerPoint, Markdown, HTML, plain text, tables, zip archives, and pages of the web. They stay on this server.</p>
    <${AddDocuments} ...${{ api, state, actions }} big=${true} />
    <div class="ways">
      <div class="way">
        <h2>From a terminal</h2>
        <p class="muted">For a folder that changes: run it again, and only what changed is read.</p>
        <p class="command"><code>${COMMAND}</code>
          <button type="button" class="tool" aria-label="Copy the command" title="Copy" onClick=${copyCommand}>${icon(copied ? "done" : "copy")}</button></p>
      </div>
      <div class="way">
        <h2>Just looking</h2>
        <p class="muted">A small library to try questions on. It can be deleted like any other document.</p>
        <p><button type="button" class="button" onClick=${sample}>Load the sample</button></p>
      </div>
    </div>
  </section>`;
}
