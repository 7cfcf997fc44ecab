// The reducer over recorded streams, and what the page derives from its state.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import {
  askBody, cited, history, initial, isRunning, passages, reduce, running, sentencesEnd, shownTurn, suggestions,
} from "../../src/citekite/serve/ui/state.js";

const recording = JSON.parse(readFileSync(new URL("../../src/citekite/serve/ui/demo-recording.json", import.meta.url), "utf-8"));

const asked = (state = initial, id = "1", values = {}) =>
  reduce(state, { type: "ask", id, question: "Where?", collection: null, filter: { sources: [] }, deep: false, at: "", ...values });
const play = (state, events, id = "1") => reduce(state, { type: "events", id, events });
const only = (state) => state.turns[0];

test("a question begins to be searched, and is the one that runs", () => {
  const state = asked();
  assert.equal(only(state).phase, "searching");
  assert.equal(running(state), only(state));
  assert.equal(shownTurn(state), only(state));
});

for (const [name, events] of Object.entries(recording.streams)) {
  test(`the recorded stream "${name}" ends in its answer, event by event and all at once`, () => {
    const one = events.reduce((state, event) => play(state, [event]), asked());
    const all = play(asked(), events);
    assert.deepEqual(one, all);
    const { answer } = events[events.length - 1].values;
    assert.equal(only(all).phase, "done");
    assert.deepEqual(only(all).answer, answer);
    assert.equal(only(all).text, answer.text);
  });

  test(`the deltas of "${name}" joined are the text of its answer`, () => {
    const before = play(asked(), events.slice(0, -1));
    assert.equal(only(before).text, events[events.length - 1].values.answer.text);
    assert.equal(only(before).phase, "writing");
  });
}

test("the passages are there before the first word", () => {
  const state = play(asked(), recording.streams.answered.slice(0, 1));
  assert.equal(only(state).phase, "reading");
  assert.equal(only(state).hits.length, 6);
  assert.equal(only(state).text, "");
});

test("the passages keep their order while the answer comes; then the cited ones are first", () => {
  const events = recording.streams.answered;
  const writing = passages(only(play(asked(), events.slice(0, -1))));
  assert.deepEqual(writing.first.map((one) => one.number), [1, 2, 3, 4, 5, 6]);
  const done = passages(only(play(asked(), events)));
  assert.deepEqual(done.first.map((one) => one.number), [1, 3, 2]);
  assert.deepEqual(done.folded.map((one) => one.number), [4, 5, 6]);
  assert.ok(done.first.every((one) => one.cited) && done.folded.every((one) => !one.cited));
});

test("an answer without citations lists all of its passages", () => {
  const turn = only(play(asked(), recording.streams.refused));
  assert.deepEqual(cited(turn), []);
  assert.equal(passages(turn).first.length, turn.hits.length);
});

test("what comes after the end of an answer changes nothing", () => {
  const stopped = reduce(play(asked(), recording.streams.answered.slice(0, 3)), { type: "ended", id: "1", phase: "stopped" });
  assert.deepEqual(play(stopped, recording.streams.answered.slice(3)), stopped);
  assert.deepEqual(reduce(stopped, { type: "ended", id: "1", phase: "lost" }), stopped);
});

test("a stopped answer keeps its text", () => {
  const writing = play(asked(), recording.streams.answered.slice(0, 8));
  const stopped = reduce(writing, { type: "ended", id: "1", phase: "stopped" });
  assert.equal(only(stopped).phase, "stopped");
  assert.equal(only(stopped).text, only(writing).text);
  assert.equal(running(stopped), null);
});

test("a failure keeps the text that came, and says what the server said", () => {
  const problem = { title: "EndpointError", status: 502, detail: "no model" };
  const state = play(play(asked(), recording.streams.answered.slice(0, 4)), [{ name: "Failed", values: { problem, partial: "" } }]);
  assert.equal(only(state).phase, "failed");
  assert.notEqual(only(state).text, "");
  assert.deepEqual(only(state).problem, problem);
});

test("a 401 asks for the key, and a store that is away shows in the header until its status is back", () => {
  assert.equal(reduce(asked(), { type: "failed", id: "1", problem: { title: "KeyRequired", status: 401 } }).dialog, "key");
  const away = reduce(asked(), { type: "failed", id: "1", problem: { title: "StoreError", status: 503 } });
  assert.equal(away.storeProblem.title, "StoreError");
  const back = reduce(away, { type: "status", status: { documents: 3 } });
  assert.equal(back.storeProblem, null);
  assert.equal(back.empty, false);
});

test("a collection that does not exist yet is an empty library, not an error", () => {
  const state = reduce(initial, { type: "status failed", problem: { title: "UnknownCollection", status: 404 } });
  assert.equal(state.empty, true);
  assert.equal(state.storeProblem, null);
});

test("to ask again takes the place of the answer and of its pin", () => {
  const pinned = reduce(play(asked(), recording.streams.answered), { type: "pin", turn: "1", number: 2 });
  const again = reduce(pinned, { type: "ask again", id: "1", at: "later" });
  assert.equal(again.turns.length, 1);
  assert.equal(only(again).phase, "searching");
  assert.equal(only(again).question, "Where?");
  assert.equal(again.pinned, null);
});

test("forget leaves no turn, and can be taken back until the next question", () => {
  const before = play(asked(), recording.streams.answered);
  const state = reduce(before, { type: "forget" });
  assert.deepEqual([state.turns, state.shown, state.pinned], [[], null, null]);
  assert.deepEqual(reduce(state, { type: "unforget" }).turns, before.turns);
  assert.deepEqual(asked(state).forgotten, []);
});

test("the server is told the answered turns before the question, and nothing of refused ones", () => {
  let state = play(asked(), recording.streams.answered);
  state = play(asked(state, "2"), recording.streams.refused, "2");
  state = asked(state, "3", { question: "And then?", collection: "papers", filter: { sources: ["a.md"] }, deep: true });
  const body = askBody(state.turns[2], state.turns);
  assert.deepEqual(body.history.map((turn) => turn.question), ["Where?"]);
  assert.equal(body.history[0].answer, state.turns[0].text);
  assert.deepEqual([body.question, body.collection, body.filter.sources, body.deep], ["And then?", "papers", ["a.md"], true]);
  assert.equal("collection" in askBody(state.turns[0], state.turns), false);
  assert.deepEqual(history([]), []);
});

test("sentences are announced when they are whole, each once", () => {
  const text = "Kites have forked tails [1]. They mig";
  const end = sentencesEnd(text, 0, false);
  assert.equal(text.slice(0, end), "Kites have forked tails [1].");
  assert.equal(sentencesEnd(text, end, false), end);
  assert.equal(sentencesEnd(text, end, true), text.length);
  assert.equal(sentencesEnd("Version 3.2 keeps", 0, false), 0);
  assert.equal(sentencesEnd("红鸢有叉尾。它", 0, false), 6);
});

test("the first questions are made of titles that are there", () => {
  const titles = (...all) => all.map((title) => ({ title }));
  assert.deepEqual(suggestions(titles("Owls", "Why do kites soar?", "notes.txt", "README")), ["Why do kites soar?", "What is said about Owls?"]);
  assert.equal(suggestions(titles(..."abcdefgh".split("").map((one) => `Title ${one}`))).length, 3);
  assert.deepEqual(suggestions(titles("How to bake", "Where Milvus keeps its data", "What is a crane")), [
    "How do I bake?", "What is a crane?", "Explain where Milvus keeps its data",
  ]);
  assert.deepEqual(suggestions([]), []);
});

test("an unknown action is an error", () => {
  assert.throws(() => reduce(initial, { type: "no such" }), /no such action/);
  assert.equal(isRunning(undefined), false);
});
