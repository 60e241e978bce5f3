// Uploads from the page: files and folders, by tus, going on where they were after a cut or a reload.
//
// What is dropped at once is one data set. A single file opens its own and its completion closes it; several are
// sent into a data set that is opened before and closed after them, small ones in tars of thousands. Dropping the
// same again goes on with it. On the page of an open data set, what is dropped is added to that one.
(() => {
  const ENDPOINT = "/api/uploads/";
  const AT_ONCE = 4;
  const CHUNK = 64 * 2 ** 20;
  const SMALL = 2 ** 20; // several such go in batches, one alone along with the request that creates its upload
  const BATCH_BYTES = 16 * 2 ** 20;
  const BATCH_FILES = 2000;
  const PATIENCE = [0, 1000, 3000, 5000, ...Array(2000).fill(10000)]; // hours: a laptop's lid is closed for long
  const NOT_DATA = new Set([".DS_Store", "Thumbs.db", "desktop.ini"]);
  const MEMORY = "scientistcloud-uploads";

  const csrf = document.body.dataset.csrf;
  const list = document.getElementById("uploads");
  const template = document.getElementById("upload-row");
  const drop = document.getElementById("drop");
  if (!list || !tus.isSupported) return;
  const into = list.dataset.into ?? null; // the open data set that this page shows
  const converts = () => document.getElementById("convert")?.checked ?? true;

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

  // -- tars ---------------------------------------------------------------------------------------

  const encoder = new TextEncoder();

  /** The header of a file in a tar (ustar; before it a pax header where the name needs one). */
  function tarHeader(path, size, type = "0") {
    const name = encoder.encode(path);
    const plain = name.length <= 100 && name.length === path.length;
    if (!plain && type === "0") {
      const record = paxRecord("path", path);
      const padding = new Uint8Array((512 - (record.length % 512)) % 512);
      return [...tarHeader("pax", record.length, "x"), record, padding, ...tarHeader("long", size)];
    }
    const block = new Uint8Array(512);
    const put = (text, at) => block.set(encoder.encode(text), at);
    block.set(name, 0);
    put("0000644\0", 100);
    put("0000000\0", 108);
    put("0000000\0", 116);
    put(`${size.toString(8).padStart(11, "0")}\0`, 124);
    put("00000000000\0", 136);
    put("        ", 148);
    put(type, 156);
    put("ustar\u000000", 257);
    put(`${block.reduce((sum, each) => sum + each, 0).toString(8).padStart(6, "0")}\0 `, 148);
    return [block];
  }

  function paxRecord(key, value) {
    const rest = encoder.encode(` ${key}=${value}\n`);
    let length = rest.length;
    while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
    return encoder.encode(`${length} ${key}=${value}\n`);
  }

  /** A Blob that reads the files when it is sent. */
  function tar(items) {
    const parts = [];
    for (const { file, path } of items) {
      parts.push(...tarHeader(path, file.size), file, new Uint8Array((512 - (file.size % 512)) % 512));
    }
    return new Blob([...parts, new Uint8Array(1024)]);
  }

  /** One attempt to send a batch; `abort` ends it. Its `promise` gives the answer's status and text, 0 for no line. */
  function putTar(dataset, items, onProgress) {
    const request = new XMLHttpRequest();
    const promise = new Promise((resolve) => {
      request.open("PUT", `${ENDPOINT}batch?dataset=${dataset}`);
      request.setRequestHeader("X-CSRF-Token", csrf);
      request.setRequestHeader("Content-Type", "application/x-tar");
      request.upload.onprogress = (event) => { if (event.lengthComputable) onProgress(event.loaded / event.total); };
      request.onload = () => resolve({ status: request.status, text: request.responseText });
      request.onerror = request.onabort = () => resolve({ status: 0, text: "" });
      request.send(tar(items));
    });
    return { promise, abort: () => request.abort() };
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
      this.sentBytes = 0;
      this.waiting = [...files];
      this.running = new Map(); // path -> tus.Upload, or the batch that is being sent
      this.rate = new Rate();
      this.state = "starting";
      this.convert = converts();
      this.dataset = into ?? memory.get(this.key)?.dataset ?? null;
      this.row = new Row(this);
    }

    note(path, size) {
      this.sentBytes += size - (this.sent.get(path) ?? 0);
      this.sent.set(path, size);
    }

    get single() { return !into && this.convert && this.files.length === 1 && !this.files[0].path.includes("/"); }

    async begin() {
      try {
        if (!this.single) {
          await this.openDataset();
          this.gather();
        }
        this.remember();
        this.state = "sending";
        this.fill();
      } catch (error) { this.fail(error.message); }
    }

    async openDataset() {
      if (this.dataset) {
        const known = await api("GET", `/api/datasets/${this.dataset}`).catch(() => null);
        if (known?.closed_at === null) return this.skipThere();
        if (into) throw new Error("the data set is closed; open it for more files first");
      }
      this.dataset = (await api("POST", "/api/datasets", { name: this.name })).uuid;
    }

    /** Small files go in batches, where there are several. */
    gather() {
      const small = this.waiting.filter(({ file }) => file.size <= SMALL);
      if (small.length < 2) return;
      const batches = [];
      let batch = [];
      let size = 0;
      for (const item of small) {
        if (batch.length >= BATCH_FILES || (batch.length && size + item.file.size > BATCH_BYTES)) {
          batches.push({ batch });
          batch = [];
          size = 0;
        }
        batch.push(item);
        size += item.file.size;
      }
      batches.push({ batch });
      this.waiting = [...batches, ...this.waiting.filter(({ file }) => file.size > SMALL)];
    }

    /** Leave out what arrived before the page was closed. */
    async skipThere() {
      const there = new Map();
      for (let after = ""; ;) {
        const query = after ? `?limit=10000&after=${encodeURIComponent(after)}` : "?limit=10000";
        const { files } = await api("GET", `/api/datasets/${this.dataset}/files${query}`);
        for (const each of files) there.set(each.path, each.size_bytes);
        if (files.length < 10000) break;
        after = files.at(-1).path;
      }
      this.waiting = this.waiting.filter(({ file, path }) => {
        if (there.get(path) !== file.size) return true;
        this.note(path, file.size);
        return false;
      });
    }

    remember() { if (!into) memory.put(this.key, { name: this.name, dataset: this.dataset, total: this.total, count: this.files.length, since: Date.now() }); }

    fill() {
      while (this.state === "sending" && this.running.size < AT_ONCE && this.waiting.length) this.send(this.waiting.shift());
      if (this.state === "sending" && !this.running.size && !this.waiting.length) this.finish();
      this.row.show();
    }

    async sendBatch(item) {
      const { batch } = item;
      const key = batch[0].path;
      for (let tries = 0; ; tries += 1) {
        const sending = putTar(this.dataset, batch, (share) => {
          for (const { file, path } of batch) this.note(path, Math.floor(share * file.size));
          this.offline = false;
          this.row.soon();
        });
        this.running.set(key, { ...sending, url: "", start: () => {} });
        const { status, text } = await sending.promise;
        if (status === 200) {
          for (const { file, path } of batch) this.note(path, file.size);
          this.running.delete(key);
          this.fill();
          return;
        }
        for (const { path } of batch) this.note(path, 0);
        if (this.state !== "sending") { // paused, cancelled or failed
          this.running.delete(key);
          this.waiting.unshift(item);
          return;
        }
        if (status !== 0 && status < 500 || tries >= PATIENCE.length) {
          this.running.delete(key);
          this.fail(reason(status, text));
          return;
        }
        this.offline = status === 0;
        this.row.soon();
        await new Promise((resolve) => setTimeout(resolve, PATIENCE[tries]));
      }
    }

    send(item) {
      if (item.batch) { this.sendBatch(item); return; }
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
        onUploadUrlAvailable: () => { if (upload.halting) halt(upload, upload.halting); },
        onAfterResponse: (_request, answer) => this.learn(answer.getHeader("Dataset-UUID")),
        onProgress: (sent) => { this.note(path, sent); this.offline = false; this.row.soon(); },
        onShouldRetry: (error) => {
          const status = error.originalResponse?.getStatus() ?? 0;
          const again = status === 0 || status >= 500 || status === 409 || status === 423;
          this.offline = again && status === 0;
          if (again) this.row.soon();
          return again;
        },
        onSuccess: () => { this.running.delete(path); this.note(path, file.size); this.fill(); },
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
        if (!this.single && !into) await api("POST", `/api/datasets/${this.dataset}/close`, { convert: this.convert });
        memory.forget(this.key);
        this.state = "done";
        this.row.leave();
        if (into && !drops.size) location.reload(); // with the new files in the table
      } catch (error) { this.fail(error.message); }
    }

    pause() {
      this.state = "paused";
      this.rate.reset();
      for (const upload of this.running.values()) halt(upload, "for now");
      this.row.show();
    }

    goOn() {
      this.state = "sending";
      for (const upload of this.running.values()) {
        if (upload.halting) upload.halting = null; // it is just being opened, and goes on by itself
        else upload.start();
      }
      this.fill();
    }

    cancel() {
      this.state = "cancelled";
      for (const upload of this.running.values()) halt(upload, "for good");
      memory.forget(this.key);
      this.row.leave();
    }

    fail(message) {
      this.state = "failed";
      this.message = message;
      for (const upload of this.running.values()) halt(upload, "for now");
      this.row.show();
    }
  }

  /** Stop an upload; "for good": its server forgets it too. One that is just being opened has no address yet: later. */
  function halt(upload, how) {
    upload.halting = upload.url === null ? how : null;
    if (upload.halting) return;
    Promise.resolve(upload.abort(how === "for good")).catch(() => {});
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
      const sent = Math.min(drop.total, drop.sentBytes);
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

  for (const [key, { name, total, since }] of into ? [] : Object.entries(memory.all())) {
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

  document.getElementById(into ? "chosen-files" : "files").addEventListener("change", chosen);
  document.getElementById("folder").addEventListener("change", chosen);
  document.getElementById("upload")?.addEventListener("click", () => document.getElementById("files").click());

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
