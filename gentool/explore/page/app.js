// What the parts of the page share: the model, the tiles of the wall, and which one is chosen.

const listeners = new Map();

export const app = {
  state: null, // what the program tells about the model
  tiles: [], // {picture, locked, canvas, element}
  chosen: null, // a tile
  picks: [], // tiles, in the order of the path
  liked: [], // {picture, canvas}
  by: "principal", // how directions are found
};

export function on(event, work) {
  listeners.set(event, [...(listeners.get(event) ?? []), work]);
}

export function emit(event, ...told) {
  for (const work of listeners.get(event) ?? []) work(...told);
}
