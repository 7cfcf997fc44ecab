// @ts-check
// The server's HTTP API: relative to where the page lies, so that it works behind any path of a proxy.

const KEY = "citekite.key";

/** An error that the server explained (RFC 9457), or a connection that failed (status 0). */
export class Problem extends Error {
  constructor({ title, status = 0, detail = "", retryAfter = 0 }) {
    super(detail || title);
    Object.assign(this, { title, status, detail, retryAfter });
  }
}

/**
 * `get`, `post` and `delete` give JSON and throw `Problem`; `stream` yields `{name, values}` of server-sent events.
 * The key lies in sessionStorage, or in localStorage where its owner wants it kept.
 */
export function createApi(base = new URL("../api/v1/", import.meta.url).href) {
  const key = () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";

  const headers = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

  async function send(method, path, { body = undefined, params = {}, signal = undefined } = {}) {
    const url = new URL(path.replace(/^\//, ""), base);
    for (const [name, value] of Object.entries(params)) {
      if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
    }
    const json = body === undefined ? {} : { "Content-Type": "application/json" };
    let reply;
    try {
      reply = await fetch(url, {
        method, signal, headers: { ...headers(), ...json }, body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem({ title: "ConnectionLost", detail: "The server cannot be reached." });
    }
    if (!reply.ok) throw await problemOf(reply);
    return reply;
  }

  const json = async (reply) => (reply.status === 204 ? null : reply.json());

  return {
    base,
    key,
    headers,
    setKey(value, keep = false) {
      sessionStorage.removeItem(KEY);
      localStorage.removeItem(KEY);
      if (value) (keep ? localStorage : sessionStorage).setItem(KEY, value);
    },
    get: async (path, params = {}, signal = undefined) => json(await send("GET", path, { params, signal })),
    post: async (path, body = {}, signal = undefined) => json(await send("POST", path, { body, signal })),
    delete: async (path, params = {}) => json(await send("DELETE", path, { params })),
    /** A file, as a Blob: a plain link would not send the key. */
    blob: async (path, params = {}) => (await send("GET", path, { params })).blob(),
    async *stream(path, body = undefined, signal = undefined) {
      const reply = await send(body === undefined ? "GET" : "POST", path, { body, signal });
      try {
        yield* events(reply.body);
      } catch (error) {
        if (error.name === "AbortError" || error instanceof Problem) throw error;
        throw new Problem({ title: "ConnectionLost", detail: "The connection to the server was lost." });
      }
    },
  };
}

/** A reply that is no success, as a `Problem`; also for one that a proxy wrote. */
export async function problemOf(reply) {
  const body = await reply.json().catch(() => ({}));
  return new Problem({
    title: body.title ?? (reply.statusText || "Error"),
    status: reply.status,
    detail: body.detail || `The server answered with status ${reply.status}.`,
    retryAfter: Number(reply.headers.get("Retry-After")) || 0,
  });
}

/** The events of a byte stream in the format of server-sent events. */
export async function* events(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      // A CR at the end may be half of a line end; it waits for what follows.
      rest = (rest + decoder.decode(value, { stream: true })).replace(/\r\n/g, "\n");
      const parts = rest.split("\n\n");
      rest = parts.pop() ?? "";
      for (const part of parts) {
        const event = parse(part);
        if (event) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parse(part) {
  let name = "message";
  const data = [];
  for (const line of part.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  return data.length ? { name, values: JSON.parse(data.join("\n")) } : null;
}
