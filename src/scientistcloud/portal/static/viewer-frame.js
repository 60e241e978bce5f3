// The one file that touches Neuroglancer's internals (`window.viewer` of the pinned build; docs/decisions/0061).
// It runs inside the frame and offers the page around it `window.scene`.
(() => {
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const layers = () => viewer.layerManager.managedLayers.map((managed) => managed.layer);
  const index = (name) => viewer.coordinateSpace.value.names.indexOf(name);

  const loaded = () => {
    const all = layers();
    return viewer.coordinateSpace.value.valid && all.length > 0
      && all.every((layer) => layer && layer.isReady && layer.renderLayers.length > 0);
  };

  // What the sources refused ("unsupported data type", 404 …), for the page to show.
  const troubles = () => layers().filter(Boolean).flatMap((layer) => layer.dataSources)
    .map((source) => source.loadState?.error).filter(Boolean).map((error) => error.message ?? String(error));

  const ready = (async () => {
    for (let waited = 0; ; waited += 50) {
      if (window.viewer) {
        if (loaded()) break;
        const trouble = troubles();
        if (trouble.length) { document.body.dataset.trouble = ""; throw new Error(trouble[0]); }
      }
      if (waited > 60000) { document.body.dataset.trouble = ""; throw new Error("the data did not come within a minute"); }
      await pause(50);
    }
    if (innerWidth < 480 && layout() === "4panel") setLayout("xy");
    wheels();
    fit();
    let mine = true;
    for (const touch of ["wheel", "pointerdown"]) addEventListener(touch, () => { mine = false; }, { capture: true, passive: true });
    addEventListener("resize", () => { if (mine) fit(); });
  })();

  // -- what is shown ------------------------------------------------------------------------------

  function layout() {
    const now = viewer.layout.toJSON();
    return typeof now === "string" ? now : now?.type ?? "4panel";
  }

  function setLayout(name) {
    viewer.layout.restoreState(name);
    fit();
  }

  function fit() {
    const { displayDimensionIndices: shown, canonicalVoxelFactors: factors, displayRank: rank } = viewer.displayDimensionRenderInfo.value;
    const { lowerBounds: lower, upperBounds: upper } = viewer.coordinateSpace.value.bounds;
    const extent = [0, 0, 0];
    const position = viewer.position.value.slice();
    for (let k = 0; k < rank; ++k) {
      const i = shown[k];
      extent[k] = (upper[i] - lower[i]) * factors[k];
      // The third axis stays where its slider put it while a single plane is shown.
      if (k < 2 || layout() !== "xy") position[i] = Math.round((lower[i] + upper[i]) / 2);
    }
    const [x, y, z] = extent;
    const four = layout() === "4panel" && rank > 2;
    const width = Math.max(1, four ? innerWidth / 2 : innerWidth), height = Math.max(1, four ? innerHeight / 2 : innerHeight);
    const needed = four ? Math.max(Math.max(x, z) / width, Math.max(y, z) / height) : Math.max(x / width, y / height);
    if (!(needed > 0)) return;
    viewer.position.value = position;
    viewer.crossSectionScale.value = needed * 1.06;
    viewer.projectionScale.value = Math.hypot(x, y, z) * 1.05 * Math.max(1, height / width);
  }

  function wheels() {
    // As in a map: the wheel zooms; with shift it goes through the slices.
    for (const map of [viewer.inputEventBindings.sliceView, viewer.inputEventBindings.perspectiveView]) {
      map.set("at:wheel", { action: "zoom-via-wheel", preventDefault: true });
      map.set("at:shift+wheel", { action: "z+1-via-wheel", preventDefault: true });
    }
  }

  // -- how it is shown ----------------------------------------------------------------------------

  function control(layer, name) {
    return layer.shaderControlState.state.get(name)?.trackable;
  }

  /** Values from `low` (black) to `high` (white), in stored values; of one layer, or of red, green and blue at once. */
  function setContrast(number, low, high) {
    const layer = layers()[number];
    for (const name of ["contrast", "red", "green", "blue"]) {
      const trackable = control(layer, name);
      if (!trackable) continue;
      trackable.value = { ...trackable.value, range: [low, high] };
    }
  }

  function setShader(glsl) {
    for (const layer of layers()) layer.fragmentMain.value = glsl;
  }

  function setVisible(number, visible) {
    viewer.layerManager.managedLayers[number].setVisible(visible);
  }

  // -- where one is -------------------------------------------------------------------------------

  /** Which slice of the axis `name` is shown, from 0. */
  function slice(name) {
    const i = index(name);
    return Math.round(viewer.position.value[i] - viewer.coordinateSpace.value.bounds.lowerBounds[i] - 0.5);
  }

  function setSlice(name, number) {
    const i = index(name);
    const position = viewer.position.value.slice();
    position[i] = viewer.coordinateSpace.value.bounds.lowerBounds[i] + 0.5 + number;
    viewer.position.value = position;
  }

  /** The pixel under the pointer: `{at: {x: 3, …}, values: [12]}`; null outside. */
  function under() {
    if (!viewer.mouseState.active) return null;
    const { names, bounds } = viewer.coordinateSpace.value;
    const at = {};
    names.forEach((name, i) => { at[name] = Math.round(viewer.mouseState.position[i] - bounds.lowerBounds[i] - 0.5); });
    const values = layers().filter(Boolean).flatMap((layer) => {
      const value = viewer.layerSelectedValues.get(layer)?.value;
      return value === undefined || value === null ? [] : [value].flat().map(String);
    });
    return { at, values };
  }

  /** From the 1st to the 99th percentile of what one plane shows now, sampled in the chunks that are here; null
   *  where too little is. `missing`: stored values that do not count. */
  function rangeInView(number, missing) {
    const layer = layers()[number];
    const { displayDimensionIndices: [x, y] } = viewer.displayDimensionRenderInfo.value;
    const { lowerBounds: lower, upperBounds: upper } = viewer.coordinateSpace.value.bounds;
    const source = layer.renderLayers.find((each) => each.getValueAt);
    if (!source) return null;
    const position = viewer.position.value.slice(), values = [], steps = 48;
    for (let i = 0; i < steps; ++i) {
      for (let j = 0; j < steps; ++j) {
        position[x] = lower[x] + ((i + 0.5) * (upper[x] - lower[x])) / steps;
        position[y] = lower[y] + ((j + 0.5) * (upper[y] - lower[y])) / steps;
        const value = Number(source.getValueAt(position) ?? Number.NaN);
        if (Number.isFinite(value) && !missing.includes(value)) values.push(value);
      }
    }
    if (values.length < 64) return null;
    values.sort((a, b) => a - b);
    const [low, high] = [0.01, 0.99].map((share) => values[Math.round(share * (values.length - 1))]);
    return high > low ? [low, high] : null;
  }

  const onMove = (listener) => viewer.position.changed.add(listener);
  const onPoint = (listener) => viewer.layerSelectedValues.changed.add(listener);
  const onLayout = (listener) => viewer.layout.changed.add(listener);

  /** Whether every panel shows all that it wants to show. */
  const complete = () => loaded() && viewer.display.isReady();

  window.scene = { ready, complete, layout, setLayout, fit, setContrast, setShader, setVisible, slice, setSlice, under, rangeInView, onMove, onPoint, onLayout };
})();
