// Uploads from the page: files and folders, by tus, going on where they were after a cut or a reload.
//
// What is dropped at once is one data set. A single file opens its own and its completion closes it; several are
// sent into a data set that is opened before and closed after them. Dropping the same again goes on with it.
(() => {
  const ENDPOINT = "/api/uploads/";
  const AT_ONCE = 4;
  const CHUNK = 64 * 2 ** 20;
  const SMALL = 2 ** 20; // sent along with the request that creates the upload
  const PATIENCE = [0, 1000, 3000, 5000, ...Array(2000).fill(10000)]; // hours: a laptop's lid is closed for long
  const NOT_DATA = new Set([".DS_Store", "Thumbs.db", "desktop.ini"]);
  const MEMORY = "scientistcloud-uploads";

  const csrf = document.body.dataset.csrf;
  const list = document.getElementById("uploads");
  const template = document.getElementById("upload-row");
  const drop = document.getElementById("drop");
  if (!list || !tus.isSupported) return;

  // -- what is remembered over a reload -----------------------------------------------------------

  const memory = {
    all() { try { return JSON.parse(localStorage.getItem(MEMORY)) ?? {}; } catch { return {}; } },
    get(key) { return this.all()[key]; },
    put(key, value) { this.write({ ...this.all(), [key]: value }); },
    forget(key) { const { [key]: _gone, ...rest } = this.all(); this.write(rest); },
    write(all) { try { localStorage.setItem(MEMORY, JSON.stringify(all)); } catch { /* it starts anew after a reload */ } },
  };

  async function api(method, path, body) {
    const answer = await fetch(path, {
      method,
      headers: { "X-CSRF-Token": csrf, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body ? JSON.stringify(body) : undefined,
    });
    if (!answer.ok) throw new Error(await reason(answer.status, await answer.text()));
    return answer.json();
  }

  function reason(status, text) {
    try { return JSON.parse(text).detail ?? `the server answered ${status}`; } catch { return `the server answered ${status}`; }
  }

  // -- figures ------------------------------------------------------------------------------------

  function bytes(count) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (count >= 999.5 && unit < units.length - 1) { count /= 1000; unit += 1; }
    return `${unit === 0 || count >= 9.95 ? count.toFixed(0) : count.toFixed(1)}\u00a0${units[unit]}`;
  }

  function duration(seconds) {
    if (seconds < 60) return `${Math.max(1, Math.round(seconds))}\u00a0s left`;
    if (seconds < 5400) return `${Math.round(seconds / 60)}\u00a0min left`;
    return `${(seconds / 3600).toFixed(1)}\u00a0h left`;
  }

  /** Bytes a second over the last five: what the line does now, not what it did once. */
  class Rate {
    #marks = [];
    note(sent) {
      const now = performance.now();
      this.#marks.push([now, sent]);
      while (this.#marks.length > 2 && now - this.#marks[0][0] > 5000) this.#marks.shift();
    }
    reset() { this.#marks = []; }
    get value() {
      if (this.#marks.length < 2) return 0;
      const [[t0, b0], [t1, b1]] = [this.#marks[0], this.#marks.at(-1)];
      return t1 - t0 < 400 ? 0 : Math.max(0, (1000 * (b1 - b0)) / (t1 - t0));
    }
  }

  // -- one drop -----------------------------------------------------------------------------------

  class Drop {
    /** `files`: `[{file, path}]`, paths relative to the data set. */
    constructor(name, files) {
      this.name = name;
      this.files = files;
      this.total = files.reduce((sum, each) => sum + each.file.size, 0);
      this.key = fingerprint(name, files);
      this.sent = new Map(); // path -> bytes
      this.waiting = [...files];
      this.running = new Map(); // path -> tus.Upload
      this.rate = new Rate();
      this.state = "starting";
      this.dataset = memory.get(this.key)?.dataset ?? null;
      this.row = new Row(this);
    }

    get single() { return this.files.length === 1 && !this.files[0].path.includes("/"); }

    async begin() {
      try {
        if (!this.single) await this.openDataset();
        this.remember();
        this.state = "sending";
        this.fill();
      } catch (error) { this.fail(error.message); }
    }

    async openDataset() {
      if (this.dataset) {
        const known = await api("GET", `/api/datasets/${this.dataset}`).catch(() => null);
        if (known?.status === "uploading") return this.skipThere();
      }
      this.dataset = (await api("POST", "/api/datasets", { name: this.name })).uuid;
    }

    /** Leave out what arrived before the page was closed. */
    async skipThere() {
      const there = new Map();
      for (let after = ""; ;) {
        const query = after ? `?limit=1000&after=${encodeURIComponent(after)}` : "?limit=1000";
        const { files } = await api("GET", `/api/datasets/${this.dataset}/files${query}`);
        for (const each of files) there.set(each.path, each.size_bytes);
        if (files.length < 1000) break;
        after = files.at(-1).path;
      }
      this.waiting = this.waiting.filter(({ file, path }) => {
        if (there.get(path) !== file.size) return true;
        this.sent.set(path, file.size);
        return false;
      });
    }

    remember() { memory.put(this.key, { name: this.name, dataset: this.dataset, total: this.total, count: this.files.length, since: Date.now() }); }

    fill() {
      while (this.state === "sending" && this.running.size < AT_ONCE && this.waiting.length) this.send(this.waiting.shift());
      if (this.state === "sending" && !this.running.size && !this.waiting.length) this.finish();
      this.row.show();
    }

    send(item) {
      const { file, path } = item;
      const metadata = { filename: file.name, filetype: file.type };
      if (!this.single) Object.assign(metadata, { dataset: this.dataset, relativePath: path });
      const upload = new tus.Upload(file, {
        endpoint: ENDPOINT,
        chunkSize: CHUNK,
        retryDelays: PATIENCE,
        metadata,
        headers: { "X-CSRF-Token": csrf },
        uploadDataDuringCreation: file.size <= SMALL,
        removeFingerprintOnSuccess: true,
        // The library's own leaves out folder and data set, so equal names in two folders would collide.
        fingerprint: () => Promise.resolve(["scientistcloud", this.key, path, file.size, file.lastModified].join("|")),
        onAfterResponse: (_request, answer) => this.learn(answer.getHeader("Dataset-UUID")),
        onProgress: (sent) => { this.sent.set(path, sent); this.offline = false; this.row.soon(); },
        onShouldRetry: (error) => {
          const status = error.originalResponse?.getStatus() ?? 0;
          const again = status === 0 || status >= 500 || status === 409 || status === 423;
          this.offline = again && status === 0;
          if (again) this.row.soon();
          return again;
        },
        onSuccess: () => { this.running.delete(path); this.sent.set(path, file.size); this.fill(); },
        onError: (error) => {
          const answer = error.originalResponse;
          this.fail(answer ? reason(answer.getStatus(), answer.getBody()) : "the connection is gone; drop it again to go on");
        },
      });
      this.running.set(path, upload);
      upload.findPreviousUploads().then((before) => {
        if (before.length) upload.resumeFromPreviousUpload(before[0]);
        if (this.state === "sending") upload.start();
      });
    }

    learn(uuid) {
      if (!uuid || this.dataset === uuid) return;
      this.dataset = uuid;
      this.remember();
      hideOwn();
    }

    async finish() {
      this.state = "closing";
      this.row.show();
      try {
        if (!this.single) await api("POST", `/api/datasets/${this.dataset}/close`, {});
        memory.forget(this.key);
        this.state = "done";
        this.row.leave();
      } catch (error) { this.fail(error.message); }
    }

    pause() {
      this.state = "paused";
      this.rate.reset();
      for (const upload of this.running.values()) upload.abort();
      this.row.show();
    }

    goOn() {
      this.state = "sending";
      for (const upload of this.running.values()) upload.start();
      this.fill();
    }

    cancel() {
      this.state = "cancelled";
      for (const upload of this.running.values()) upload.abort(true).catch(() => {});
      memory.forget(this.key);
      this.row.leave();
    }

    fail(message) {
      this.state = "failed";
      this.message = message;
      for (const upload of this.running.values()) upload.abort();
      this.row.show();
    }
  }

  function fingerprint(name, files) {
    let hash = 2166136261; // FNV-1a over the list: a key for this browser's own memory, no secret
    for (const { file, path } of files) {
      for (const char of `${path}\n${file.size}\n${file.lastModified}\n`) hash = Math.imul(hash ^ char.codePointAt(0), 16777619) >>> 0;
    }
    return `${name}|${files.length}|${hash.toString(16)}`;
  }

  // -- its row ------------------------------------------------------------------------------------

  class Row {
    constructor(drop) {
      this.drop = drop;
      this.element = template.content.firstElementChild.cloneNode(true);
      this.part = (name) => this.element.querySelector(name);
      this.part(".name").textContent = drop.name;
      this.part("progress").setAttribute("aria-label", `Upload of ${drop.name}`);
      this.part(".pause").addEventListener("click", () => (drop.state === "paused" ? drop.goOn() : drop.pause()));
      this.part(".cancel").addEventListener("click", () => drop.cancel());
      list.append(this.element);
      list.hidden = false;
    }

    soon() {
      if (this.timer) return;
      this.timer = setTimeout(() => { this.timer = 0; this.show(); }, 200);
    }

    show() {
      const { drop } = this;
      const sent = Math.min(drop.total, [...drop.sent.values()].reduce((sum, each) => sum + each, 0));
      if (drop.state === "sending") drop.rate.note(sent);
      // 100 % is for what has arrived; rounding up would be a lie.
      const percent = drop.total ? Math.floor((100 * sent) / drop.total) : 0;
      this.part("progress").value = percent;
      this.part(".percent").textContent = `${percent} %`;
      this.part(".step").textContent = this.words(sent);
      this.element.classList.toggle("bad", drop.state === "failed");
      this.part(".pause").hidden = !["sending", "paused"].includes(drop.state);
      this.part(".pause").textContent = drop.state === "paused" ? "Go on" : "Pause";
      this.part(".cancel").textContent = drop.state === "failed" ? "Dismiss" : "Cancel";
    }

    words(sent) {
      const { drop } = this;
      const size = `${bytes(sent)} of ${bytes(drop.total)}`;
      const files = drop.files.length > 1 ? ` · ${drop.files.length} files` : "";
      switch (drop.state) {
        case "failed": return drop.message;
        case "paused": return `paused · ${size}`;
        case "closing": return "all there";
        case "starting": return "starting";
      }
      if (drop.offline) return `waits for the connection · ${size}`;
      const rate = drop.rate.value;
      return rate ? `${size}${files} · ${bytes(rate)}/s · ${duration((drop.total - sent) / rate)}` : `${size}${files}`;
    }

    leave() {
      clearTimeout(this.timer);
      this.timer = -1;
      this.element.remove();
      list.hidden = !list.children.length;
      drops.delete(this.drop);
      hideOwn();
    }
  }

  // -- all drops ----------------------------------------------------------------------------------

  const drops = new Set();

  function take(name, files) {
    const kept = files.filter(({ file }) => !NOT_DATA.has(file.name));
    if (!kept.length) return;
    for (const each of list.querySelectorAll("[data-unfinished]")) {
      if (each.dataset.unfinished === fingerprint(name, kept)) each.remove();
    }
    const started = new Drop(name, kept);
    drops.add(started);
    started.begin();
  }

  // The server's list shows what is uploading too; here this page's own row says more.
  function hideOwn() {
    const own = new Set([...drops].map((each) => each.dataset));
    for (const row of document.querySelectorAll("#work .job")) row.hidden = own.has(row.id.slice("job-".length));
    for (const rows of document.querySelectorAll("#work .jobs")) rows.hidden = ![...rows.children].some((row) => !row.hidden);
  }
  document.addEventListener("htmx:after:swap", hideOwn);

  for (const [key, { name, total, since }] of Object.entries(memory.all())) {
    if (Date.now() - since > 7 * 86400e3) { memory.forget(key); continue; }
    const row = template.content.firstElementChild.cloneNode(true);
    row.dataset.unfinished = key;
    row.querySelector(".name").textContent = name;
    row.querySelector(".step").textContent = `${bytes(total)}, not complete · drop it again to go on`;
    for (const part of ["progress", ".percent", ".pause"]) row.querySelector(part).remove();
    row.querySelector(".cancel").textContent = "Forget";
    row.querySelector(".cancel").addEventListener("click", () => { memory.forget(key); row.remove(); list.hidden = !list.children.length; });
    list.append(row);
    list.hidden = false;
  }

  // -- choosing and dropping ----------------------------------------------------------------------

  function chosen(event) {
    const input = event.target;
    const files = [...input.files];
    input.value = "";
    if (!files.length) return;
    const top = files[0].webkitRelativePath.split("/")[0];
    if (top) take(top, files.map((file) => ({ file, path: file.webkitRelativePath.slice(top.length + 1) })));
    else take(title(files.map((file) => file.name)), files.map((file) => ({ file, path: file.name })));
  }

  /** A name for several files: the first one's, and how many more. */
  function title(names) {
    const sorted = [...names].sort();
    return names.length === 1 ? sorted[0] : `${sorted[0]} and ${names.length - 1} more`;
  }

  document.getElementById("files").addEventListener("change", chosen);
  document.getElementById("folder").addEventListener("change", chosen);
  document.getElementById("upload").addEventListener("click", () => document.getElementById("files").click());

  async function walk(entry, path, found) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, path: path + entry.name });
      return;
    }
    const reader = entry.createReader();
    for (;;) { // hands out a hundred at a time
      const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!entries.length) return;
      for (const each of entries) await walk(each, `${path}${entry.name}/`, found);
    }
  }

  async function dropped(event) {
    // Both lists are empty after the first pause of this function.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...event.dataTransfer.files];
    if (!entries.length) { // not from the desktop, or a browser that knows no entries: no folders then
      if (plain.length) take(title(plain.map((file) => file.name)), plain.map((file) => ({ file, path: file.name })));
      return;
    }
    const found = [];
    for (const entry of entries) await walk(entry, "", found);
    found.sort((a, b) => (a.path < b.path ? -1 : 1)); // the order of a folder's entries is nobody's promise
    if (entries.length === 1 && entries[0].isDirectory) {
      const top = entries[0].name;
      take(top, found.map(({ file, path }) => ({ file, path: path.slice(top.length + 1) })));
    } else if (found.length) take(title(entries.map((entry) => entry.name)), found);
  }

  // The whole window takes what is dropped.
  let depth = 0;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth += 1; drop.classList.add("over"); } });
  addEventListener("dragleave", (event) => { if (carriesFiles(event) && (depth -= 1) <= 0) { depth = 0; drop.classList.remove("over"); } });
  addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    drop.classList.remove("over");
    dropped(event).catch((error) => console.error("what was dropped cannot be read", error));
  });
})();
