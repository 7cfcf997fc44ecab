// @ts-check
// Asking: runs the stream of one answer into the store, and ends it when its reader says stop.
import { askBody, running } from "./state.js";

const BATCH_MS = 40; // Deltas that come closer together are drawn at once.

export function createStore(reduce, state) {
  const readers = new Set();
  return {
    get state() {
      return state;
    },
    dispatch(action) {
      const next = reduce(state, action);
      if (next === state) return;
      state = next;
      for (const read of readers) read();
    },
    subscribe(read) {
      readers.add(read);
      return () => readers.delete(read);
    },
  };
}

export function createSession({ api, store }) {
  let controller = null;
  const { dispatch } = store;

  function ask(question) {
    const text = question.trim();
    if (!text || running(store.state)) return;
    const { collection, filter, deep } = store.state;
    const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
    dispatch({ type: "ask", id, question: text, collection, filter, deep, at: new Date().toISOString() });
    run(id);
  }

  /** Ask the question of a turn again, in its place. */
  function again(id, changes = {}) {
    if (running(store.state)) return;
    dispatch({ type: "ask again", id, at: new Date().toISOString(), ...changes });
    run(id);
  }

  const stop = () => controller?.abort();

  async function run(id) {
    const mine = (controller = new AbortController());
    let waiting = [];
    let timer = null;
    const flush = () => {
      clearTimeout(timer);
      timer = null;
      if (waiting.length) dispatch({ type: "events", id, events: waiting });
      waiting = [];
    };
    try {
      const turn = store.state.turns.find((one) => one.id === id);
      for await (const event of api.stream("ask/stream", askBody(turn, store.state.turns), mine.signal)) {
        waiting.push(event);
        if (event.name === "Delta" || event.name === "Cited") timer ??= setTimeout(flush, BATCH_MS);
        else flush();
      }
      flush();
      dispatch({ type: "ended", id, phase: "lost" }); // nothing, where Done or Failed came
    } catch (error) {
      flush();
      const begun = store.state.turns.find((one) => one.id === id)?.phase !== "searching";
      if (error.name === "AbortError") dispatch({ type: "ended", id, phase: "stopped" });
      else if (error.title === "ConnectionLost" && begun) dispatch({ type: "ended", id, phase: "lost" });
      else dispatch({ type: "failed", id, problem: plain(error) });
    }
  }

  return { ask, again, stop };
}

/** A problem as a value that can be kept. */
export const plain = ({ title = "Error", status = 0, detail, message, retryAfter = 0 }) => ({
  title, status, detail: detail || message, retryAfter,
});
