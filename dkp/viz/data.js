// What every page of dkp begins with: its data, and how packed arrays are unpacked.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);

async function unpack(held) {
  const raw = Uint8Array.from(atob(held.data), (c) => c.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  const kind = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array }[held.type], size = kind.BYTES_PER_ELEMENT;
  const planes = new Uint8Array(await new Response(stream).arrayBuffer()), bytes = new Uint8Array(planes.length), count = planes.length / size;
  for (let i = 0; i < count; i++) for (let j = 0; j < size; j++) bytes[i * size + j] = planes[j * count + i]; // low bytes come first
  const values = new kind(bytes.buffer);
  const row = held.shape.slice(1).reduce((a, b) => a * b, 1);
  for (let i = row; i < values.length; i++) values[i] += values[i - row]; // differences along the first axis
  return values;
}
