// @ts-check
// Where a question is written: it grows to six lines, says what is searched, and turns into a stop button.
import { icon } from "./icons.js";
import { Later } from "./later.js";
import { shortName } from "./spans.js";
import { html, useLayoutEffect, useRef, useState } from "./view.js";

const LINES = 6;

export function Composer({ state, actions, api, busy }) {
  const [text, setText] = useState("");
  const [choosing, setChoosing] = useState(false);
  const area = useRef(null);
  useLayoutEffect(() => {
    const { style } = area.current;
    style.height = "auto";
    const line = parseFloat(getComputedStyle(area.current).lineHeight);
    style.height = `${Math.min(area.current.scrollHeight, LINES * line + 3)}px`;
  }, [text]);
  const send = () => {
    if (!text.trim() || busy) return;
    actions.ask(text);
    setText("");
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  };
  const sources = state.filter.sources;
  return html`<form class="composer" onSubmit=${(event) => { event.preventDefault(); send(); }}>
    ${choosing && html`<${Later} file="./scope.js" name="Scope" ...${{ state, actions, api }} close=${() => setChoosing(false)} />`}
    <label class="unseen" for="question">Question</label>
    <textarea id="question" ref=${area} rows="1" value=${text} placeholder=${state.turns.length ? "Ask a follow-up" : "Ask your documents"}
      autocomplete="off" onInput=${(event) => setText(event.currentTarget.value)} onKeyDown=${onKeyDown}></textarea>
    <div class="composer-foot">
      <button type="button" class=${`chip${sources.length ? " on" : ""}`} aria-expanded=${choosing} onClick=${() => setChoosing(!choosing)}>
        ${icon("scope")} ${sources.length === 0 ? "All documents" : sources.length === 1 ? shortName(sources[0]) : `${sources.length} documents`}
      </button>
      ${state.me?.model && html`<button type="button" class=${`chip${state.deep ? " on" : ""}`} aria-pressed=${state.deep}
        title="Split the question and search in rounds" onClick=${() => actions.set({ deep: !state.deep })}>${icon("deep")} Deep</button>`}
      <span class="muted hint">Enter to send</span>
      ${busy
        ? html`<button type="button" class="send stop" aria-label="Stop" title="Stop (Esc)" onClick=${actions.stop}>${icon("stop")}</button>`
        : html`<button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled=${!text.trim()}>${icon("send")}</button>`}
    </div>
  </form>`;
}
