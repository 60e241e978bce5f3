// A scan in two linked panes: a place on the map chooses the frame, a place on the frame chooses the map.
(() => {
  const root = document.getElementById("panes");
  if (!root) return;
  const known = JSON.parse(root.dataset.scan);
  const [ROWS, COLUMNS] = known.shape;
  const missing = new Set(known.missing);
  const pressed = (buttons, chosen) => { for (const each of buttons) each.setAttribute("aria-pressed", String(each === chosen)); };

  let colours = table(known.colours[document.querySelector("#scan-colours [aria-pressed='true']").dataset.colours]);
  let how = "sum";

  // -- numbers from the server --------------------------------------------------------------------

  const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

  /** A .npy of two dimensions, little-endian and in C order, as the server writes it. */
  function parse(buffer) {
    const view = new DataView(buffer), start = 10 + view.getUint16(8, true);
    const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, start - 10));
    const type = /'descr': '[<|](\w\d)'/.exec(header)[1];
    const [height, width] = /'shape': \((\d+), (\d+)\)/.exec(header).slice(1).map(Number);
    return { height, width, values: new TYPES[type](buffer.slice(start)) };
  }

  async function ask(path, signal) {
    const answer = await fetch(known.address + path, { signal });
    if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.detail ?? `the portal answers ${answer.status}; reload the page`);
    return parse(await answer.arrayBuffer());
  }

  // -- colours ------------------------------------------------------------------------------------

  function table(stops) {
    const parts = stops.map((stop) => [0, 2, 4].map((at) => parseInt(stop.slice(at, at + 2), 16)));
    const bytes = new Uint8Array(256 * 4).fill(255), last = parts.length - 1;
    for (let i = 0; i < 256; ++i) {
      const place = (i / 255) * last, k = Math.min(Math.floor(place), last - 1);
      for (let c = 0; c < 3; ++c) bytes[4 * i + c] = Math.round(parts[k][c] + (place - k) * (parts[k + 1][c] - parts[k][c]));
    }
    return new Uint32Array(bytes.buffer); // a pixel of ImageData each
  }

  const shows = (value, fill) => Number.isFinite(value) && !(fill && missing.has(value));

  /** From the 1st to the 99th percentile, or all of it; `fill`: stored values, some of which mean "no data". */
  function range({ values }, whole, fill) {
    if (whole) {
      let low = Infinity, high = -Infinity;
      for (const value of values) if (shows(value, fill)) { low = Math.min(low, value); high = Math.max(high, value); }
      return low < high ? [low, high] : low === high ? [low, low + 1] : [0, 1];
    }
    const some = [], step = Math.max(1, Math.floor(values.length / 65536));
    for (let i = 0; i < values.length; i += step) if (shows(values[i], fill)) some.push(values[i]);
    some.sort((a, b) => a - b);
    const [low, high] = [0.01, 0.99].map((share) => some[Math.round(share * (some.length - 1))]);
    return low < high ? [low, high] : range({ values }, true, fill);
  }

  // -- a pane -------------------------------------------------------------------------------------

  function pane(side, aspect, choose) {
    const element = document.getElementById(`${side}-pane`);
    const $ = (selector) => element.querySelector(selector);
    const canvas = $("canvas"), fit = $(".pane-fit"), mark = $(".pick-mark"), word = $(".stage-word"), out = $(".readout");
    const low = $(".low"), high = $(".high"), ranges = [...element.querySelectorAll("[data-range]")], log = $("[data-log]");
    let now = null, region = null, fill = false, units = "", ends = [0, 1], mode = "auto", logarithmic = false, aborter = null;

    function paint() {
      const { width, height, values } = now;
      const picture = new ImageData(width, height), pixels = new Uint32Array(picture.data.buffer), [from, to] = ends;
      const scale = logarithmic
        ? (value) => Math.log1p(Math.max(0, value - from)) / Math.log1p(to - from)
        : (value) => (value - from) / (to - from);
      for (let i = 0; i < values.length; ++i) {
        if (!shows(values[i], fill)) continue; // stays transparent
        pixels[i] = colours[Math.round(255 * Math.min(1, Math.max(0, scale(values[i]))))];
      }
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
      canvas.getContext("2d").putImageData(picture, 0, 0);
      layOut();
      element.dataset.ready = "";
    }

    function layOut() {
      if (!now) return;
      const room = $(".pane-picture").getBoundingClientRect(), tall = now.height * aspect;
      const size = Math.min((room.width - 24) / now.width, (room.height - 24) / tall);
      fit.style.width = `${size * now.width}px`;
      fit.style.height = `${size * tall}px`;
    }

    function adjust() {
      if (mode !== "typed") ends = range(now, mode === "full", fill);
      for (const each of ranges) each.setAttribute("aria-pressed", String(each.dataset.range === mode));
      if (document.activeElement !== low) low.value = precise(ends[0]);
      if (document.activeElement !== high) high.value = precise(ends[1]);
      paint();
    }

    async function show(path, { stored = false, unit = "" } = {}) {
      aborter?.abort();
      const mine = aborter = new AbortController();
      element.setAttribute("aria-busy", "true");
      try {
        const found = await ask(path, mine.signal);
        if (mine !== aborter) return;
        [now, fill, units] = [found, stored, unit];
        element.dataset.path = path; // what is on the screen
        word.hidden = found.values.some((value) => shows(value, fill));
        if (!word.hidden) word.textContent = "There is nothing here: no frame was recorded.";
        adjust();
      } catch (error) {
        if (error.name === "AbortError") return;
        word.textContent = `It cannot be shown: ${error.message}`;
        word.hidden = false;
      }
      if (mine === aborter) element.removeAttribute("aria-busy");
    }

    /** Frame the chosen `rows` and `columns`; none: nothing. */
    function choice(rows, columns) {
      region = rows ? [rows, columns] : null;
      mark.hidden = !rows;
      if (!rows || !now) return;
      mark.style.left = `${(100 * columns[0]) / now.width}%`;
      mark.style.top = `${(100 * rows[0]) / now.height}%`;
      mark.style.width = `${(100 * (columns[1] - columns[0])) / now.width}%`;
      mark.style.height = `${(100 * (rows[1] - rows[0])) / now.height}%`;
    }

    function under(event) {
      const box = canvas.getBoundingClientRect();
      const at = (place, start, size, count) => Math.min(count - 1, Math.max(0, Math.floor(((place - start) / size) * count)));
      return [at(event.clientY, box.top, box.height, now.height), at(event.clientX, box.left, box.width, now.width)];
    }

    let begun = null;
    const drawn = (event) => {
      const [y, x] = under(event);
      return [0, 1].map((k) => { const pair = [begun[k], [y, x][k]]; return [Math.min(...pair), Math.max(...pair) + 1]; });
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!now || event.button) return;
      begun = under(event);
      canvas.setPointerCapture(event.pointerId);
      choice(...drawn(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!now) return;
      const [y, x] = under(event), value = now.values[y * now.width + x];
      out.hidden = false;
      out.textContent = `row ${y}  column ${x}   ${shows(value, fill) ? precise(value) + (units ? ` ${units}` : "") : "no data"}`;
      if (begun) choice(...drawn(event));
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!begun) return;
      const ended = drawn(event);
      begun = null;
      choose(...ended);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step || !now || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const from = region ? region.map(([first]) => first) : [now.height, now.width].map((length) => Math.floor(length / 2));
      const to = [now.height, now.width].map((length, k) => Math.min(length - 1, Math.max(0, from[k] + step[k])));
      choose(...to.map((at) => [at, at + 1]));
    });
    canvas.addEventListener("pointercancel", () => { begun = null; });
    canvas.addEventListener("pointerleave", () => { out.hidden = true; });

    for (const each of ranges) each.addEventListener("click", () => { mode = each.dataset.range; if (now) adjust(); });
    log.addEventListener("click", () => {
      logarithmic = !logarithmic;
      log.setAttribute("aria-pressed", String(logarithmic));
      if (now) paint();
    });
    for (const field of [low, high]) {
      field.addEventListener("change", () => {
        const [from, to] = [low, high].map((each) => Number(each.value.trim().replace(",", ".")));
        field.setAttribute("aria-invalid", String(!(from < to)));
        if (from < to && now) { mode = "typed"; ends = [from, to]; adjust(); }
      });
    }
    new ResizeObserver(layOut).observe($(".pane-picture"));
    return { show, choice, repaint: () => now && paint(), shown: $("select") };
  }

  // -- the two of them ----------------------------------------------------------------------------

  const row = document.getElementById("scan-row"), column = document.getElementById("scan-column");
  let points = [[Number(row.value), Number(row.value) + 1], [Number(column.value), Number(column.value) + 1]];
  let pixels = null;

  const map = pane("map", known.aspects[0], (...region) => { points = region; frame.shown.value = ""; follow(); });
  const frame = pane("frame", known.aspects[1], (...region) => { pixels = region; map.shown.value = ""; overPixels(); });
  const query = ([rows, columns]) => `?rows=${rows.join(":")}&columns=${columns.join(":")}&how=${how}`;
  const one = ([rows, columns]) => rows[1] - rows[0] === 1 && columns[1] - columns[0] === 1;

  /** Show what is chosen on the scan. */
  async function follow() {
    for (const [input, [from, to], length] of [[row, points[0], ROWS], [column, points[1], COLUMNS]]) {
      input.value = String(from);
      const text = to - from === 1 ? `${from + 1} of ${length}` : `${from + 1} to ${to} of ${length}`;
      input.closest("section").querySelector("output").textContent = text;
      input.setAttribute("aria-valuetext", text);
    }
    map.choice(...points);
    if (frame.shown.value) await image(frame);
    else await frame.show(`/frame${query(points)}`, { stored: one(points), unit: known.units });
    frame.choice(...(pixels ?? []));
  }

  async function overPixels() {
    frame.choice(...(pixels ?? []));
    if (map.shown.value) await image(map);
    else {
      pixels ??= [[0, 1], [0, 1]].map((_, k) => { const middle = Math.floor(known.shape[2 + k] / 2); return [middle, middle + 1]; });
      frame.choice(...pixels);
      await map.show(`/map${query(pixels)}`, { stored: one(pixels), unit: known.units });
    }
    map.choice(...points);
  }

  const image = (pane) => pane.show(`/images/${encodeURIComponent(pane.shown.value)}`, { unit: known.images[pane.shown.value].units });

  map.shown.addEventListener("change", overPixels);
  frame.shown.addEventListener("change", follow);
  for (const input of [row, column]) {
    input.addEventListener("input", () => {
      points = [row, column].map((each) => [Number(each.value), Number(each.value) + 1]);
      frame.shown.value = "";
      follow();
    });
  }
  const hows = [...document.querySelectorAll("[data-how]")];
  for (const each of hows) {
    each.addEventListener("click", () => {
      how = each.dataset.how;
      pressed(hows, each);
      if (!one(points)) follow();
      if (pixels && !one(pixels)) overPixels();
    });
  }
  const swatches = [...document.querySelectorAll("#scan-colours [data-colours]")];
  for (const each of swatches) {
    each.addEventListener("click", () => {
      colours = table(known.colours[each.dataset.colours]);
      pressed(swatches, each);
      map.repaint();
      frame.repaint();
    });
  }

  document.getElementById("scan-controls").hidden = false;
  overPixels();
  follow();
})();
