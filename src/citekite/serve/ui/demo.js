// @ts-check
// Every state of the page by its address, for tests and screenshots: `/?demo=NAME` plays a recorded stream.
import { Problem } from "./api.js";

const problem = (title, status, detail, retryAfter = 0) => new Problem({ title, status, detail, retryAfter });
const DOWN = problem("StoreError", 503, "Milvus at http://127.0.0.1:19530 cannot be reached: connection refused.");
const DEMOS = {
  empty: {},
  searching: { stream: "answered", until: 0 },
  steps: { stream: "deep", until: "Retrieved" },
  reading: { stream: "answered", until: "Retrieved" },
  writing: { stream: "answered", until: "Cited" },
  answered: { stream: "answered" },
  pinned: { stream: "answered", pin: 1 },
  deep: { stream: "deep" },
  extracted: { stream: "extracted", model: "" },
  unverified: { stream: "answered", pin: "unverified" },
  scores: { stream: "answered", set: { debug: true } },
  "no-evidence": { stream: "refused" },
  "no-evidence-scoped": { stream: "refused", set: { filter: { sources: ["/srv/knowledge/rank-fusion.md"] } } },
  stopped: { stream: "answered", until: "Cited", end: "stop" },
  lost: { stream: "answered", until: "Cited", end: problem("ConnectionLost", 0, "The connection to the server was lost.") },
  unreachable: { stream: "answered", until: 0, end: problem("ConnectionLost", 0, "The server cannot be reached.") },
  error: { stream: "answered", until: "Cited", failed: problem("EndpointError", 502, "The model endpoint answered with status 500: internal error. Ask again, or look at its log.") },
  limited: { stream: "answered", until: 0, end: problem("RateLimited", 429, "The key 'reader' may ask 60 times a minute.", 12) },
  busy: { stream: "answered", until: 0, end: problem("ServerBusy", 503, "All 100 places of the server are taken: ask again in a moment.", 5) },
  denied: { stream: "answered", until: 0, end: problem("AccessDenied", 403, "The key 'reader' is not for the collection 'papers'.") },
  key: { me: problem("KeyRequired", 401, "This server asks for an API key.") },
  "store-down": { status: DOWN, stream: "answered", until: 0, end: DOWN },
};

/** The api of a demonstration, and `play`, which asks what was recorded. */
export async function demo(name) {
  const wanted = DEMOS[name];
  if (!wanted) throw new Error(`no such demonstration: ${name}; there are ${Object.keys(DEMOS).join(", ")}`);
  const recording = await (await fetch(new URL("./demo-recording.json", import.meta.url))).json();
  const documents = recording.documents.map(({ id, source, title, chunks }) => ({ id, source, title, chunks: chunks.length }));

  async function get(path) {
    if (path === "me" && wanted.me) throw wanted.me;
    if (path === "status" && wanted.status) throw wanted.status;
    if (path === "me") return { name: "local", scope: "admin", collection: "handbook", model: wanted.model ?? "recorded", version: "" };
    if (path === "status") return { collection: "handbook", documents: documents.length, chunks: 97 };
    if (path === "collections") return { default: "handbook", collections: [{ name: "handbook", documents: documents.length, chunks: 97 }] };
    if (path === "documents") return { total: documents.length, documents };
    const found = recording.documents.find((one) => path === `documents/${one.id}`);
    if (!found) throw problem("UnknownDocument", 404, `No document has the id or source ${path}.`);
    return found;
  }

  async function* stream(path, body, signal) {
    const events = recording.streams[wanted.stream];
    const until = wanted.until ?? events.length;
    const last = typeof until === "number" ? until : events.findLastIndex((event) => event.name === until) + 1;
    yield* events.slice(0, last);
    if (wanted.failed) yield { name: "Failed", values: { problem: { ...wanted.failed }, partial: "" } };
    else if (wanted.end instanceof Problem) throw wanted.end;
    else if (wanted.until !== undefined) {
      await new Promise((_, leave) => signal.addEventListener("abort", () => leave(signal.reason)));
    }
  }

  async function play({ store, session, actions }) {
    if (wanted.set) actions.set(wanted.set);
    if (!wanted.stream) return;
    const events = recording.streams[wanted.stream];
    const question = events[events.length - 1].values.answer.question;
    session.ask(question);
    if (wanted.end === "stop") setTimeout(session.stop, 100);
    if (!wanted.pin) return;
    const unsubscribe = store.subscribe(() => {
      const turn = store.state.turns[0];
      if (turn?.phase !== "done") return;
      unsubscribe();
      const doubtful = turn.answer.citations.find((one) => !one.verified)?.number;
      actions.pin(turn.id, wanted.pin === "unverified" ? doubtful : wanted.pin);
    });
  }

  const unchanged = async () => null;
  return { api: { get, stream, post: unchanged, delete: unchanged, key: () => "", setKey: () => {}, headers: () => ({}), blob: unchanged, base: "" }, play };
}
