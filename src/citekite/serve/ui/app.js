// @ts-check
// The shell: what the server says at the start, where the parts of the page stand, and what their buttons do.
import { createApi } from "./api.js";
import { Composer } from "./composer.js";
import { icon } from "./icons.js";
import { keyAction, neighbour } from "./keys.js";
import { Later, load } from "./later.js";
import { recall, remember } from "./memory.js";
import { createSession, createStore, plain } from "./session.js";
import { asMarkdown, copy } from "./share.js";
import { readable, shortName } from "./spans.js";
import { cited, initial, isRunning, passages, reduce, running, sentencesEnd, shownTurn, suggestions } from "./state.js";
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./view.js";

const THEME = "citekite.theme";
const LETTERS = "citekite.letters";
const COLLECTION = "citekite.collection";
const STORE_DOWN_MS = 10_000;
const ROUTES = [["#/", "Ask"], ["#/documents", "Documents"], ["#/map", "Map"]];

function createActions({ api, store, session }) {
  const { dispatch } = store;
  const set = (values) => dispatch({ type: "set", values });
  let speaking = 0;
  const actions = {
    ...session,
    set,
    dispatch,
    show: (turn) => dispatch({ type: "show", turn }),
    unpin() {
      const pinned = store.state.pinned;
      dispatch({ type: "unpin" });
      if (pinned) requestAnimationFrame(() => markerOf(pinned)?.focus({ preventScroll: true }));
    },
    close() {
      const pinned = store.state.pinned;
      dispatch({ type: "close" });
      if (pinned) requestAnimationFrame(() => markerOf(pinned)?.focus({ preventScroll: true }));
    },
    pin: (turn, number) => dispatch({ type: "pin", turn, number }),
    preview: (preview) => set({ preview }),
    dialog: (dialog) => set({ dialog }),
    toggleDebug: () => set({ debug: !store.state.debug }),
    forget: () => {
      session.stop();
      dispatch({ type: "forget" });
    },
    widen(turn) {
      set({ filter: { sources: [] } });
      session.again(turn, { filter: { sources: [] } });
    },
    letters(letters) {
      localStorage.setItem(LETTERS, letters ? "on" : "off");
      set({ letters });
    },
    /** A short message at the foot of the page. */
    say(said) {
      clearTimeout(speaking);
      set({ said });
      speaking = setTimeout(() => set({ said: "" }), 4000);
    },
    /** Who asks and what the collection holds now; also how the page learns that the server or its store is back. */
    async refresh() {
      const { collection } = store.state;
      try {
        if (!store.state.me) set({ me: await api.get("me") });
        dispatch({ type: "status", status: await api.get("status", { collection }) });
        set({ documents: (await api.get("documents", { collection, limit: 60 })).documents });
      } catch (error) {
        dispatch({ type: "status failed", problem: plain(error) });
      }
    },
    key(event) {
      const typing = event.target.closest?.("input, textarea, select, dialog");
      const wanted = keyAction(event, { typing, letters: store.state.letters });
      if (!wanted || event.target.closest?.("dialog")) return;
      if (act(wanted)) event.preventDefault();
    },
  };

  const markerOf = ({ turn, number }) =>
    /** @type {HTMLElement | null} */ (document.querySelector(`[data-turn="${turn}"] .mark[data-number="${number}"]`));

  /** Do what a key asks for; false where there is nothing to do. */
  function act({ name, number = 0 }) {
    const { state } = store;
    const turn = shownTurn(state);
    if (name === "focus") document.querySelector("textarea")?.focus();
    else if (name === "help") set({ dialog: "help" });
    else if (name === "escape") {
      if (state.preview) set({ preview: null });
      else if (running(state)) session.stop();
      else if (state.pinned || state.sheet) actions.close();
      else /** @type {HTMLElement} */ (document.activeElement).blur(); // out of the text field, so that letters are keys again
    } else if (!turn || state.route !== "#/") return false;
    else if (name === "copy") copy(asMarkdown(turn)).then((done) => actions.say(done ? "Copied with sources" : "Copying is not allowed here"));
    else {
      const numbers = name.endsWith("citation") ? cited(turn) : [...passages(turn).first, ...passages(turn).folded].map((one) => one.number);
      const next = name === "cite" ? number : neighbour(numbers, state.pinned?.number, name.startsWith("next") ? 1 : -1);
      if (!next || !turn.hits[next - 1]) return false;
      actions.pin(turn.id, next);
    }
    return true;
  }

  return actions;
}

function App({ api, store, actions, keeps }) {
  const { state } = store;
  useEffect(() => keeps && remember(state.turns), [state.turns]);
  useEffect(() => {
    if (!state.storeProblem) return undefined;
    const timer = setInterval(actions.refresh, STORE_DOWN_MS);
    return () => clearInterval(timer);
  }, [state.storeProblem]);
  const part = { api, state, actions, dispatch: store.dispatch };
  return html`
    <a class="skip" href="#question" onClick=${(event) => { event.preventDefault(); document.querySelector("textarea")?.focus(); }}>Skip to the question</a>
    <${Header} ...${part} />
    <main id="main" class=${state.route === "#/" ? "asking" : "paged"}>
      ${state.route === "#/documents"
        ? html`<${Later} file="./library.js" name="Library" ...${part} />`
        : state.route === "#/map"
          ? html`<${Later} file="./map.js" name="MapView" ...${part} />`
          : html`<${Asking} ...${part} />`}
    </main>
    ${state.me && (state.ready || state.route !== "#/") && html`<${Later} file="./upload.js" name="Adding" ...${part} />`}
    ${state.preview && html`<${Preview} ...${state.preview} />`}
    ${state.dialog && html`<${Later} key=${state.dialog} file="./dialogs.js" name="Dialog" which=${state.dialog} ...${part} />`}
    <p class=${`toast${state.said ? " on" : ""}`} role="status">${state.said}</p>
  `;
}

function Header({ state, actions, api }) {
  const { status, storeProblem, empty } = state;
  return html`<header class="top">
    <a class="brand" href="#/"><svg viewBox="0 0 32 32" aria-hidden="true"><path d="M16 2 27 13 16 24 5 13Z" /><path class="half" d="M16 2v22L5 13Z" /><path class="tail" d="M16 24c0 3-4 2-4 5" /></svg>citekite</a>
    <nav aria-label="Pages">${ROUTES.map(([route, label]) => html`<a href=${route} aria-current=${state.route === route ? "page" : null}>${label}</a>`)}</nav>
    <div class="where">
      <span class=${`dot ${storeProblem ? "down" : status || empty ? "up" : ""}`}></span>
      ${storeProblem
        ? html`<span class="down" role="status" title=${storeProblem.detail}>${storeProblem.status ? "Store unavailable" : "Server unreachable"}</span>`
        : state.me && html`<${Later} file="./collections.js" name="Collections" ...${{ state, actions, api }} />`}
    </div>
    ${state.turns.length > 0 && state.route === "#/" && html`<button type="button" class="tool" title="Forget this conversation" aria-label="Forget this conversation" onClick=${actions.forget}>${icon("forget")}</button>`}
    <button type="button" class="tool" title="Light or dark" aria-label="Light or dark" onClick=${turnTheme}>${icon("theme")}</button>
    <button type="button" class="tool help" title="Keys (?)" aria-label="Keys" onClick=${() => actions.dialog("help")}>${icon("help")}</button>
  </header>`;
}

function Asking({ state, actions, api, dispatch }) {
  const turn = shownTurn(state);
  const busy = Boolean(running(state));
  const [scroller, follows, onScroll, toEnd] = useFollowing(state);
  if (state.empty && !state.turns.length) {
    return html`<div class="talk"><div class="scroll">
      <${Later} file="./empty.js" name="EmptyLibrary" ...${{ state, actions, api, dispatch }} /></div></div>`;
  }
  return html`<div class="talk">
      <div class="scroll conversation" ref=${scroller} onScroll=${onScroll} tabindex="0" role="region" aria-label="Conversation">
        <h1 class="unseen">Ask your documents</h1>
        ${!state.turns.length && html`<${Start} ...${{ state, actions }} />`}
        ${state.turns.map((one) => html`<${Later} file="./turn.js" name="Turn" key=${one.id} turn=${one} ...${{ state, actions }} last=${one === state.turns[state.turns.length - 1]} />`)}
      </div>
      ${!follows && html`<button type="button" class="jump" onClick=${toEnd}>${icon("down")} Jump to latest</button>`}
      <${Speech} turn=${state.turns[state.turns.length - 1]} />
      <${Composer} ...${{ state, actions, api, busy }} />
    </div>
    ${turn && (turn.hits.length > 0 || isRunning(turn)) && html`<${Later} file="./evidence.js" name="Evidence" ...${{ turn, state, actions, api }} />`}`;
}

function Start({ state, actions }) {
  const questions = suggestions(state.documents);
  return html`<section class="start">
    <p class="hello">Ask your documents</p>
    <p class="muted">Answers come with citations that open at the very words in their document.</p>
    <ul class="questions">${questions.map((question) => html`<li><button type="button" onClick=${() => actions.ask(question)}>${question}</button></li>`)}</ul>
    ${state.forgotten.length > 0 && html`<p class="muted">The conversation is forgotten.
      <button type="button" class="quiet" onClick=${() => actions.dispatch({ type: "unforget" })}>Bring it back</button></p>`}
  </section>`;
}

/** The answer for those who listen: each sentence once, when it is whole. */
function Speech({ turn }) {
  const said = useRef({ id: "", end: 0 });
  const [sentence, setSentence] = useState("");
  useEffect(() => {
    if (!turn) return;
    if (said.current.id !== turn.id + turn.at) said.current = { id: turn.id + turn.at, end: turn.phase === "searching" ? 0 : turn.text.length };
    const end = sentencesEnd(turn.text, said.current.end, turn.phase === "done");
    if (end > said.current.end) {
      setSentence(turn.text.slice(said.current.end, end).replace(/\[(\d+)\]/g, " source $1 "));
      said.current.end = end;
    }
  }, [turn]);
  return html`<p class="unseen" aria-live="polite">${sentence}</p>`;
}

/** Keep the end in sight while an answer comes, until the reader scrolls up. */
function useFollowing(state) {
  const scroller = useRef(/** @type {any} */ (null));
  const [follows, setFollows] = useState(true);
  const last = state.turns[state.turns.length - 1];
  const toEnd = () => {
    scroller.current.scrollTop = scroller.current.scrollHeight;
    setFollows(true);
  };
  useLayoutEffect(() => {
    if (scroller.current && last) toEnd();
  }, [last?.id, last?.at]);
  useLayoutEffect(() => {
    if (scroller.current && follows && last) scroller.current.scrollTop = scroller.current.scrollHeight;
  }, [state.turns]);
  const onScroll = () => {
    const { scrollHeight, scrollTop, clientHeight } = scroller.current;
    setFollows(scrollHeight - scrollTop - clientHeight < 60);
  };
  return /** @type {const} */ ([scroller, follows, onScroll, toEnd]);
}

function Preview({ number, hit, citation, at }) {
  const box = useRef(/** @type {any} */ (null));
  useLayoutEffect(() => {
    const marker = at.getBoundingClientRect();
    const { offsetWidth, offsetHeight, style } = box.current;
    style.left = `${Math.max(8, Math.min(marker.left - 20, innerWidth - offsetWidth - 8))}px`;
    style.top = `${marker.top > offsetHeight + 12 ? marker.top - offsetHeight - 8 : marker.bottom + 8}px`;
  }, [at]);
  const words = readable(citation?.quote || hit.text).trim();
  return html`<div class="preview" role="tooltip" ref=${box}>
    <p><span class="number">${number}</span> <strong>${hit.title || shortName(hit.source)}</strong></p>
    <p class="words">${words.length > 280 ? `${words.slice(0, 280)}…` : words}</p>
    ${citation && !citation.verified && html`<p class="note doubt">The quote does not stand in this passage.</p>`}
  </div>`;
}

function turnTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem(THEME, root.dataset.theme);
}

const routeOf = (hash) => (ROUTES.some(([route]) => route === hash.split("?")[0]) ? hash.split("?")[0] : "#/");

async function start() {
  const theme = localStorage.getItem(THEME);
  if (theme) document.documentElement.dataset.theme = theme;
  const parameters = new URLSearchParams(location.search);
  const demo = parameters.get("demo") ? await (await import("./demo.js")).demo(parameters.get("demo")) : null;
  const api = demo?.api ?? createApi();
  const store = createStore(reduce, {
    ...initial, turns: demo ? [] : recall(), collection: demo ? null : localStorage.getItem(COLLECTION), route: routeOf(location.hash), letters: localStorage.getItem(LETTERS) !== "off",
    preview: null, said: "", ready: false,
  });
  const session = createSession({ api, store });
  const actions = createActions({ api, store, session });
  addEventListener("hashchange", () => actions.set({ route: routeOf(location.hash), preview: null }));
  addEventListener("keydown", actions.key);
  let due = false;
  const draw = () => {
    due = false;
    render(html`<${App} ...${{ api, store, actions }} keeps=${!demo} />`, document.getElementById("app"));
  };
  store.subscribe(() => {
    if (!due) queueMicrotask(draw);
    due = true;
  });
  draw();
  await actions.refresh();
  // Not needed for the first paint, but for the first answer; a failure shows where they are used.
  for (const file of ["./turn.js", "./evidence.js"]) load(file).catch(() => {});
  actions.set({ ready: true });
  if (demo) return demo.play({ store, session, actions });
  const question = parameters.get("q");
  if (question && store.state.me) {
    history.replaceState(null, "", location.pathname + location.hash);
    session.ask(question);
  }
}

start();
