// @ts-check
// The picture of a map: where each point lies on the screen, what is drawn, what is under the pointer. No Preact here.

export const COLOURS = 8; // parts with a colour of their own; the others share a grey
const MOST_SCALE = 60;
const TAU = 2 * Math.PI;

/** The shape that tells a part from the others without its colour, as a path in a circle of radius 1. */
export const SHAPES = ["circle", "square", "triangle", "diamond"];
export const shapeOf = (part) => (part < COLOURS ? SHAPES[part % SHAPES.length] : "circle");

/** A view that shows all of the points, with room around them; `scale` is pixels for one unit of the map. */
export function fitted(points, width, height, room = 0.12) {
  const [left, right] = extent(points.map((one) => one.x));
  const [low, high] = extent(points.map((one) => one.y));
  const across = Math.max(right - left, 0.05);
  const up = Math.max(high - low, 0.05);
  const scale = Math.min((width * (1 - room)) / across, (height * (1 - room)) / up);
  return { x: (left + right) / 2, y: (low + high) / 2, scale };
}

const extent = (values) => (values.length ? [Math.min(...values), Math.max(...values)] : [-1, 1]);

export const toScreen = (view, width, height, { x, y }) => [
  width / 2 + (x - view.x) * view.scale, height / 2 - (y - view.y) * view.scale,
];

/** The view after a zoom in which what lies at a place of the screen stays there. */
export function zoomed(view, base, factor, width, height, left = width / 2, top = height / 2) {
  const scale = Math.min(Math.max(view.scale * factor, base.scale * 0.5), base.scale * MOST_SCALE);
  const [dx, dy] = [(left - width / 2) / view.scale, (height / 2 - top) / view.scale];
  const by = 1 - view.scale / scale;
  return { x: view.x + dx * by, y: view.y + dy * by, scale };
}

export const panned = (view, dx, dy) => ({ ...view, x: view.x - dx / view.scale, y: view.y + dy / view.scale });

/** Part of the way from one view to another; the scale grows evenly to the eye. */
export function between(from, to, share) {
  const eased = 1 - (1 - share) ** 3;
  const scale = from.scale * (to.scale / from.scale) ** eased;
  return { x: from.x + (to.x - from.x) * eased, y: from.y + (to.y - from.y) * eased, scale };
}

/** The point nearest to a place of the screen, within so many pixels; parts that are not shown are passed over. */
export function nearest(points, view, width, height, left, top, within, shows) {
  let best = null;
  let least = within ** 2;
  for (const point of points) {
    if (!shows(point)) continue;
    const [x, y] = toScreen(view, width, height, point);
    const distance = (x - left) ** 2 + (y - top) ** 2;
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

/** The name of each group of points at the middle of it (the median: a few that lie far away do not move it). */
export function labelled(points, groupOf, nameOf) {
  const groups = new Map();
  for (const point of points) {
    const group = groupOf(point);
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(point);
  }
  return [...groups].map(([group, members]) => ({
    group, text: nameOf(group), weight: members.length, part: members[0].part,
    x: median(members.map((one) => one.x)), y: median(members.map((one) => one.y)),
  })).sort((one, other) => other.weight - one.weight);
}

const median = (values) => values.sort((one, other) => one - other)[values.length >> 1];

/**
 * Draw all of it. `scene` has points, labels, hits, star and what is emphasised; `colours` are those of the theme;
 * `points` comes from `createPoints`; while the view is `moving`, its picture is shifted and scaled, and not drawn anew.
 */
export function paint(canvas, scene, view, colours, points, moving) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const place = (point) => toScreen(view, width, height, point);
  const radius = pointRadius(scene, view);
  points(pen, scene, view, colours, { ratio, width, height }, moving);
  paintLabels(pen, scene, view, place, colours, width, height);
  if (scene.star) paintHits(pen, scene, place, radius, colours);
  if (scene.hovered) ring(pen, place(scene.hovered), radius + 4, colours.ink, 2);
}

function pointRadius(scene, view) {
  const few = Math.min(Math.max(2600 / (scene.points.length + 500), 0.85), 2.2);
  const near = Math.min((view.scale / scene.base.scale) ** 0.4, 2.4);
  return 2.9 * few * Math.max(near, 0.8);
}

const MARGIN = 0.3; // of the width and the height: how much more than is seen the picture of the points holds

/** The points of a map as one picture, which is drawn anew only where it no longer serves: 5,000 of them take 20 ms. */
export function createPoints() {
  const picture = new OffscreenCanvas(1, 1);
  let drawn = null;
  return (pen, scene, view, colours, size, moving) => {
    const key = [scene.points, scene.only, scene.star, colours, size.ratio, size.width, size.height];
    const same = drawn && key.every((one, index) => one === drawn.key[index]);
    if (!same || !(moving ? serves(drawn.view, view, size) : equal(drawn.view, view))) {
      picture.width = Math.round(size.width * (1 + 2 * MARGIN) * size.ratio);
      picture.height = Math.round(size.height * (1 + 2 * MARGIN) * size.ratio);
      const brush = picture.getContext("2d");
      brush.setTransform(size.ratio, 0, 0, size.ratio, size.width * MARGIN * size.ratio, size.height * MARGIN * size.ratio);
      paintPoints(brush, scene, view, colours, size);
      drawn = { key, view };
    }
    pen.drawImage(picture, ...frame(drawn.view, view, size));
  };
}

/** Where a picture that was drawn for one view lies in another: left, top, width, height. */
function frame(drawn, view, { width, height }) {
  const by = view.scale / drawn.scale;
  const [x, y] = toScreen(view, width, height, drawn);
  const [wide, tall] = [width * (1 + 2 * MARGIN) * by, height * (1 + 2 * MARGIN) * by];
  return [x - wide / 2, y - tall / 2, wide, tall];
}

/** Whether a picture fills the screen in another view, and is not too coarse or too fine for it. */
function serves(drawn, view, size) {
  const [left, top, wide, tall] = frame(drawn, view, size);
  const near = view.scale < drawn.scale * 2 && drawn.scale < view.scale * 2;
  return near && left <= 0 && top <= 0 && left + wide >= size.width && top + tall >= size.height;
}

const equal = (one, other) => one.x === other.x && one.y === other.y && one.scale === other.scale;

/** Each part's mark is drawn once and then copied. */
function paintPoints(pen, scene, view, colours, { ratio, width, height }) {
  const radius = pointRadius(scene, view);
  const [wide, tall] = [width * MARGIN, height * MARGIN];
  const sprites = colours.parts.map((colour, part) => sprite(shapeOf(part), colour, radius, ratio));
  const size = sprites[0].width / ratio;
  const faint = scene.star ? 0.32 : 0.82;
  for (const shown of [false, true]) {
    pen.globalAlpha = shown ? faint : 0.1;
    for (const point of scene.points) {
      if (scene.shows(point) !== shown) continue;
      const [x, y] = toScreen(view, width, height, point);
      if (x < -size - wide || y < -size - tall || x > width + size + wide || y > height + size + tall) continue;
      pen.drawImage(sprites[Math.min(point.part, COLOURS)], x - size / 2, y - size / 2, size, size);
    }
  }
  pen.globalAlpha = 1;
}

const kept = new Map();

function sprite(shape, colour, radius, ratio) {
  const key = `${shape} ${colour} ${radius.toFixed(1)} ${ratio}`;
  if (kept.has(key)) return kept.get(key);
  if (kept.size > 200) kept.clear();
  const side = Math.ceil((radius + 1.5) * 2 * ratio);
  const canvas = new OffscreenCanvas(side, side);
  const pen = canvas.getContext("2d");
  pen.translate(side / 2, side / 2);
  pen.scale(ratio * radius, ratio * radius);
  pen.fillStyle = colour;
  outline(pen, shape);
  pen.fill();
  const image = canvas.transferToImageBitmap(); // a canvas would be copied anew for each point
  kept.set(key, image);
  return image;
}

const CORNERS = {
  square: [[-0.88, -0.88], [0.88, -0.88], [0.88, 0.88], [-0.88, 0.88]],
  triangle: [[0, -1.15], [1.05, 0.8], [-1.05, 0.8]],
  diamond: [[0, -1.25], [1.05, 0], [0, 1.25], [-1.05, 0]],
};

/** The corners of a shape as an SVG path in a box of 24 units, for the legend. */
export const svgPath = (part) => {
  const corners = CORNERS[shapeOf(part)];
  if (!corners) return "M12 3a9 9 0 1 0 0 18 9 9 0 1 0 0-18z";
  return `M${corners.map(([x, y]) => `${12 + 9 * x} ${12 + 9 * y}`).join("L")}z`;
};

function outline(pen, shape) {
  pen.beginPath();
  if (!CORNERS[shape]) pen.arc(0, 0, 1, 0, TAU);
  else CORNERS[shape].forEach(([x, y]) => pen.lineTo(x, y));
  pen.closePath();
}

const halves = new WeakMap(); // of the width of each label, which is slow to measure

/** Names of parts from afar, of documents from near; the heavier first, none over another. */
function paintLabels(pen, scene, view, place, colours, width, height) {
  const close = view.scale / scene.base.scale > 2.6;
  const labels = close ? scene.documentLabels : scene.partLabels;
  const taken = scene.star ? [scene.star, ...scene.hits].map((one) => around(place(one), 26, 13)) : [];
  taken.push([width - 64, height - 132, width, height]); // the buttons
  let room = !close ? 12 : scene.star ? 16 : 40;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  pen.font = `${close ? "500 12px" : "650 14px"} ${colours.font}`;
  for (const label of labels) {
    if (!scene.shows(label) || room === 0) continue;
    const [x, y] = place(label);
    if (x < 0 || y < 0 || x > width || y > height) continue;
    const text = label.text.length > 38 ? `${label.text.slice(0, 36)}…` : label.text;
    if (!halves.has(label)) halves.set(label, pen.measureText(text).width / 2);
    const half = halves.get(label);
    const middle = Math.min(Math.max(x, half + 6), width - half - 6);
    const box = around([middle, y], half + 4, 10);
    if (taken.some((other) => meet(box, other))) continue;
    taken.push(box);
    room -= 1;
    pen.globalAlpha = scene.star ? 0.6 : 1;
    write(pen, text, middle, y, colours.ink, colours.ground);
  }
  pen.globalAlpha = 1;
}

function write(pen, text, x, y, ink, ground) {
  pen.strokeStyle = ground;
  pen.lineWidth = 4;
  pen.strokeText(text, x, y);
  pen.fillStyle = ink;
  pen.fillText(text, x, y);
}

const around = ([x, y], half, tall) => [x - half, y - tall, x + half, y + tall];
const meet = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

/** The question as a star, its hits ringed, numbered and joined to it. */
function paintHits(pen, { star, hits, points, emphasised }, place, radius, colours) {
  const from = place(star);
  hits.forEach((hit, index) => {
    const to = place(hit);
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(...to);
    pen.strokeStyle = colours.accent;
    pen.globalAlpha = emphasised === index ? 1 : 0.5;
    pen.lineWidth = emphasised === index ? 2.5 : 1.2;
    pen.stroke();
  });
  pen.globalAlpha = 1;
  [...hits.keys()].reverse().forEach((index) => badge(pen, place(hits[index]), index, hits[index], emphasised === index, colours));
  pen.beginPath();
  for (let corner = 0; corner < 10; corner += 1) {
    const far = corner % 2 ? 5.2 : 12;
    pen.lineTo(from[0] + far * Math.sin((corner * TAU) / 10), from[1] - far * Math.cos((corner * TAU) / 10));
  }
  pen.closePath();
  pen.lineWidth = 3;
  pen.lineJoin = "round";
  pen.strokeStyle = colours.ground;
  pen.stroke();
  pen.fillStyle = colours.accent;
  pen.fill();
}

function badge(pen, [x, y], index, hit, on, colours) {
  const radius = on ? 12 : 10;
  pen.beginPath();
  pen.arc(x, y, radius, 0, TAU);
  pen.fillStyle = on ? colours.accent : colours.ground;
  pen.fill();
  pen.lineWidth = 2.5;
  pen.strokeStyle = on ? colours.accent : colours.parts[Math.min(hit.part, COLOURS)];
  pen.stroke();
  pen.fillStyle = on ? colours.ground : colours.ink;
  pen.font = "650 11px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(String(index + 1), x, y + 0.5);
}

function ring(pen, [x, y], radius, colour, width) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, TAU);
  pen.lineWidth = width;
  pen.strokeStyle = colour;
  pen.stroke();
}
