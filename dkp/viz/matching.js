// Views of dkp report: a click on a pixel shows what matches it in the other views, and its epipolar lines there.
"use strict";
(async () => {
  const figures = [...element("matching").querySelectorAll("figure")], canvases = figures.map((one) => one.firstChild);
  const size = data.side * data.enlarged, run = element("run"), fields = {};
  const images = await Promise.all(data.images.map(async (source) => { const image = new Image(); image.src = source; await image.decode(); return image; }));
  for (const name in data.fields) {
    const held = data.fields[name], [, rows, columns] = held.shape;
    fields[name] = { rows, columns, place: await unpack(held.coordinate), chance: await unpack(held.foreground) };
  }
  let picked = null; // view, x, y in pixels of the image

  function heat(field, view, cell) { // matchability of a view's cells with one cell, and where it is best
    const { rows, columns, place, chance } = field, count = rows * columns;
    const layer = new OffscreenCanvas(columns, rows), context = layer.getContext("2d"), shown = context.createImageData(columns, rows);
    let best = { match: 0, at: -1 };
    for (let i = 0; i < count; i++) {
      const at = view * count + i;
      let square = 0;
      for (let k = 0; k < 3; k++) square += (place[3 * at + k] - place[3 * cell + k]) ** 2;
      const match = (chance[at] / 255) * Math.exp(-square / (2 * data.sigma ** 2));
      if (match > best.match) best = { match, at: i, metres: Math.sqrt(square) * data.metres };
      shown.data.set([213, 94, 0, Math.round(235 * match)], 4 * i);
    }
    context.putImageData(shown, 0, 0);
    return { layer, best };
  }

  function ring(context, x, y, colour) {
    context.lineWidth = 2; context.strokeStyle = colour;
    context.beginPath(); context.arc(x * data.enlarged, y * data.enlarged, 6, 0, 2 * Math.PI); context.stroke();
  }

  function draw() {
    const field = fields[run.value], words = [];
    canvases.forEach((canvas, view) => {
      canvas.width = canvas.height = size;
      const context = canvas.getContext("2d"), marks = figures[view].dataset;
      context.drawImage(images[view], 0, 0, size, size);
      delete marks.line; delete marks.best;
      if (!picked) return;
      const { rows, columns } = field, [x, y] = [picked.x, picked.y];
      if (view === picked.view) { ring(context, x, y, "#0072b2"); return; }
      const column = Math.min(columns - 1, Math.floor((x / data.side) * columns)), row = Math.min(rows - 1, Math.floor((y / data.side) * rows));
      const cell = picked.view * rows * columns + row * columns + column;
      if (field.chance[cell] <= 127) { words[0] = "This pixel shows background."; return; }
      context.fillStyle = "rgba(255, 255, 255, .45)"; context.fillRect(0, 0, size, size);
      const { layer, best } = heat(field, view, cell);
      context.drawImage(layer, 0, 0, size, size);
      const line = data.lines[picked.view][view].map((r) => r[0] * x + r[1] * y + r[2]), [a, b, c] = line, norm = Math.hypot(a, b) || 1;
      const near = [(-a * c) / norm ** 2, (-b * c) / norm ** 2], far = 2 * data.side + Math.hypot(...near);
      context.strokeStyle = "#0072b2"; context.lineWidth = 1.5; context.beginPath();
      context.moveTo((near[0] - (b / norm) * far) * data.enlarged, (near[1] + (a / norm) * far) * data.enlarged);
      context.lineTo((near[0] + (b / norm) * far) * data.enlarged, (near[1] - (a / norm) * far) * data.enlarged);
      context.stroke();
      marks.line = [a / norm, b / norm, c / norm].map((value) => value.toFixed(4)).join(",");
      if (best.at < 0) return;
      const there = [((best.at % columns) + 0.5) * (data.side / columns), (Math.floor(best.at / columns) + 0.5) * (data.side / rows)];
      ring(context, ...there, "#d55e00");
      const off = Math.abs(a * there[0] + b * there[1] + c) / norm;
      marks.best = [...there, best.match.toFixed(3)].join(",");
      words.push(`${figures[view].lastChild.textContent}: best match ${best.match.toFixed(2)}, ${off.toFixed(1)} px from the line`);
    });
    if (picked) element("said").textContent = words.join("; ") || "Nothing matches it in the other views.";
  }

  canvases.forEach((canvas, view) => canvas.addEventListener("click", (event) => {
    picked = { view, x: (event.offsetX / canvas.clientWidth) * data.side, y: (event.offsetY / canvas.clientHeight) * data.side };
    draw();
  }));
  run.addEventListener("change", draw);
  draw();
  document.body.dataset.ready = "yes";
})();
