"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (name, cls, text) => {
    const node = document.createElement(name);
    if (cls) node.className = cls;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const SUPERS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

  // Numbers as the rest of the page writes them.
  function number(value) {
    if (value === null || !Number.isFinite(value)) return "not finite";
    const size = Math.abs(value);
    if (Number.isInteger(value) && size < 1e7) return value.toLocaleString("en").replace("-", "−");
    if (size >= 1e-3 && size < 1e7) {
      const places = Math.max(0, 3 - Math.floor(Math.log10(Number(size.toPrecision(4)))));
      const least = Number(value.toPrecision(4)) === value ? 0 : places;
      return value.toLocaleString("en", { minimumFractionDigits: least, maximumFractionDigits: places }).replace("-", "−");
    }
    const [mantissa, power] = value.toExponential(3).split("e");
    const shown = [...String(Number(power))].map((c) => (c === "-" ? "⁻" : SUPERS[c])).join("");
    return `${Number(mantissa)} × 10${shown}`.replace("-", "−");
  }

  // Samples: one picture at a time; '#step=200' in the address chooses one.
  const slider = $("slider");
  const frames = [...document.querySelectorAll(".frames img")];
  let timer = 0;
  function show(index, keep) {
    frames.forEach((frame, i) => { frame.hidden = i !== index; });
    const step = Number(frames[index].dataset.step);
    const text = `step ${number(step)}`;
    slider.value = index;
    slider.setAttribute("aria-valuetext", text);
    $("caption").textContent = text;
    if (keep) {
      try { history.replaceState(null, "", `#step=${step}`); } catch { /* some viewers forbid it */ }
    }
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
    if ($("play")) { $("play").textContent = "▶"; $("play").setAttribute("aria-label", "Play"); }
  }
  function fromAddress() {
    const asked = /[#&]step=(\d+)/.exec(location.hash);
    if (!asked || !frames.length) return;
    const away = frames.map((frame) => Math.abs(frame.dataset.step - asked[1]));
    show(away.indexOf(Math.min(...away)), false);
  }
  if (slider) {
    slider.addEventListener("input", () => { stop(); show(Number(slider.value), true); });
    $("play").addEventListener("click", () => {
      if (timer) return stop();
      $("play").textContent = "❚❚";
      $("play").setAttribute("aria-label", "Pause");
      if (Number(slider.value) === frames.length - 1) show(0, true);
      timer = setInterval(() => {
        const next = Number(slider.value) + 1;
        if (next >= frames.length) return stop();
        show(next, true);
      }, 350);
    });
    addEventListener("hashchange", fromAddress);
    fromAddress();
  }

  // Plots: values beside the pointer, or at a cursor moved by the arrow keys.
  const tip = $("tip");
  function tell(title, rows, left, top) {
    tip.replaceChildren(make("b", "", title));
    for (const [style, label, value] of rows) {
      const row = make("span");
      const name = make("em", "", "");
      name.style.fontStyle = "normal";
      if (style !== null) name.append(make("i", style, "■"));
      name.append(label);
      row.append(name, make("strong", "", value));
      tip.append(row);
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const x = left + 16 + box.width > innerWidth ? left - 16 - box.width : left + 16;
    tip.style.left = `${Math.max(4, x)}px`;
    tip.style.top = `${Math.max(4, Math.min(top - box.height / 2, innerHeight - box.height - 4))}px`;
  }
  function nearest(list, value) {
    let low = 0, high = list.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] < value) low = middle + 1; else high = middle;
    }
    return low > 0 && value - list[low - 1] < list[low] - value ? low - 1 : low;
  }
  const place = ([low, high, log], value) =>
    log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  const invert = ([low, high, log], share) => (log ? low * (high / low) ** share : low + share * (high - low));

  function clear(area) {
    tip.hidden = true;
    area.querySelectorAll(".cursor, .spot").forEach((node) => node.remove());
  }
  function pointAt(area, axes, data, share) {
    const visible = data.curves.filter((curve) => {
      if (!curve.x.length) return false;
      const variant = /smooth-(\w+)/.exec(curve.style);
      return !variant || area.closest("figure").querySelector(`[value="${variant[1]}"]`).checked;
    });
    if (!visible.length) return;
    const wanted = invert(axes[0], share);
    const candidates = visible.map((curve) => curve.x[nearest(curve.x, wanted)]);
    const step = candidates.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
    clear(area);
    const cursor = make("i", "cursor");
    cursor.style.left = `${100 * place(axes[0], step)}%`;
    area.append(cursor);
    area.dataset.at = step;
    const rows = [];
    for (const curve of visible) {
      const i = nearest(curve.x, step);
      rows.push([curve.style.replace("raw", ""), curve.label, `${number(curve.y[i])} ${data.unit}`.trim()]);
      if (curve.style.includes("flat")) continue;
      const spot = make("span", `spot ${curve.style}`);
      spot.style.left = `${100 * place(axes[0], curve.x[i])}%`;
      spot.style.top = `${100 * (1 - place(axes[1], curve.y[i]))}%`;
      area.append(spot);
    }
    if (rows.some(([style]) => style.includes("flat"))) rows.reverse();
    const box = area.getBoundingClientRect();
    tell(`${data.word} ${number(step)}`, rows, box.left + box.width * place(axes[0], step), box.top + box.height / 2);
  }
  function cellAt(area, data, share, up) {
    const columns = data.edges.length - 1, rows = data.bins.length;
    const column = Math.min(columns - 1, Math.max(0, Math.floor(share * columns)));
    const row = Math.min(rows - 1, Math.max(0, Math.floor(up * rows)));
    const box = area.getBoundingClientRect();
    const value = data.cells[row][column];
    const steps = `step ${number(Math.floor(data.edges[column]) + 1)} to ${number(Math.round(data.edges[column + 1]))}`;
    tell(steps, [[null, `t ${data.bins[row]}`, value === null ? "nothing logged" : number(value)]],
      box.left + (box.width * (column + 0.5)) / columns, box.top + box.height * (1 - (row + 0.5) / rows));
  }
  for (const area of document.querySelectorAll(".area")) {
    let parsed = null;
    const heat = area.dataset.heat;
    const source = heat || area.closest("figure").dataset.hover;
    if (!source) continue;
    const axes = heat ? null : JSON.parse(area.parentElement.dataset.axes);
    const data = () => (parsed ??= JSON.parse(source));
    let share = 0.5, up = 0.5;
    const go = () => (heat ? cellAt(area, data(), share, up) : pointAt(area, axes, data(), share));
    const follow = (event) => {
      const box = area.getBoundingClientRect();
      share = (event.clientX - box.left) / box.width;
      up = 1 - (event.clientY - box.top) / box.height;
      go();
    };
    area.addEventListener("pointermove", follow);
    area.addEventListener("pointerdown", follow);
    area.addEventListener("pointerleave", () => clear(area));
    area.addEventListener("blur", () => clear(area));
    area.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
      if (event.key === "Escape") return clear(area);
      const move = moves[event.key];
      if (!move || (!heat && move[1])) return;
      event.preventDefault();
      share = Math.min(1, Math.max(0, share + move[0]));
      up = Math.min(0.99, Math.max(0, up + move[1]));
      go();
    });
  }
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // Commands.
  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      let done = true;
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }

  // Config: only the lines that match, with the block they stand in.
  const search = $("search");
  function find() {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const lines = [...document.querySelectorAll(".yaml code")];
    let hits = 0;
    for (const line of lines) {
      const hit = words.length > 0 && words.every((word) => line.dataset.words.includes(word));
      hits += hit;
      line.classList.toggle("hit", hit);
      line.hidden = words.length > 0 && !hit && !line.closest("summary");
    }
    for (const block of document.querySelectorAll(".yaml details")) {
      const inside = block.querySelectorAll(".hit").length > 0;
      block.hidden = words.length > 0 && !inside;
      block.open = words.length > 0 && inside;
    }
    $("found").textContent = words.length ? `${hits} line${hits === 1 ? "" : "s"}` : "";
  }
  if (search) search.addEventListener("input", find);

  // Printing shows what is folded.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((d) => { d.open = true; d.dataset.folded = "1"; });
  });
  addEventListener("afterprint", () => {
    document.querySelectorAll("details[data-folded]").forEach((d) => { d.open = false; delete d.dataset.folded; });
  });

  // A running run: how old this page is, and a look for news once nobody is using it.
  const body = document.body.dataset;
  let touched = 0;
  for (const kind of ["pointermove", "keydown", "touchstart"]) {
    addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  }
  if (body.refresh) {
    const every = Number(body.refresh) * 1000;
    setInterval(() => {
      if ($("live").checked && !timer && Date.now() - touched > every / 2) location.reload();
    }, every);
    const stamp = $("updated").textContent;
    const age = () => {
      const seconds = Math.max(0, Math.round(Date.now() / 1000 - Number(body.updated)));
      const ago = seconds < 90 ? `${seconds} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
      $("updated").textContent = `${stamp} (${ago} ago)`;
    };
    age();
    setInterval(age, 5000);
  }
})();
