// Where the boxes and arrows of the pipeline stand. Numbers in, numbers out; the page draws them.
//
//   topic ──▶ archive ──▶ batch ─┐
//     └─────▶ speed ─────────────┴─▶ view
//
// Wide pictures have a column each for topic, layers and views; narrow ones stand under each other.

const BOX = 74;
const GAP = 16;
const BLOCK_GAP = 36;
const WIDEST = 460;
const NARROW = 760;

/** The views of each stream: `[{stream, views}]`, in the order of the streams. */
const grouped = (streams, views) =>
  streams.map((stream) => ({ stream, views: views.filter((view) => view.stream === stream.name) }));

/** `{width, height, blocks: [{stream, topic, archive, speed, views: [{view, box}], arrows: [{kind, to, path}]}]}`. */
export function layout(streams, views, width) {
  const place = width < NARROW ? narrow : wide;
  let top = 4;
  const blocks = grouped(streams, views).map((group) => {
    const block = place(group, top, width);
    top = block.bottom + BLOCK_GAP;
    return block;
  });
  return { width, height: Math.max(top - BLOCK_GAP + 4, 40), blocks };
}

const box = (x, y, w, h = BOX) => ({ x, y, w, h });
const middle = ({ y, h }) => y + h / 2;

function wide({ stream, views }, top, width) {
  const lanes = [190, 220];
  const space = Math.min(150, Math.max(36, (width - lanes[0] - lanes[1] - 340) / 2));
  const height = Math.max(2 * BOX + GAP, views.length * (BOX + GAP) - GAP);
  const layers = lanes[0] + space;
  const right = layers + lanes[1] + space;
  const centre = top + height / 2;
  const topic = box(1, centre - BOX / 2, lanes[0]);
  const archive = box(layers, centre - BOX - GAP / 2, lanes[1]);
  const speed = box(layers, centre + GAP / 2, lanes[1]);
  const first = top + (height - (views.length * (BOX + GAP) - GAP)) / 2;
  const placed = views.map((view, i) => ({
    view,
    box: box(right, first + i * (BOX + GAP), Math.min(width - right - 2, WIDEST)),
  }));
  const curve = (from, to, shift) => {
    const [x1, y1, x2, y2] = [from.x + from.w, middle(from), to.x, middle(to) + shift];
    const half = (x1 + x2) / 2;
    return `M${x1} ${y1}C${half} ${y1} ${half} ${y2} ${x2} ${y2}`;
  };
  const arrows = [
    { kind: "archive", path: curve(topic, archive, 0) },
    { kind: "speed", path: curve(topic, speed, 0) },
    ...placed.flatMap(({ view, box: to }) => [
      { kind: "batch", view: view.name, path: curve(archive, to, -BOX / 5) },
      { kind: "realtime", view: view.name, path: curve(speed, to, BOX / 5) },
    ]),
  ];
  return { stream, topic, archive, speed, views: placed, arrows, bottom: top + height };
}

function narrow({ stream, views }, top, width) {
  const half = (width - GAP - 2) / 2;
  const topic = box(1, top, width - 2);
  const layers = top + BOX + 28;
  const [archive, speed] = [box(1, layers, half), box(1 + half + GAP, layers, half)];
  const first = layers + BOX + 28;
  const placed = views.map((view, i) => ({ view, box: box(24, first + i * (BOX + GAP), width - 26) }));
  const down = (x, from, to) => `M${x} ${from}V${to}`;
  const [left, right] = [archive.x + archive.w / 2, speed.x + speed.w / 2];
  const arrows = [
    { kind: "archive", path: down(left, topic.y + BOX, archive.y) },
    { kind: "speed", path: down(right, topic.y + BOX, speed.y) },
    ...placed.flatMap(({ view, box: to }) => [
      { kind: "batch", view: view.name, path: `M${9} ${layers + BOX}V${middle(to) - 8}H${to.x}` },
      {
        kind: "realtime",
        view: view.name,
        path: `M${right} ${layers + BOX}V${first - 14}H${15}V${middle(to) + 8}H${to.x}`,
      },
    ]),
  ];
  const bottom = placed.length ? first + placed.length * (BOX + GAP) - GAP : layers + BOX;
  return { stream, topic, archive, speed, views: placed, arrows, bottom };
}

/** Messages a second since the answer before, by stream: `{now, before}` are `{at, frontiers: {stream: sum}}`. */
export function rates(now, before) {
  if (!before || now.at <= before.at) return {};
  const seconds = (now.at - before.at) / 1000;
  const since = ([name, sum]) => [name, name in before.sums ? Math.max(0, (sum - before.sums[name]) / seconds) : null];
  return Object.fromEntries(Object.entries(now.sums).map(since));
}
