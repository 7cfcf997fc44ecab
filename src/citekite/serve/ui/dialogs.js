// @ts-check
// The two dialogs: the keys of the page, and the API key of a server that asks for one.
import { icon } from "./icons.js";
import { KEYS } from "./keys.js";
import { html, useEffect, useRef, useState } from "./view.js";

export function Dialog({ which, state, actions, api }) {
  return which === "key" ? html`<${KeyDialog} ...${{ actions, api }} />` : html`<${HelpDialog} ...${{ state, actions }} />`;
}

function Frame({ title, close, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${close} onCancel=${close}>
    <header class="pane-head"><h2 id="dialog-title">${title}</h2>
      <button type="button" class="tool" aria-label="Close" onClick=${close}>${icon("close")}</button></header>
    ${children}
  </dialog>`;
}

function KeyDialog({ actions, api }) {
  const [value, setValue] = useState("");
  const [keep, setKeep] = useState(false);
  const [problem, setProblem] = useState(api.key() ? "The server does not take the key that is stored here." : "");
  const close = () => actions.dialog(null);
  const save = async (event) => {
    event.preventDefault();
    api.setKey(value.trim(), keep);
    try {
      actions.set({ me: await api.get("me") });
      close();
      actions.refresh();
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<${Frame} title="API key" close=${close}>
    <form class="key-form" onSubmit=${save}>
      <p>This server needs an API key. Whoever runs it makes one with <code>citekite keys create</code>.</p>
      <label for="api-key">Key</label>
      <input id="api-key" type="password" autocomplete="off" autofocus value=${value} onInput=${(event) => setValue(event.currentTarget.value)} />
      <label class="check"><input type="checkbox" checked=${keep} onChange=${(event) => setKeep(event.currentTarget.checked)} />
        Keep it in this browser (else until the tab is closed)</label>
      ${problem && html`<p class="note" role="alert">${problem}</p>`}
      <details class="note"><summary>Where do I get a key?</summary>
        <p>On the machine of the server: <code>citekite keys create --name NAME --scope read</code> (or write, or admin).
        It is shown once; <code>citekite keys list</code> says which there are, and until when they can be used.</p></details>
      <button class="button primary" disabled=${!value.trim()}>Use this key</button>
    </form>
  </${Frame}>`;
}

function HelpDialog({ state, actions }) {
  return html`<${Frame} title="Keys" close=${() => actions.dialog(null)}>
    <table class="keys"><tbody>${KEYS.map(([key, , meaning]) => html`<tr>
      <th scope="row">${key.split(" ").map((part) => (part === "–" ? " – " : html`<kbd>${part}</kbd> `))}</th><td>${meaning}</td></tr>`)}</tbody></table>
    <label class="check"><input type="checkbox" checked=${state.letters} onChange=${(event) => actions.letters(event.currentTarget.checked)} />
      Use keys without Ctrl or Alt</label>
    <p class="muted">The conversation is kept in this browser alone. “Forget” deletes it; the server keeps no chats.</p>
  </${Frame}>`;
}
