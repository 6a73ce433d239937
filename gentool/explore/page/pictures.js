// Pictures as the program understands them: where one starts, and how it is moved from there.

export const sample = (seed, index, className, drawing) => ({
  start: { seed, index, class: className, drawing: { ...drawing } },
  moves: [],
});

export const ofPhoto = (photo) => ({ start: { photo }, moves: [] });

export const between = (keys, at) => ({ start: { keys: keys.map(copy), at }, moves: [] });

export const copy = (picture) => structuredClone(picture);

export const isMoved = (picture) => picture.moves.some(([, distance]) => distance !== 0);

export const isSample = (picture) => "seed" in picture.start;

export const same = (a, b) => JSON.stringify(plain(a)) === JSON.stringify(plain(b));

const plain = ({ start, by, moves }) => {
  const kept = moves.filter(([, distance]) => distance !== 0);
  return { start, by: kept.length ? by : undefined, moves: kept };
};

export function distance(picture, by, number) {
  if ((picture.by ?? by) !== by) return 0;
  return picture.moves.find(([k]) => k === number)?.[1] ?? 0;
}

// The picture with one move changed; moves along directions of another kind are dropped.
export function withMove(picture, by, number, value) {
  const others = (picture.by ?? by) === by ? picture.moves.filter(([k]) => k !== number) : [];
  return { ...picture, by, moves: [...others, [number, value]].sort((a, b) => a[0] - b[0]) };
}

export const withoutMoves = (picture) => ({ start: picture.start, moves: [] });

export function inWords(picture) {
  const { start } = picture;
  let words;
  if ("photo" in start) words = "photo";
  else if ("keys" in start) words = `at ${start.at.toFixed(2)} between ${start.keys.length} pictures`;
  else words = `seed ${start.seed}, image ${start.index}`;
  if (start.class) words += `, class ${start.class}`;
  for (const [name, value] of Object.entries(start.drawing ?? {})) {
    words += `, ${name.replaceAll("_", " ")} ${value}`;
  }
  const count = picture.moves.filter(([, value]) => value !== 0).length;
  return count ? `${words}, moved along ${count} direction${count > 1 ? "s" : ""}` : words;
}
