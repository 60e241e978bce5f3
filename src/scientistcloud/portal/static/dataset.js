// The page of a data set: the viewer's frame, and the controls beside it. Speaks to `scene` of viewer-frame.js.
(() => {
  const $ = (id) => document.getElementById(id);

  // A new form was published while the page was open: everything below the header is another one.
  const token = $("label")?.dataset.token;
  document.addEventListener("htmx:after:swap", () => {
    if ($("label") && $("label").dataset.token !== token) location.reload();
  });

  $("variable")?.addEventListener("change", (event) => event.target.form.submit());

  const stage = $("stage");
  if (!stage?.dataset.address) return;
  if (!document.createElement("canvas").getContext("webgl2")) { $("no-viewer").hidden = false; return; }

  const panel = JSON.parse(stage.dataset.panel);
  const frame = document.createElement("iframe");
  frame.src = stage.dataset.address;
  frame.title = `Interactive picture of ${stage.dataset.title}`;
  frame.allow = "fullscreen";
  frame.addEventListener("load", () => begin(frame.contentWindow.scene).catch(complain));
  stage.append(frame);

  function complain(error) {
    const word = document.createElement("p");
    word.className = "stage-word";
    word.setAttribute("role", "status");
    word.textContent = `The viewer cannot show it: ${error.message}`;
    stage.append(word);
    frame.remove();
  }

  async function begin(scene) {
    if (!scene) throw new Error("its files did not come; reload the page");
    await scene.ready;
    $("still").hidden = true;
    $("controls").hidden = false;
    $("stage-tools").hidden = false;
    stage.dataset.ready = "";
    layouts(scene);
    sliders(scene);
    channels(scene);
    contrast(scene);
    maps(scene);
    readout(scene);
    tools(scene);
  }

  // -- 2-D, slices, 3-D ---------------------------------------------------------------------------

  function layouts(scene) {
    const buttons = [...document.querySelectorAll("#layouts [data-layout]")];
    const show = () => {
      const now = scene.layout();
      for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.layout === now));
      for (const each of document.querySelectorAll("[data-depth]")) each.hidden = now !== "xy";
    };
    for (const each of buttons) each.addEventListener("click", () => { scene.setLayout(each.dataset.layout); show(); });
    scene.onLayout(show);
    show();
  }

  // -- time and other axes ------------------------------------------------------------------------

  function sliders(scene) {
    for (const section of document.querySelectorAll("[data-slider]")) {
      const axis = panel.sliders.find((each) => each.name === section.dataset.slider);
      const input = section.querySelector("input"), output = section.querySelector("output"), play = section.querySelector(".play");
      const show = () => {
        const now = scene.slice(axis.name);
        input.value = String(now);
        const where = axis.unit ? ` · ${precise(axis.origin + axis.scale * now)} ${axis.unit}` : "";
        output.textContent = `${now + 1} of ${axis.length}${where}`;
        input.setAttribute("aria-valuetext", output.textContent);
      };
      input.addEventListener("input", () => scene.setSlice(axis.name, Number(input.value)));
      scene.onMove(show);
      show();

      let timer = 0;
      const stop = () => { clearInterval(timer); timer = 0; play.setAttribute("aria-pressed", "false"); };
      play.addEventListener("click", () => {
        if (timer) return stop();
        play.setAttribute("aria-pressed", "true");
        // The next picture is asked for when this one is complete, so playing never outruns the line.
        timer = setInterval(() => { if (scene.complete()) scene.setSlice(axis.name, (scene.slice(axis.name) + 1) % axis.length); }, 150);
      });
      input.addEventListener("pointerdown", stop);
    }
  }

  // -- channels, contrast, colours ----------------------------------------------------------------

  function channels(scene) {
    for (const box of document.querySelectorAll("[data-channel]")) {
      box.addEventListener("change", () => scene.setVisible(Number(box.dataset.channel), box.checked));
    }
  }

  function contrast(scene) {
    if (!$("contrast")) return;
    const low = $("low"), high = $("high"), lowValue = $("low-value"), highValue = $("high-value");
    const states = panel.contrasts.map((each) => ({ ...each }));
    let chosen = 0;

    // The track is in physical values, rising to the right, whatever the sign of the packing's factor.
    const physical = (each, stored) => stored * each.factor + each.offset;
    const ends = (each) => [physical(each, each.low), physical(each, each.high)].sort((a, b) => a - b);
    const asked = (each) => [physical(each, each.start), physical(each, each.end)].sort((a, b) => a - b);
    const set = (each, from, to) => {
      [each.start, each.end] = [(from - each.offset) / each.factor, (to - each.offset) / each.factor].sort((a, b) => a - b);
    };

    function show() {
      const each = states[chosen], [left, right] = ends(each), [from, to] = asked(each);
      const share = (value) => Math.min(1, Math.max(0, (value - left) / (right - left || 1)));
      low.value = String(Math.round(1000 * share(from)));
      high.value = String(Math.round(1000 * share(to)));
      if (document.activeElement !== lowValue) lowValue.value = precise(from);
      if (document.activeElement !== highValue) highValue.value = precise(to);
      low.setAttribute("aria-valuetext", precise(from));
      high.setAttribute("aria-valuetext", precise(to));
      for (const svg of document.querySelectorAll("[data-histogram]")) {
        svg.hidden = Number(svg.dataset.histogram) !== chosen;
        svg.querySelector(".below").setAttribute("width", String(256 * share(from)));
        svg.querySelector(".above").setAttribute("x", String(256 * share(to)));
        svg.querySelector(".above").setAttribute("width", String(256 * (1 - share(to))));
      }
    }

    function apply(from, to) {
      set(states[chosen], from, to);
      scene.setContrast(chosen, states[chosen].start, states[chosen].end);
      show();
    }

    const at = (input) => { const [left, right] = ends(states[chosen]); return left + (right - left) * Number(input.value) / 1000; };
    const least = () => { const [left, right] = ends(states[chosen]); return (right - left) / 1000; };
    low.addEventListener("input", () => apply(Math.min(at(low), at(high) - least()), at(high)));
    high.addEventListener("input", () => apply(at(low), Math.max(at(high), at(low) + least())));
    for (const field of [lowValue, highValue]) {
      field.addEventListener("change", () => {
        const [from, to] = [lowValue, highValue].map((each) => Number(each.value.trim().replace(",", ".")));
        field.setAttribute("aria-invalid", String(!(from < to)));
        if (from < to) apply(from, to);
      });
      field.addEventListener("blur", show);
    }
    $("contrast-auto").addEventListener("click", () => {
      const { start, end } = panel.contrasts[chosen];
      Object.assign(states[chosen], { start, end });
      apply(...asked(states[chosen]));
    });
    // One level of an atmosphere is flat in the window of all of them.
    const fitToView = (worth) => {
      const each = states[chosen], range = scene.complete() && scene.rangeInView(chosen, panel.missing);
      if (!range) return false;
      if (range[1] - range[0] <= worth * (each.end - each.start)) {
        [each.start, each.end] = range;
        apply(...asked(each));
      }
      return true;
    };
    $("contrast-view").addEventListener("click", () => fitToView(Infinity));
    if (panel.sliders.length && !panel.rgb && states.length === 1) {
      let tries = 100; // of the first ten seconds, unless the person was there first
      const timer = setInterval(() => { if (fitToView(0.4) || (tries -= 1) < 0) clearInterval(timer); }, 100);
      $("contrast").addEventListener("pointerdown", () => clearInterval(timer));
    }
    $("contrast-full").addEventListener("click", () => {
      const { min, max } = panel.contrasts[chosen];
      Object.assign(states[chosen], { start: min, end: max });
      apply(...asked(states[chosen]));
    });
    for (const pick of document.querySelectorAll("input[name='contrast-of']")) {
      pick.addEventListener("change", () => { chosen = Number(pick.value); show(); });
    }
    show();
  }

  function maps(scene) {
    const buttons = [...document.querySelectorAll("#maps [data-shader]")];
    for (const each of buttons) {
      each.addEventListener("click", () => {
        scene.setShader(each.dataset.shader);
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === each));
      });
    }
  }

  // -- the value under the pointer, keys ----------------------------------------------------------

  function readout(scene) {
    const out = $("readout");
    const first = panel.contrasts[0] ?? { factor: 1, offset: 0 };
    let asked = "", timer = 0;
    scene.onPoint(() => {
      const here = scene.under();
      out.hidden = !here || here.values.length === 0;
      clearTimeout(timer);
      if (out.hidden) return;
      const values = here.values.map((value) => precise(Number(value) * first.factor + first.offset));
      const place = Object.entries(here.at).map(([name, number]) => `${name} ${number}`).join("  ");
      const show = (texts) => { out.textContent = `${place}   ${texts.join(" ")}${panel.units ? ` ${panel.units}` : ""}`; };
      show(values);
      if (!panel.exact) return;
      // What is on the screen is float32; where the pointer rests, the server says what is stored.
      const at = asked = panel.axes.map((name) => here.at[name] ?? 0).join(",");
      timer = setTimeout(async () => {
        const answer = await fetch(`${panel.exact}?at=${at}`).catch(() => null);
        if (!answer?.ok || at !== asked || out.hidden) return;
        const { value } = await answer.json();
        show([first.factor === 1 && first.offset === 0 ? value : precise(Number(value) * first.factor + first.offset)]);
      }, 150);
    });
  }

  function tools(scene) {
    const full = () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen());
    $("fit").addEventListener("click", () => scene.fit());
    $("full").addEventListener("click", full);
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select")) return;
      if (event.key === "0") scene.fit();
      if (event.key === "f") full();
    });
  }
})();
