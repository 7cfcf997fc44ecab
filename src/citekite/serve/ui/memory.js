// @ts-check
// The conversation of this browser: kept in localStorage, capped, forgotten when its owner says so.
import { isRunning } from "./state.js";

const CHAT = "citekite.chat";
const MOST_TURNS = 30;
const MOST_CHARACTERS = 1_500_000;

/** The turns as they are kept: the last ones that fit; what still runs counts as stopped. */
export function kept(turns) {
  let last = turns.slice(-MOST_TURNS).map((turn) => ({
    ...turn,
    phase: isRunning(turn) ? "stopped" : turn.phase,
    hits: turn.answer ? [] : turn.hits, // the answer has them
  }));
  let text = JSON.stringify(last);
  while (last.length && text.length > MOST_CHARACTERS) {
    last = last.slice(1);
    text = JSON.stringify(last);
  }
  return text;
}

export function remember(turns, storage = localStorage) {
  try {
    if (turns.length) storage.setItem(CHAT, kept(turns));
    else storage.removeItem(CHAT);
  } catch {
    // A full or forbidden storage only means that a reload starts empty.
  }
}

export function recall(storage = localStorage) {
  try {
    const turns = JSON.parse(storage.getItem(CHAT) ?? "[]");
    return turns
      .filter((turn) => turn?.id && typeof turn.question === "string")
      .map((turn) => ({ ...turn, hits: turn.answer?.hits ?? turn.hits }));
  } catch {
    return [];
  }
}
