// A scene of dkp view: the surface through time, the cameras with their images, and the template.
"use strict";

// vectors and matrices (columns first, as WebGL wants them)
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const plus = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => { const n = Math.hypot(...a) || 1; return a.map((x) => x / n); };
function product(a, b) {
  const out = new Float32Array(16);
  for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) for (let k = 0; k < 4; k++) out[4 * j + i] += a[4 * k + i] * b[4 * j + k];
  return out;
}
function projection(aspect, near, far) {
  const f = 2.2;
  return new Float32Array([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0]);
}

const VERTEX = `#version 300 es
in vec3 place; in vec3 normal; in vec3 colour; in vec2 texel;
uniform mat4 camera; uniform vec3 eye; uniform float size; out vec3 shade; out vec2 at;
void main() {
  vec3 sight = normalize(eye - place);
  float light = length(normal) > 0.0 ? 0.45 + 0.55 * abs(dot(normalize(normal), sight)) : 1.0;
  shade = colour * light; at = texel; gl_Position = camera * vec4(place, 1.0); gl_PointSize = size;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec3 shade; in vec2 at; uniform sampler2D image; uniform bool textured; out vec4 result;
void main() { result = textured ? texture(image, at) : vec4(shade, 1.0); }`;

class Stage { // one canvas with a camera that turns about a target
  constructor(canvas, up, front, target, distance, repaint) {
    Object.assign(this, { canvas, target, distance, turn: 0.5, tilt: 0.25, repaint });
    this.up = unit(up);
    this.front = unit(plus(front, this.up, -dot(front, this.up)));
    this.side = cross(this.up, this.front);
    const gl = (this.gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true }));
    if (!gl) { element("picked").textContent = "This browser has no WebGL 2: the surface cannot be drawn."; return; }
    this.program = gl.createProgram();
    for (const [kind, code] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, code); gl.compileShader(shader); gl.attachShader(this.program, shader);
    }
    ["place", "normal", "colour", "texel"].forEach((name, i) => gl.bindAttribLocation(this.program, i, name));
    gl.linkProgram(this.program); gl.useProgram(this.program);
    gl.enable(gl.DEPTH_TEST);
    this.buffers = [0, 1, 2, 3, 4].map(() => gl.createBuffer());
    this.textures = new Map();
    let from = null;
    canvas.onpointerdown = (e) => { from = { x: e.clientX, y: e.clientY, moved: false, shift: e.shiftKey || e.button === 2 }; canvas.setPointerCapture(e.pointerId); };
    canvas.onpointermove = (e) => {
      if (!from) return;
      const dx = e.clientX - from.x, dy = e.clientY - from.y;
      if (!from.moved && Math.hypot(dx, dy) < 4) return;
      from = { ...from, x: e.clientX, y: e.clientY, moved: true };
      if (from.shift) {
        const { right, above } = this.axes(), s = this.distance / this.canvas.clientHeight;
        this.target = plus(plus(this.target, right, -dx * s), above, dy * s);
      } else { this.turn -= dx * 0.008; this.tilt = Math.max(-1.5, Math.min(1.5, this.tilt + dy * 0.008)); }
      this.repaint();
    };
    canvas.onpointerup = (e) => { if (from && !from.moved) this.clicked(e); from = null; };
    canvas.oncontextmenu = (e) => e.preventDefault();
    canvas.onwheel = (e) => { e.preventDefault(); this.distance *= Math.exp(e.deltaY * 0.001); this.repaint(); };
  }
  axes() {
    const flat = plus(this.front.map((x) => x * Math.cos(this.turn)), this.side, Math.sin(this.turn));
    const back = plus(flat.map((x) => x * Math.cos(this.tilt)), this.up, Math.sin(this.tilt));
    const right = unit(cross(this.up, back));
    return { back, right, above: cross(back, right) };
  }
  begin() {
    const gl = this.gl, ratio = window.devicePixelRatio || 1;
    const [w, h] = [this.canvas.clientWidth, this.canvas.clientHeight].map((x) => Math.max(1, Math.round(x * ratio)));
    if (this.canvas.width !== w || this.canvas.height !== h) { this.canvas.width = w; this.canvas.height = h; }
    gl.viewport(0, 0, w, h);
    gl.clearColor(0.965, 0.97, 0.975, 1); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const { back, right, above } = this.axes(), eye = plus(this.target, back, this.distance);
    const look = new Float32Array([right[0], above[0], back[0], 0, right[1], above[1], back[1], 0, right[2], above[2], back[2], 0, -dot(right, eye), -dot(above, eye), -dot(back, eye), 1]);
    this.eye = eye;
    this.matrix = product(projection(w / h, this.distance / 50, this.distance * 20), look);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.program, "camera"), false, this.matrix);
    gl.uniform3fv(gl.getUniformLocation(this.program, "eye"), eye);
  }
  draw(kind, place, { normal, colour, texel, index, image, size = 5, plain = [0.2, 0.25, 0.3] }) {
    const gl = this.gl;
    [[place, 3, gl.FLOAT], [normal, 3, gl.FLOAT], [colour, 3, gl.UNSIGNED_BYTE], [texel, 2, gl.FLOAT]].forEach(([values, count, type], i) => {
      if (!values) { gl.disableVertexAttribArray(i); gl.vertexAttrib3fv(i, i === 2 ? plain : [0, 0, 0]); return; }
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[i]);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
      gl.enableVertexAttribArray(i); gl.vertexAttribPointer(i, count, type, type === gl.UNSIGNED_BYTE, 0, 0);
    });
    gl.uniform1f(gl.getUniformLocation(this.program, "size"), size * (window.devicePixelRatio || 1));
    gl.uniform1i(gl.getUniformLocation(this.program, "textured"), image ? 1 : 0);
    if (image) this.texture(image);
    if (!index) { gl.drawArrays(kind, 0, place.length / 3); return; }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers[4]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, index, gl.DYNAMIC_DRAW);
    gl.drawElements(kind, index.length, gl.UNSIGNED_INT, 0);
  }
  texture(image) {
    const gl = this.gl;
    if (!this.textures.has(image)) {
      if (this.textures.size > 64) { this.textures.forEach((one) => gl.deleteTexture(one)); this.textures.clear(); }
      const made = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, made);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
      this.textures.set(image, made);
    }
    gl.bindTexture(gl.TEXTURE_2D, this.textures.get(image));
  }
  clicked(event) { // the frontmost vertex within some pixels of the pointer
    if (!this.pickable) return;
    const box = this.canvas.getBoundingClientRect(), m = this.matrix, place = this.pickable;
    const x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, least = Infinity;
    for (let v = 0; v < place.length / 3; v++) {
      const [a, b, c] = [place[3 * v], place[3 * v + 1], place[3 * v + 2]];
      const w = m[3] * a + m[7] * b + m[11] * c + m[15];
      if (w <= 0) continue;
      const px = ((m[0] * a + m[4] * b + m[8] * c + m[12]) / w + 1) * box.width / 2;
      const py = (1 - (m[1] * a + m[5] * b + m[9] * c + m[13]) / w) * box.height / 2;
      const away = Math.hypot(px - x, py - y);
      if (away < 10 && w + away * 0.01 * this.distance < least) { least = w + away * 0.01 * this.distance; best = v; }
    }
    if (best >= 0) pick(best);
  }
}

const state = { time: 0, vertex: -1, playing: false };
const picture = (source) => { // decoded once
  if (!picture.known) picture.known = new Map();
  if (!picture.known.has(source)) { const image = new Image(); image.onload = () => paint(); image.src = source; picture.known.set(source, image); }
  return picture.known.get(source);
};
let surface, points, validity, faces, rest, layers, world, template;

function normals(place) {
  const out = new Float32Array(place.length), at = (v) => [place[3 * v], place[3 * v + 1], place[3 * v + 2]];
  for (let f = 0; f < faces.length; f += 3) {
    const a = at(faces[f]), n = cross(plus(at(faces[f + 1]), a, -1), plus(at(faces[f + 2]), a, -1));
    for (let k = 0; k < 3; k++) for (let j = 0; j < 3; j++) out[3 * faces[f + k] + j] += n[j];
  }
  return out;
}
function metres(quantised, time) {
  const count = data.vertices * 3, out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = data.low[i % 3] + (quantised[time * count + i] / data.levels) * (data.high[i % 3] - data.low[i % 3]);
  return out;
}
function colouring(time) { // of the chosen layer: RGB of every vertex
  const layer = layers[element("colour").value], n = data.vertices;
  if (!layer.table) return layer.values;
  const out = new Uint8Array(3 * n);
  for (let v = 0; v < n; v++) for (let k = 0; k < 3; k++) out[3 * v + k] = layer.table[layer.values[time * n + v]][k];
  return out;
}
function seen(view, p) { // pixel of a point in a view's image, and its depth
  const c = [0, 1, 2].map((i) => dot(view.rotation[i], p) + view.translation[i]);
  return [0, 1].map((i) => (dot(view.intrinsics[i], c)) / c[2]).concat(c[2]);
}
function corner(view, x, y, depth) {
  const [[fx, s, cx], [r, fy, cy]] = view.intrinsics, u = x - cx, v = y - cy, whole = fx * fy - s * r; // crops may be turned
  const [a, b] = [(fy * u - s * v) / whole, (fx * v - r * u) / whole];
  const c = [a * depth - view.translation[0], b * depth - view.translation[1], depth - view.translation[2]];
  return [0, 1, 2].map((j) => view.rotation[0][j] * c[0] + view.rotation[1][j] * c[1] + view.rotation[2][j] * c[2]);
}

function paint() {
  if (!template || !world.gl) return;
  const gl = world.gl, t = state.time, colour = colouring(t);
  world.begin();
  const place = surface && data.known[t] ? metres(surface, t) : null, normal = place && normals(place);
  world.pickable = place;
  if (place && element("surface").checked) world.draw(gl.TRIANGLES, place, { normal, colour, index: faces });
  if (points && element("points").checked) {
    const all = metres(points, t), kept = [], tints = [];
    for (let v = 0; v < data.vertices; v++) if (validity[t * data.vertices + v]) { kept.push(...all.slice(3 * v, 3 * v + 3)); tints.push(...colour.slice(3 * v, 3 * v + 3)); }
    if (kept.length) world.draw(gl.POINTS, new Float32Array(kept), { colour: new Uint8Array(tints), size: 3 });
  }
  for (const view of data.views[t]) {
    const image = picture(view.image);
    if (!element("cameras").checked) continue;
    const d = data.scale * 0.16, s = data.side, [a, b, c, e] = [[0, 0], [s, 0], [s, s], [0, s]].map(([x, y]) => corner(view, x, y, d));
    const o = corner(view, 0, 0, 0);
    world.draw(gl.LINES, new Float32Array([o, a, o, b, o, c, o, e, a, b, b, c, c, e, e, a].flat()), {});
    if (image.complete && image.width) world.draw(gl.TRIANGLES, new Float32Array([a, b, c, a, c, e].flat()), { texel: new Float32Array([0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1]), image });
  }
  const vertex = state.vertex, chosen = vertex >= 0 && place ? Array.from(place.slice(3 * vertex, 3 * vertex + 3)) : null;
  if (chosen) { gl.disable(gl.DEPTH_TEST); world.draw(gl.POINTS, new Float32Array(chosen), { size: 11, plain: [0, 0, 0] }); world.draw(gl.POINTS, new Float32Array(chosen), { size: 7, plain: [1, 1, 1] }); gl.enable(gl.DEPTH_TEST); }
  template.begin(); template.pickable = rest;
  template.draw(gl.TRIANGLES, rest, { normal: template.normal, colour, index: faces });
  if (vertex >= 0) { const at = rest.slice(3 * vertex, 3 * vertex + 3); template.gl.disable(gl.DEPTH_TEST); template.draw(gl.POINTS, at, { size: 11, plain: [0, 0, 0] }); template.draw(gl.POINTS, at, { size: 7, plain: [1, 1, 1] }); template.gl.enable(gl.DEPTH_TEST); }
  document.querySelectorAll("#images figure").forEach((figure, number) => {
    const view = data.views[t].find((one) => one.camera === number), canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
    pen.fillStyle = "#e5e7eb"; pen.fillRect(0, 0, canvas.width, canvas.height);
    figure.dataset.marked = "";
    if (!view) return;
    const image = picture(view.image), s = canvas.width / data.side;
    if (image.complete && image.width) pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    if (!chosen) return;
    const [x, y, depth] = seen(view, chosen), n = Array.from(normal.slice(3 * vertex, 3 * vertex + 3));
    if (depth <= 0) return;
    const facing = dot(n, plus(chosen, corner(view, 0, 0, 0), -1)) < 0;
    for (const [width, style] of [[5, "#000"], [2.5, facing ? "#ffd400" : "#fff"]]) {
      pen.beginPath(); pen.arc(x * s, y * s, 7, 0, 7); pen.lineWidth = width; pen.strokeStyle = style; pen.setLineDash(facing ? [] : [3, 3]); pen.stroke();
    }
    figure.dataset.marked = `${x.toFixed(1)},${y.toFixed(1)},${facing ? "front" : "behind"}`;
  });
  const layer = layers[element("colour").value], n = data.vertices;
  element("frame").textContent = data.frames[t];
  const value = layer.table && vertex >= 0 ? `, ${layer.name}: ${((layer.values[t * n + vertex] / 255) * layer.most).toPrecision(3)} ${layer.unit}` : "";
  element("picked").textContent = vertex < 0 ? "Click on the surface or the template to see a vertex in every view." : `vertex ${vertex}${chosen ? ` at ${chosen.map((x) => x.toFixed(3)).join(", ")} m` : ""}${value}`;
  element("legend").hidden = !layer.table;
  if (layer.table) { element("bar").style.background = `linear-gradient(90deg, ${[0, 64, 128, 191, 255].map((i) => `rgb(${layer.table[i]})`).join(",")})`; element("most").textContent = `${layer.most} ${layer.unit} or more`; }
  document.body.dataset.time = t;
}
function pick(vertex) { state.vertex = vertex; paint(); }
function show(time) { state.time = time; element("time").value = time; paint(); }

(async () => {
  [faces, rest] = [await unpack(data.faces), null];
  const flat = await unpack(data.rest);
  rest = new Float32Array(flat.length);
  for (let i = 0; i < flat.length; i++) rest[i] = data.restLow[i % 3] + (flat[i] / data.levels) * (data.restHigh[i % 3] - data.restLow[i % 3]);
  surface = data.surface && (await unpack(data.surface));
  points = data.points && (await unpack(data.points));
  validity = data.validity && (await unpack(data.validity));
  layers = await Promise.all(data.layers.map(async (one) => ({ ...one, values: await unpack(one.values) })));
  layers.forEach((layer, i) => element("colour").add(new Option(layer.name, i)));
  const middle = plus(data.low, data.high).map((x) => x / 2);
  world = new Stage(element("world"), data.up, data.front, middle, data.scale * 1.6, () => paint());
  template = new Stage(element("template"), data.restUp, data.restFront, plus(data.restLow, data.restHigh).map((x) => x / 2), Math.hypot(...plus(data.restHigh, data.restLow, -1)) * 1.35, () => paint());
  template.turn = 0; template.tilt = 0.05; template.normal = normals(rest);
  for (const id of ["colour", "surface", "points", "cameras"]) element(id).onchange = paint;
  element("time").max = data.frames.length - 1;
  element("time").oninput = (e) => show(Number(e.target.value));
  element("play").onclick = () => { state.playing = !state.playing; element("play").textContent = state.playing ? "pause" : "play"; };
  window.onresize = paint;
  let last = 0;
  const tick = (now) => { if (state.playing && now - last > 1000 / data.fps) { last = now; show((state.time + 1) % data.frames.length); } requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  paint();
  document.body.dataset.ready = "yes";
})();
