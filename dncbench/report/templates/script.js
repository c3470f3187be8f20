"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // An element with attributes and children; texts are never read as markup.
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // A label that may go on in another line after each of its settings.
  const breakable = (label) => label.split(/(?=\[)|(?<=,)/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));

  // ------------------------------------------------------------ theme
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("dncbench-theme", value);
      return localStorage.getItem("dncbench-theme");
    } catch { return null; }  // a page from a file may have no storage
  };
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  if (remembered()) root.dataset.theme = remembered();
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered(root.dataset.theme);
    nameTheme();
  });
  dark.addEventListener("change", nameTheme);
  nameTheme();

  // ------------------------------------------------------------ overview
  const metric = document.getElementById("metric");
  const short = { "not applicable": "n/a", "no record": "none" };
  const flags = (cell, level, marks) =>
    (level === 0 ? "°" : "") + (marks.includes("?") || (metric.value === "0" && cell.unreliable) ? "?" : "") +
    (/\b(failed|not applicable|timed out)\b/.test(cell.status) ? "!" : "");
  const paint = () => {
    for (const button of all(".heat [data-cell]")) {
      const [section, place] = button.dataset.cell.split(",");
      const cell = data.sections[section].cells[place];
      const [multiple, level] = cell.heat[metric.value];
      const scored = cell.state === "scored";
      button.textContent = scored
        ? multiple + flags(cell, level, cell.marks[metric.value])
        : short[cell.state] || cell.state;
      button.className = level === null ? "blank" : `level-${level}`;
      button.title = `${cell.method} on ${data.sections[section].title}: ` +
        (scored ? `${multiple} times the floor, ${data.metrics[metric.value]}; ${cell.status}` : cell.status);
    }
  };
  metric.addEventListener("change", () => { paint(); rank(); });

  // ------------------------------------------------------------ a cell's detail
  const dialog = document.getElementById("detail");
  const table = (header, rows) => make("div", { class: "scroll", tabindex: "0" }, make("table", {},
    make("thead", {}, make("tr", {}, ...header.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text, i) =>
      i ? make("td", { class: "number" }, text) : make("th", { scope: "row" }, text)))))));
  const facts = (pairs) => make("dl", { class: "facts" },
    ...pairs.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  const list = (lines) => make("ul", {}, ...lines.map((line) => make("li", {}, line)));

  const show = (section, cell) => {
    const body = document.getElementById("detail-body");
    document.getElementById("detail-title").textContent = `${cell.method} on ${section.title}`;
    body.replaceChildren(facts([
      ["status", cell.status], ["track", cell.track], ["terms", section.terms],
      ...(cell.created ? [["made", cell.created]] : []),
    ]));
    const part = (title, content) => body.append(make("h3", {}, title), content);
    if (cell.splits.length) part("Reasons and warnings", list(cell.splits));
    if (cell.figures.length) {
      const ranks = cell.figures.some((line) => line[5]);
      const header = ["metric", "mean (sd)", "standard error", "noise floor ± sd", "multiple", "rank"];
      const cut = (row) => (ranks ? row : row.slice(0, 5));
      part("Figures", table(cut(header), cell.figures.map(cut)));
    }
    if (cell.state === "scored") part("Seconds", table(["phase", "seconds"], cell.seconds));
    if (cell.facts.length) part("Cost and diagnostics", facts(cell.facts));
    if (cell.notes.length) part("Notes", list(cell.notes));
    part(cell.state === "no record" ? "The command that would make it" : "The command that makes it",
      make("pre", {}, cell.command));
    cell.environments.forEach((place, i, places) => part(
      places.length > 1 ? `Environment ${i + 1} of ${places.length}` : "Environment",
      facts(data.environments[place])));
    dialog.showModal();
    dialog.scrollTop = 0;
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-cell]");
    if (button) {
      const [section, place] = button.dataset.cell.split(",");
      show(data.sections[section], data.sections[section].cells[place]);
    }
    if (event.target === dialog) dialog.close();
  });

  // ------------------------------------------------------------ which method
  const questions = all("[data-question]");
  const rank = () => {
    const asked = questions.map((select) => select.value);
    const matching = data.sections.filter((section) =>
      asked.every((name, i) => !name || section.classes[i] === name));
    all("#classes tbody tr").forEach((row) =>
      row.classList.toggle("out", !matching.includes(data.sections[row.dataset.section])));
    document.getElementById("matching").textContent =
      `${matching.length} of ${data.sections.length} problems are like yours` +
      (matching.length ? `: ${matching.map((section) => section.title).join(", ")}.` : ".");
    const rows = (matching.length ? matching[0].cells : []).map((first, place) => {
      const cells = matching.map((section) => section.cells[place]);
      const good = cells.filter((cell) => cell.heat[metric.value][1] !== null && !cell.unreliable);
      const levels = good.map((cell) => cell.heat[metric.value]);
      const others = {};
      for (const cell of cells) {
        if (good.includes(cell)) continue;
        const state = cell.state === "scored" ? (cell.unreliable ? "unreliable" : "no such figure") : cell.state;
        others[state] = (others[state] || 0) + 1;
      }
      const worst = levels.reduce((found, one) => (!found || one[2] > found[2] ? one : found), null);
      return {
        method: first.method, track: first.track, worst,
        floor: levels.filter(([, level]) => level === 0).length,
        near: levels.filter(([, level]) => level <= 1).length,
        others: Object.entries(others).map(([state, count]) => `${count} ${state}`).join(", "),
      };
    }).filter((row) => row.track !== data.reference);
    rows.sort((a, b) => b.floor - a.floor || b.near - a.near ||
      (a.worst ? a.worst[2] : Infinity) - (b.worst ? b.worst[2] : Infinity));
    const of = (count) => `${count} of ${matching.length}`;
    document.querySelector("#ranking tbody").replaceChildren(...rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, ...breakable(row.method)), make("td", {}, row.track),
      make("td", {}, of(row.floor)), make("td", {}, of(row.near)),
      make("td", {}, row.worst ? make("span", { class: `chip level-${row.worst[1]}` }, row.worst[0]) : "-"),
      make("td", {}, row.others || "-"))));
  };
  questions.forEach((select) => select.addEventListener("change", rank));

  // ------------------------------------------------------------ tables
  const sortBy = (heading) => {
    const tbody = heading.closest("table").tBodies[0];
    const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    all("th", heading.parentElement).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", direction);
    const number = heading.classList.contains("number");
    const key = (row) => {
      const entry = row.cells[heading.cellIndex];
      if (heading.cellIndex === 0) return entry.textContent.trim();
      const text = entry.dataset.sort;
      return text === undefined ? null : number ? parseFloat(text) : text;
    };
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...tbody.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);  // what has no figure stays last
      return sign * (number ? a - b : a.localeCompare(b));
    });
    tbody.append(...rows.map(([, row]) => row));
  };
  for (const section of all("section.problem")) {
    const track = section.querySelector(".track");
    const filter = section.querySelector(".filter");
    const rows = all(".board tbody tr", section);
    const choose = () => {
      const text = filter.value.trim().toLowerCase();
      for (const row of rows) {
        row.hidden = (track.value && row.dataset.track !== track.value) ||
          !row.cells[0].textContent.toLowerCase().includes(text);
      }
      const left = rows.filter((row) => !row.hidden).length;
      section.querySelector(".shown").textContent = left < rows.length ? `${left} of ${rows.length} methods` : "";
    };
    track.addEventListener("change", choose);
    filter.addEventListener("input", choose);
    all(".sort", section).forEach((button) =>
      button.addEventListener("click", () => sortBy(button.closest("th"))));

    // One drawing of several.
    const choices = all(".choices button", section);
    choices.forEach((button, place) => button.addEventListener("click", () => {
      choices.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      all(".choice", section).forEach((drawing, i) => { drawing.hidden = i !== place; });
    }));

    // Methods drawn over the reference.
    const boxes = all(".series-choice input", section);
    const draw = (box) => all(`.drawings [data-series="${box.value}"]`, section)
      .forEach((path) => path.classList.toggle("shown", box.checked));
    boxes.forEach((box) => { draw(box); box.addEventListener("change", () => draw(box)); });
    all("[data-all]", section).forEach((button) => button.addEventListener("click", () =>
      boxes.forEach((box) => { box.checked = Boolean(button.dataset.all); draw(box); })));
  }

  // Scaling studies are compressed; as images, because a drawing's own styles stay its own.
  all("img[data-packed]").forEach(async (image) => {
    const bytes = Uint8Array.from(atob(image.dataset.packed), (letter) => letter.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    image.src = `data:image/svg+xml,${encodeURIComponent(await new Response(unpacked).text())}`;
  });

  // On paper nothing can be opened.
  addEventListener("beforeprint", () => all("details").forEach((part) => { part.open = true; }));

  paint();
  rank();
})();
