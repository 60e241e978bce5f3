// What every page does: theme, local times, the search key.

/** Six digits of a number; of a very large or very small one its power of ten. */
function precise(value) {
  const short = Number(value.toPrecision(6)), size = Math.abs(short);
  if (size >= 1e9 || (size > 0 && size < 1e-4)) return short.toExponential();
  return short.toLocaleString(undefined, { maximumFractionDigits: 9, useGrouping: false });
}

(() => {
  const root = document.documentElement;

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  document.getElementById("theme")?.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* kept for this page only */ }
  });

  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const localise = (within) => {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const text = format.format(new Date(time.dateTime));
      if (time.textContent !== text) { time.title = time.dateTime; time.textContent = text; }
    }
  };
  localise(document);
  document.addEventListener("htmx:after:swap", () => localise(document));

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select")) return;
    const search = document.getElementById("q");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
  });

  for (const button of document.querySelectorAll("button.copy")) {
    if (!navigator.clipboard) continue; // only on https or this machine
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      const label = button.querySelector("span");
      label.textContent = "Copied";
      setTimeout(() => { label.textContent = "Copy"; }, 1500);
    });
  }
})();
