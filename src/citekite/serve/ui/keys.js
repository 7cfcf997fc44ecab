// @ts-check
// The keys of the page: which one means what, with no DOM, so that the help lists exactly these.

export const KEYS = [
  ["/", "focus", "Go to the question"],
  ["Enter", null, "Send"],
  ["Shift Enter", null, "New line"],
  ["Escape", "escape", "Stop the answer, or close what is open"],
  ["1 – 9", "cite", "Open a citation of the answer"],
  ["j", "next citation", "Next citation"],
  ["k", "previous citation", "Previous citation"],
  ["]", "next passage", "Next passage"],
  ["[", "previous passage", "Previous passage"],
  ["c", "copy", "Copy the answer with its sources"],
  ["?", "help", "Show this list"],
];

const BY_KEY = Object.fromEntries(KEYS.filter(([, action]) => action).map(([key, action]) => [key, action]));

/** What a key asks for: `{name}` or `{name: "cite", number}`, or null where it is text or belongs to the browser. */
export function keyAction({ key, ctrlKey, metaKey, altKey, isComposing }, { typing = false, letters = true } = {}) {
  if (ctrlKey || metaKey || altKey || isComposing) return null;
  if (key === "Escape") return { name: "escape" };
  if (typing || !letters) return null;
  if (/^[1-9]$/.test(key)) return { name: "cite", number: Number(key) };
  return BY_KEY[key] ? { name: BY_KEY[key] } : null;
}

/** The neighbour of a number in a list, from the first (or last) where there is none yet. */
export function neighbour(numbers, current, step) {
  if (!numbers.length) return null;
  const at = numbers.indexOf(current);
  if (at < 0) return step > 0 ? numbers[0] : numbers[numbers.length - 1];
  return numbers[Math.min(Math.max(at + step, 0), numbers.length - 1)];
}
