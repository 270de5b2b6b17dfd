// What happens in the browser: keys and buttons set the properties of `view`, and `status` is put into words.
"use strict";

window.dashboard = (() => {
  const SIGNS = {ok: "●", warn: "▲", bad: "■", off: "○"};
  const SILENT_MS = 4000; // without a word from the server for this long the page says so
  const byId = (id) => document.getElementById(id);
  let view, status, pulse;
  let heardAt = Date.now(), told = {}, noteNumber = 0, isLeaving = false;

  function element(tag, text, className) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function row(tag, cells, className) {
    const made = element(tag, "", className);
    made.append(...cells);
    return made;
  }

  function show(text) {
    told = JSON.parse(text);
    if (!told.lights) return;
    byId("title").textContent = told.title;
    document.title = told.banner ? `⚠ ${told.title}` : told.title;
    document.body.classList.toggle("stale", told.stale);
    byId("annotations").textContent = told.annotations ? `Annotations go out as ${told.annotations}` : "";
    byId("lights").replaceChildren(...told.lights.map((light) => row("li", [
      element("span", SIGNS[light.level], "sign"), element("span", light.name),
      row("span", [element("span", light.word, "word"), ` ${light.text}`], "text"),
    ], light.level)));
    byId("events").tBodies[0].replaceChildren(...told.events.map((event) => {
      const head = element("th", event.name);
      head.scope = "row";
      return row("tr", [head, element("td", event.probability), element("td", event.threshold),
        element("td", event.detections)], event.is_over ? "over" : "");
    }));
    byId("counts").replaceChildren(...told.counts.map((count) =>
      row("div", [element("dt", count.name), element("dd", count.value)])));
    if (JSON.stringify(told.log) !== show.log) { // else a screen reader would read it again and again
      show.log = JSON.stringify(told.log);
      byId("log").replaceChildren(...told.log.map((entry) =>
        row("li", [element("time", entry.time), `${entry.kind === "detection" ? "▼" : "✎"} ${entry.text}`])));
    }
    const height = Math.max(180, Math.min(280, 40 + 30 * told.events.length));
    document.querySelector("main").style.setProperty("--probabilities", `${height}px`);
    showBanner();
  }

  // The names beside the traces stand where Bokeh draws the rows; neighbours in two columns where it is tight.
  function showNames() {
    const {top, bottom, rows} = JSON.parse(status.rows);
    if (!rows) return;
    const isTight = rows.length > 36;
    byId("names").replaceChildren(...rows.map(({name, word}, row) => {
      const label = element("span", name, word ? "bad" : "");
      label.style.top = `${100 * (top + row) / (top - bottom)}%`;
      if (isTight && row % 2) label.style.right = "3.8em";
      if (word) label.title = word;
      return label;
    }));
  }

  // Make the lines of a figure from its points; in place, so that nothing goes back to the server.
  function join(points, lines) {
    const n_rows = lines.data.color.length;
    const ys = Array.from({length: n_rows}, (_, row) => points.data[`y${row}`] ?? []);
    lines.data.ys = ys;
    lines.data.xs = ys.map((y) => (y.length ? points.data.x : []));
    lines.change.emit();
  }

  function showChoice() {
    byId("scale").textContent = status.scale ? `${status.scale} µV a row` : "–";
    byId("channels").textContent = status.channels || "–";
  }

  function showBanner() {
    const silence = Date.now() - heardAt;
    const isSilent = !document.hidden && silence > SILENT_MS;
    const text = isSilent ? `The dashboard does not answer, ${Math.round(silence / 1000)} s: is its process running?`
      : told.banner || (view.paused ? "Paused: the figures stand still, the detector goes on." : "");
    byId("banner").textContent = text;
    byId("banner").hidden = !text;
    if (isSilent) document.body.classList.add("stale");
    return isSilent;
  }

  // A dashboard that was started again does not know this page: load it anew once it answers.
  async function watch() {
    if (!showBanner() || isLeaving) return;
    try {
      const answer = await fetch(window.location.href, {cache: "no-store"});
      if (answer.ok && Date.now() - heardAt > SILENT_MS) {
        isLeaving = true;
        window.location.reload();
      }
    } catch { /* not yet there */ }
  }

  function acknowledge() {
    const sent = pulse.sent;
    let isDone = false;
    const done = () => {
      if (isDone) return;
      isDone = true;
      heardAt = Date.now();
      pulse.drawn = Math.max(pulse.drawn, sent);
      window.dashboard.frames += 1;
    };
    // A frame later all is drawn; a hidden tab draws none, and is asked less often.
    requestAnimationFrame(() => requestAnimationFrame(done));
    setTimeout(done, 1000);
  }

  function setDark(isDark, isChosen) {
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    byId("dark").setAttribute("aria-pressed", isDark);
    if (isChosen) localStorage.setItem("streamdetect-dark", isDark);
    if (view) view.dark = isDark;
  }

  function setPaused(isPaused) {
    view.paused = isPaused;
    byId("pause").setAttribute("aria-pressed", isPaused);
    byId("pause").textContent = isPaused ? "Go on" : "Pause";
    showBanner();
  }

  function annotate(text) {
    noteNumber += 1;
    view.note = JSON.stringify({number: noteNumber, text});
  }

  function step(direction) {
    const index = SCALES.findIndex((scale) => scale >= status.scale);
    view.scale = SCALES[Math.max(0, Math.min(SCALES.length - 1, index + direction))];
  }

  function page(direction) {
    const [first, last, all] = status.channels.match(/\d+/g).map(Number);
    const rows = last - first + 1;
    view.first = Math.max(0, Math.min(all - rows, first - 1 + direction * rows));
  }

  const KEYS = {
    " ": () => setPaused(!view.paused),
    a: () => annotate(byId("note").value),
    d: () => setDark(!view.dark, true),
    "+": () => step(-1),
    "=": () => step(-1),
    "-": () => step(1),
    0: () => { view.scale = 0; },
    "[": () => page(-1),
    "]": () => page(1),
  };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const tag = event.target.tagName;
    if (tag === "INPUT") {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (tag === "SELECT" || (event.key === " " && tag === "BUTTON")) return;
    if (KEYS[event.key]) KEYS[event.key]();
    else if (/^[1-9]$/.test(event.key)) annotate(event.key);
    else return;
    event.preventDefault();
  }

  function begin(...models) {
    [view, status, pulse] = models;
    const listen = (model, name, react) => model.properties[name].change.connect(react);
    listen(status, "text", () => show(status.text));
    listen(status, "rows", showNames);
    listen(status, "scale", showChoice);
    listen(status, "channels", showChoice);
    listen(pulse, "sent", acknowledge);
    byId("pause").onclick = () => setPaused(!view.paused);
    byId("finer").onclick = KEYS["+"];
    byId("coarser").onclick = KEYS["-"];
    byId("previous").onclick = KEYS["["];
    byId("next").onclick = KEYS["]"];
    byId("dark").onclick = KEYS.d;
    byId("rows").onchange = (event) => { view.rows = Number(event.target.value); };
    byId("band").onchange = (event) => { view.band = Number(event.target.value); };
    byId("annotate").onsubmit = (event) => { event.preventDefault(); annotate(byId("note").value); };
    document.addEventListener("keydown", onKey);
    document.addEventListener("visibilitychange", () => { heardAt = Date.now(); });
    setDark(isDarkWanted(), false);
    show(status.text);
    showNames();
    showChoice();
    acknowledge();
    setInterval(watch, 1000);
  }

  function isDarkWanted() {
    const chosen = localStorage.getItem("streamdetect-dark");
    return chosen === null ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "true";
  }

  setDark(isDarkWanted(), false);
  matchMedia("(prefers-color-scheme: dark)").onchange = () => setDark(isDarkWanted(), false);
  return {begin, join, frames: 0};
})();
