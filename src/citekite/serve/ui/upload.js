// @ts-check
// Adding documents: a queue of files and addresses, each its own request and job, so that one that fails stops no other.
import { icon } from "./icons.js";
import { problemOf } from "./api.js";
import { plain } from "./session.js";
import { mayWrite, nameOf } from "./state.js";
import { sheet } from "./sheets.js";
import { html, useEffect, useRef, useState } from "./view.js";

await sheet("./library.css");

const AT_ONCE = 3; // a browser keeps six connections to a server, and a question needs one too
const POLL_MS = 1000;
const ENDED = ["ready", "failed", "cancelled"];
const RETRIED = [429, 503]; // the server says when to come again

export const hasEnded = (row) => ENDED.includes(row.state);

/** What a row says of where it is. */
export function describe(row) {
  switch (row.state) {
    case "uploading":
      return row.total ? `uploading ${Math.floor((100 * row.sent) / row.total)} %` : "uploading";
    case "working":
      return row.progress ? `${row.progress.stage}${counted(row.progress)}` : "waiting for the server";
    case "ready":
      return row.report && !row.report.new && !row.report.changed ? "ready, as it was before" : "ready";
    case "queued":
      return row.reason || "queued";
    default:
      return row.state;
  }
}

const counted = ({ done, total }) => (total ? ` ${done}/${total}` : done ? ` ${done}` : "");

/** How much of a row is done, from 0 to 1: a third is the way to the server, and reading is quicker than embedding. */
export function share(row) {
  const third = 1 / 3;
  if (row.state === "uploading") return row.total ? (row.sent / row.total) * third : 0;
  if (row.state !== "working") return row.state === "ready" ? 1 : 0;
  const { stage, done, total } = row.progress ?? {};
  const part = total ? done / total : 0;
  return stage === "reading" ? third + (part * third) / 2 : stage ? third * 1.5 + part * third * 1.5 : third;
}

/**
 * The queue. `add(items, {collection, access})` takes `{name, file}`, `{name, url}` and `{name, sample: true}`;
 * `subscribe` tells of each change, `onReady` is called when a document has come in.
 */
export function createUploads({ api, onReady, now = Date.now, later = setTimeout }) {
  let rows = [];
  let next = 0;
  const readers = new Set();
  const running = new Map();

  const tell = () => readers.forEach((read) => read());
  const row = (id) => rows.find((one) => one.id === id);
  function change(id, values) {
    rows = rows.map((one) => (one.id === id ? { ...one, ...values } : one));
    tell();
  }

  function add(items, { collection = null, access = [] } = {}) {
    rows = [...rows, ...items.map((item) => ({ ...item, id: (next += 1), collection, access, ...fresh() }))];
    tell();
    fill();
  }

  function fill() {
    for (const one of rows) {
      if (running.size >= AT_ONCE) return;
      if (one.state === "queued" && one.after <= now() && !running.has(one.id)) run(one.id);
    }
  }

  async function run(id) {
    const stop = new AbortController();
    running.set(id, stop);
    try {
      change(id, { state: "uploading", reason: "" });
      const job = await send(row(id), stop.signal);
      change(id, { state: "working", job: job.id });
      if (row(id).stopping) await api.post(`jobs/${job.id}/cancel`);
      finish(id, await follow(id, job.id));
    } catch (error) {
      if (error.name === "AbortError") change(id, { state: "cancelled" });
      else if (RETRIED.includes(error.status)) wait(id, error);
      else change(id, { state: "failed", reason: plain(error).detail });
    } finally {
      running.delete(id);
      fill();
    }
  }

  function wait(id, error) {
    const seconds = Math.max(1, error.retryAfter);
    change(id, { state: "queued", reason: `the server is busy: again in ${seconds} s`, after: now() + seconds * 1000 });
    later(fill, seconds * 1000 + 5);
  }

  function send(one, signal) {
    const collection = one.collection ? { collection: one.collection } : {};
    if (one.url) return api.post("documents/url", { url: one.url, access: one.access, ...collection }, signal);
    if (one.sample) return api.post("documents/sample", collection, signal);
    return sendFile(one, signal);
  }

  /** `fetch` tells nothing of how much is sent, so files go by XMLHttpRequest. */
  function sendFile(one, signal) {
    const form = new FormData();
    form.append("files", one.file, one.name);
    one.access.forEach((group) => form.append("access", group));
    if (one.collection) form.append("collection", one.collection);
    return new Promise((done, fail) => {
      const request = new XMLHttpRequest();
      request.open("POST", new URL("documents", api.base));
      Object.entries(api.headers()).forEach(([name, value]) => request.setRequestHeader(name, value));
      request.upload.onprogress = ({ loaded, total }) => change(one.id, { sent: loaded, total });
      request.onload = () => {
        if (request.status < 300) return done(JSON.parse(request.responseText));
        const headers = { "Retry-After": request.getResponseHeader("Retry-After") ?? "" };
        return problemOf(new Response(request.responseText, { status: request.status, headers })).then(fail);
      };
      request.onerror = () => fail(new Error("The connection to the server was lost."));
      request.onabort = () => fail(new DOMException("", "AbortError"));
      signal.addEventListener("abort", () => request.abort());
      request.send(form);
    });
  }

  /** The job when it has ended; it is asked for again where the stream of its progress breaks. */
  async function follow(id, job) {
    for (;;) {
      try {
        for await (const { name, values } of api.stream(`jobs/${job}/events`)) {
          if (name === "Progress") change(id, { progress: values });
          if (name === "Finished") return values.job;
        }
      } catch (error) {
        if (error.status) throw error;
      }
      await new Promise((go) => later(go, POLL_MS));
      const found = await api.get(`jobs/${job}`).catch(() => null);
      if (found?.ended) return found;
    }
  }

  function finish(id, { state, report, problem }) {
    const failures = report?.failures ?? [];
    if (state === "done" && !failures.length) change(id, { state: "ready", report, file: undefined });
    else if (state === "cancelled") change(id, { state: "cancelled" });
    else {
      const reason = failures.map((one) => one.reason).join("; ") || problem?.detail;
      change(id, { state: "failed", reason: reason || "the server was stopped while it worked on this" });
    }
    if (state === "done") onReady(row(id));
  }

  return {
    get rows() {
      return rows;
    },
    add,
    subscribe(read) {
      readers.add(read);
      return () => readers.delete(read);
    },
    retry(id) {
      change(id, fresh());
      fill();
    },
    async cancel(id) {
      const { state, job } = row(id);
      if (state === "queued") change(id, { state: "cancelled" });
      else if (state === "uploading") {
        change(id, { stopping: true });
        running.get(id)?.abort();
      } else if (job) await api.post(`jobs/${job}/cancel`);
      fill();
    },
    clear() {
      rows = rows.filter((one) => !hasEnded(one));
      tell();
    },
  };
}

const fresh = () => ({
  state: "queued", reason: "", sent: 0, total: 0, after: 0, job: null, progress: null, report: null, stopping: false,
});

const queues = new WeakMap();

/** The queue of this page: one for as long as it is open, whatever part of it is shown. */
export function uploadsOf(api, actions) {
  if (!queues.has(api)) queues.set(api, createUploads({ api, onReady: () => actions.refresh() }));
  return queues.get(api);
}

export function useUploads(api, actions) {
  const uploads = uploadsOf(api, actions);
  const [, redraw] = useState(0);
  useEffect(() => uploads.subscribe(() => redraw((count) => count + 1)), [uploads]);
  return uploads;
}

/** The files of a drop, those in dropped folders too; hidden ones are left where they are. */
export async function filesOf(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.());
  if (!entries.length || entries.includes(null) || entries.includes(undefined)) return [...transfer.files].map(asItem);
  return (await Promise.all(entries.map(inside))).flat();
}

export const asItem = (file) => ({ name: file.name, file });

async function inside(entry) {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) return [asItem(await new Promise((done, fail) => entry.file(done, fail)))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const part = await new Promise((done, fail) => reader.readEntries(done, fail)); // it gives a hundred at a time
    if (!part.length) return (await Promise.all(found.map(inside))).flat();
    found.push(...part);
  }
}

/** The whole page takes dropped files; while some are held over it, it says so. */
function DropAnywhere({ api, state, actions }) {
  const uploads = uploadsOf(api, actions);
  const [over, setOver] = useState(false);
  const collection = useRef(null);
  collection.current = state.collection;
  const allowed = mayWrite(state);
  useEffect(() => {
    if (!allowed) return undefined;
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    let depth = 0; // entering a child leaves its parent
    const listeners = {
      dragenter: (event) => holdsFiles(event) && ((depth += 1), setOver(true)),
      dragleave: (event) => holdsFiles(event) && (depth = Math.max(0, depth - 1)) === 0 && setOver(false),
      dragover: (event) => holdsFiles(event) && event.preventDefault(),
      drop: async (event) => {
        if (!holdsFiles(event)) return;
        event.preventDefault();
        depth = 0;
        setOver(false);
        uploads.add(await filesOf(event.dataTransfer), { collection: collection.current });
      },
    };
    Object.entries(listeners).forEach(([name, listener]) => addEventListener(name, listener));
    return () => Object.entries(listeners).forEach(([name, listener]) => removeEventListener(name, listener));
  }, [allowed, uploads]);
  return over && html`<div class="drop-anywhere"><p>${icon("add")}Drop to add to <strong>${nameOf(state)}</strong></p></div>`;
}

/** A file picker and a field for addresses; `big` is the zone of an empty library. */
export function AddDocuments({ api, state, actions, big = false }) {
  const uploads = uploadsOf(api, actions);
  const [url, setUrl] = useState("");
  const [groups, setGroups] = useState("");
  const picker = useRef(/** @type {any} */ (null));
  const options = () => ({ collection: state.collection, access: groups.split(",").map((one) => one.trim()).filter(Boolean) });
  const picked = () => {
    uploads.add([...picker.current.files].map(asItem), options());
    picker.current.value = "";
  };
  const addUrl = (event) => {
    event.preventDefault();
    if (!url.trim()) return;
    uploads.add([{ name: url.trim(), url: url.trim() }], options());
    setUrl("");
  };
  return html`<div class=${`add${big ? " big" : ""}`}>
    <div class="add-files">
      ${icon("add")}
      <p>Drop files or folders anywhere</p>
      <button type="button" class=${`button${big ? " primary" : ""}`} onClick=${() => picker.current.click()}>Choose files</button>
      <input type="file" multiple hidden ref=${picker} onChange=${picked} aria-label="Files to add" />
    </div>
    <form class="add-url" onSubmit=${addUrl}>
      <input class="field" type="url" inputmode="url" aria-label="Address of a page or file" placeholder="https://… a page or a file" value=${url} onInput=${(event) => setUrl(event.currentTarget.value)} />
      <button type="submit" class="button" disabled=${!url.trim()}>Add</button>
    </form>
    ${state.me?.keys_required && !state.me.groups && html`<label class="add-groups">Visible to
      <input class="field" type="text" placeholder="everyone, or groups: sales, legal" value=${groups} onInput=${(event) => setGroups(event.currentTarget.value)} /></label>`}
  </div>`;
}

/** What belongs to every page: dropped files, and how far they are. */
export const Adding = (part) => html`<${DropAnywhere} ...${part} /><${UploadTray} ...${part} />`;

/** What is being added: a row for each file, out of the way in a corner. */
function UploadTray({ api, actions }) {
  const uploads = useUploads(api, actions);
  const [open, setOpen] = useState(true);
  const { rows } = uploads;
  if (!rows.length) return null;
  const ended = rows.filter(hasEnded);
  const failed = rows.filter((row) => row.state === "failed").length;
  const title = ended.length < rows.length
    ? `Adding ${rows.length - ended.length} of ${rows.length}`
    : `${rows.filter((row) => row.state === "ready").length} added${failed ? `, ${failed} failed` : ""}`;
  const shown = [...rows].sort((one, other) => rank(one) - rank(other)).slice(0, 100);
  return html`<section class="tray" aria-label="Added documents">
    <header>
      <h2 role="status">${title}</h2>
      ${ended.length === rows.length
        ? html`<button type="button" class="tool" aria-label="Close the list" title="Close" onClick=${uploads.clear}>${icon("close")}</button>`
        : html`<button type="button" class="tool" aria-label=${open ? "Fold the list" : "Show the list"} aria-expanded=${open} onClick=${() => setOpen(!open)}>${icon("down")}</button>`}
    </header>
    ${open && html`<ul tabindex="0" aria-label="Files">${shown.map((row) => html`<${Row} key=${row.id} ...${{ row, uploads }} />`)}
      ${rows.length > shown.length && html`<li class="muted">and ${rows.length - shown.length} more</li>`}</ul>`}
  </section>`;
}

const rank = ({ state }) => ["failed", "working", "uploading", "queued", "ready", "cancelled"].indexOf(state);

function Row({ row, uploads }) {
  return html`<li class=${`upload ${row.state}`} data-state=${row.state}>
    <span class="upload-name" title=${row.name}>${row.name}</span>
    <span class="upload-state">${row.state === "ready" && icon("done")}${describe(row)}</span>
    ${row.state === "failed" && html`<span class="upload-reason">${row.reason}</span>`}
    ${!hasEnded(row) && html`<progress max="1" value=${share(row)} aria-label=${`Progress of ${row.name}`}></progress>`}
    ${hasEnded(row)
      ? row.state !== "ready" && html`<button type="button" class="quiet" onClick=${() => uploads.retry(row.id)}>Retry</button>`
      : html`<button type="button" class="quiet" aria-label=${`Cancel ${row.name}`} onClick=${() => uploads.cancel(row.id)}>Cancel</button>`}
  </li>`;
}
