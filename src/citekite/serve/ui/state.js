// @ts-check
// What the page knows, and how each event changes it. No DOM here: tests replay recorded streams through `reduce`.

/** A turn that is being answered; the others are "done", "stopped", "lost" (the connection) or "failed". */
const RUNNING = ["searching", "reading", "writing"];

export const initial = Object.freeze({
  route: "#/",
  me: null, // GET /me
  status: null, // GET /status; null while unknown
  empty: false, // nothing has been added to the collection yet
  storeProblem: null, // why the store cannot be reached
  documents: [], // some of the collection's documents, for the first questions
  collection: null, // null: the server's own
  filter: { sources: [] },
  deep: false,
  debug: false,
  dialog: null, // "key" or "help"
  turns: [],
  forgotten: [], // the turns of the last "forget", until the page is left
  shown: null, // the turn whose passages the pane has; null: the last
  pinned: null, // {turn, number}: the passage that is open in its document
  sheet: false, // narrow screens: the pane is open
});

export const isRunning = (turn) => RUNNING.includes(turn?.phase);
export const running = (state) => state.turns.find(isRunning) ?? null;
export const shownTurn = (state) =>
  state.turns.find((turn) => turn.id === state.shown) ?? state.turns[state.turns.length - 1] ?? null;

export function reduce(state, action) {
  switch (action.type) {
    case "set":
      return { ...state, ...action.values };
    case "status":
      return { ...state, status: action.status, storeProblem: null, empty: action.status.documents === 0 };
    case "status failed":
      if (action.problem.title === "UnknownCollection") {
        return { ...state, status: null, storeProblem: null, empty: true };
      }
      return action.problem.status === 401 ? { ...state, dialog: "key" } : { ...state, storeProblem: action.problem };
    case "collection":
      return { ...state, collection: action.name, status: null, documents: [], filter: { sources: [] } };
    case "ask":
      return { ...state, turns: [...state.turns, begun(action)], forgotten: [], shown: null, pinned: null, sheet: false };
    case "ask again":
      return { ...change(state, action.id, (turn) => begun({ ...turn, ...action })), shown: action.id, pinned: null };
    case "events":
      return action.events.reduce((now, event) => follow(now, action.id, event), state);
    case "ended":
      return change(state, action.id, (turn) => ({ ...turn, phase: isRunning(turn) ? action.phase : turn.phase }));
    case "failed":
      return failed(state, action.id, action.problem);
    case "show":
      return { ...state, shown: action.turn, pinned: null, sheet: true };
    case "pin":
      return { ...state, shown: action.turn, pinned: { turn: action.turn, number: action.number }, sheet: true };
    case "unpin":
      return { ...state, pinned: null };
    case "close":
      return { ...state, pinned: null, sheet: false };
    case "forget":
      return { ...state, turns: [], forgotten: state.turns, shown: null, pinned: null, sheet: false };
    case "unforget":
      return { ...state, turns: [...state.forgotten, ...state.turns], forgotten: [] };
    default:
      throw new Error(`no such action: ${action.type}`);
  }
}

function begun({ id, question, collection, filter, deep, at }) {
  return {
    id, question, collection, filter, deep, at,
    phase: "searching", standalone: "", steps: [], hits: [], queries: [], notes: [], text: "", marks: [], answer: null,
    problem: null,
  };
}

function change(state, id, how) {
  return { ...state, turns: state.turns.map((turn) => (turn.id === id ? how(turn) : turn)) };
}

/** One event of the answer's stream, as `POST /ask/stream` sends it; what comes after the end is ignored. */
function follow(state, id, { name, values }) {
  if (name === "Failed") return failed(state, id, values.problem, values.partial);
  return change(state, id, (turn) => {
    if (!isRunning(turn)) return turn;
    switch (name) {
      case "Step":
        return { ...turn, steps: [...turn.steps, values] };
      case "Retrieved":
        return { ...turn, ...values, phase: "reading" };
      case "Delta":
        return { ...turn, text: turn.text + values.text, phase: "writing" };
      case "Cited":
        return { ...turn, marks: [...turn.marks, values], phase: "writing" };
      case "Done":
        return {
          ...turn, phase: "done", answer: values.answer, text: values.answer.text, hits: values.answer.hits,
          steps: values.answer.steps,
        };
      default:
        return turn;
    }
  });
}

function failed(state, id, problem, partial = "") {
  const next = change(state, id, (turn) =>
    isRunning(turn) ? { ...turn, phase: "failed", problem, text: turn.text || partial } : turn,
  );
  if (problem.status === 401) return { ...next, dialog: "key" };
  return problem.title === "StoreError" ? { ...next, storeProblem: problem } : next;
}

/** The numbers that an answer cites, in the order of their first marker. */
export function cited(turn) {
  const marks = turn.answer ? turn.answer.citations : turn.marks;
  return [...new Set(marks.map((mark) => mark.number))];
}

/** The passages as the pane lists them: in rank order while the answer comes, the cited ones first when it is there. */
export function passages(turn) {
  const numbers = cited(turn);
  const all = turn.hits.map((hit, index) => ({ hit, number: index + 1, cited: numbers.includes(index + 1) }));
  if (isRunning(turn)) return { first: all, folded: [] };
  const first = numbers.map((number) => all[number - 1]).filter(Boolean);
  return first.length ? { first, folded: all.filter((one) => !one.cited) } : { first: all, folded: [] };
}

export const citationOf = (turn, number) => turn.answer?.citations.find((one) => one.number === number) ?? null;

/** What the server is told of the conversation; it keeps none itself. */
export const history = (turns) =>
  turns
    .filter((turn) => turn.phase === "done" && turn.answer.outcome === "answered")
    .slice(-6)
    .map((turn) => ({ question: turn.question, answer: turn.text.slice(0, 4000) }));

/** The body of `POST /ask/stream` for a turn. */
export function askBody(turn, turns) {
  const earlier = turns.slice(0, turns.findIndex((one) => one.id === turn.id));
  const body = { question: turn.question, history: history(earlier), deep: turn.deep, filter: turn.filter };
  return turn.collection ? { ...body, collection: turn.collection } : body;
}

export const mayWrite = ({ me }) => !me || me.scope !== "read";
export const nameOf = (state) => state.collection ?? state.status?.collection ?? state.me?.collection ?? "the collection";

/** How far the text ends in whole sentences from `from` on: what may be announced, once. */
export function sentencesEnd(text, from, finished) {
  if (finished) return text.length;
  const ends = /[.!?](?:\s*\[\d{1,3}\])*(?=\s)|[。！？]|\n/g;
  let end = from;
  ends.lastIndex = from;
  for (let match; (match = ends.exec(text)); ) end = match.index + match[0].length;
  return end;
}

/** Questions to begin with, made from titles that are really there. */
export function suggestions(documents, count = 3) {
  const telling = documents.filter((one) => !/\b(readme|license|changelog|index)\b[^/]*$/i.test(one.source ?? ""));
  const titles = [...new Set((telling.length ? telling : documents).map((one) => (one.title ?? "").trim()))].filter(
    (title) => title.length > 2 && title.length < 70 && !/^readme\b|\.\w{2,4}$/i.test(title),
  );
  const asking = titles.filter((title) => /\?$/.test(title) || ASKS.test(title));
  const others = titles.filter((title) => !asking.includes(title));
  const spread = [...Array(count).keys()].map((at) => others[Math.floor((at * others.length) / count)]).filter(Boolean);
  return [...asking, ...new Set(spread)].slice(0, count).map(asQuestion);
}

const ASKS = /^(?:how to|(?:how|what|why|where|when|which|who) (?:is|are|was|were|do|does|did|can|should))\b/i;

function asQuestion(title) {
  if (title.endsWith("?")) return title;
  if (/\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Hangul}/u.test(title)) return `${title}?`; // no English around it
  if (/^how to /i.test(title)) return `How do I ${title.slice(7)}?`;
  if (ASKS.test(title)) return `${title}?`;
  const telling = /^(?:how|what|why|where|when|which|who) /i.test(title); // "What Milvus is"
  return telling ? `Explain ${title[0].toLowerCase()}${title.slice(1)}` : `What is said about ${title.replace(/^about /i, "")}?`;
}
