// @ts-check
// Every state of the page by its address, for tests and screenshots: `/?demo=NAME` plays a recorded stream.
import { Problem } from "./api.js";
import { uploadsOf } from "./upload.js";

const problem = (title, status, detail, retryAfter = 0) => new Problem({ title, status, detail, retryAfter });
const DOWN = problem("StoreError", 503, "Milvus at http://127.0.0.1:19530 cannot be reached: connection refused.");
const NOTHING = problem("UnknownCollection", 404, "There is no collection 'handbook' yet.");
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
  "empty-library": { status: NOTHING },
  "empty-read": { status: NOTHING, scope: "read" },
  documents: { route: "#/documents" },
  "documents-read": { route: "#/documents", scope: "read" },
  document: { route: "#/documents?id=" },
  uploads: { route: "#/documents", uploads: true },
  map: { route: "#/map" },
  "map-question": { route: "#/map?q=Where+does+Milvus+keep+its+data%3F" },
  "map-large": { route: "#/map", points: 5000 },
};

const QUEUED = ["ready", "failed", "cancelled", "uploading", "reading", "embedding", "queued", "queued-too"];
const never = new Promise(() => {});

/** What the server tells of the upload that is named after the state that it comes to. */
async function* job(state) {
  const report = { new: 1, changed: 0, failures: [] };
  if (state === "reading") yield { name: "Progress", values: { stage: "reading", done: 1, total: 4, unit: "files" } };
  else if (state === "embedding") yield { name: "Progress", values: { stage: "embedding", done: 40, total: 120, unit: "chunks" } };
  else if (state === "cancelled") return yield { name: "Finished", values: { job: { state: "cancelled" } } };
  else if (state === "failed") report.failures = [{ reason: "the PDF cannot be read: it is encrypted, and its password is not known" }];
  if (state === "ready" || state === "failed") return yield { name: "Finished", values: { job: { state: "done", report } } };
  return never;
}

/** A map of the recorded documents: a cloud for each, its places made from the golden angle, so always the same. */
function mapOf(documents, count) {
  const chunks = documents.flatMap((one, part) => one.chunks.map((chunk) => ({ ...chunk, one, part })));
  const points = Array.from({ length: count || chunks.length }, (_, index) => {
    const { id, headings, one, part } = chunks[index % chunks.length];
    const [turn, far] = [index * 2.39996, 0.3 * Math.sqrt((index * 0.618) % 1)];
    const middle = [Math.cos(part * 0.785), Math.sin(part * 0.785)].map((at) => at * (0.45 + 0.2 * (part % 2)));
    return { id, document_id: one.id, x: middle[0] + far * Math.cos(turn), y: middle[1] + far * Math.sin(turn), title: one.title, heading: headings[headings.length - 1] };
  });
  const sources = documents.map((one, part) => ({ document_id: one.id, source: one.source, title: one.title, chunks: one.chunks.length, part }));
  const parts = sources.map((one) => ({ name: one.title, path: one.source, documents: 1, chunks: one.chunks }));
  return { points, sources, parts, chunks: points.length, explained: 0.12 };
}

/** The api of a demonstration, and `play`, which asks what was recorded. */
export async function demo(name) {
  const wanted = DEMOS[name];
  if (!wanted) throw new Error(`no such demonstration: ${name}; there are ${Object.keys(DEMOS).join(", ")}`);
  const recording = await (await fetch(new URL("./demo-recording.json", import.meta.url))).json();
  const documents = recording.documents.map(({ id, source, title, chunks }) => ({ id, source, title, chunks: chunks.length }));

  async function get(path) {
    if (path === "me" && wanted.me) throw wanted.me;
    if (path === "status" && wanted.status) throw wanted.status;
    if (path === "me") return { name: "local", scope: wanted.scope ?? "admin", collection: "handbook", model: wanted.model ?? "recorded", version: "" };
    if (path === "status") return { collection: "handbook", documents: documents.length, chunks: 97 };
    if (path === "collections") return { default: "handbook", collections: [{ name: "handbook", documents: documents.length, chunks: 97 }] };
    if (path === "map") return mapOf(recording.documents, wanted.points);
    if (path === "documents") return { total: documents.length, documents };
    const found = recording.documents.find((one) => path === `documents/${one.id}`);
    if (!found) throw problem("UnknownDocument", 404, `No document has the id or source ${path}.`);
    return found;
  }

  async function* stream(path, body, signal) {
    if (path.startsWith("jobs/")) return yield* job(path.split("/")[1]);
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
    if (wanted.route) location.hash = wanted.route.replace(/id=$/, `id=${documents[0].id}`);
    if (wanted.uploads) uploadsOf(demoApi, actions).add(QUEUED.map((state) => ({ name: `${state}.pdf`, url: state })));
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

  async function post(path, body) {
    if (path === "documents/url") return body.url === "uploading" ? never : { id: body.url };
    if (path !== "map/locate") return null;
    const { hits } = recording.streams.answered.find((event) => event.name === "Retrieved").values;
    const { points } = mapOf(recording.documents);
    const places = hits.map((hit) => points.find((point) => point.id === hit.id) ?? points[0]);
    return { x: places[0].x + 0.1, y: places[0].y + 0.15, hits, points: places.map(({ x, y }) => ({ x, y })) };
  }

  const unchanged = async () => null;
  const demoApi = { get, stream, post, delete: unchanged, key: () => "", setKey: () => {}, headers: () => ({}), blob: unchanged, base: "" };
  return { api: demoApi, play };
}
