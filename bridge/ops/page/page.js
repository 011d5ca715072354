/* The site at a glance: asks /api/info once, /api/state now and then, and listens to
 * /api/events. Everything is put on the page as text, never as markup. What comes in is
 * kept; once a second what has changed and is in sight is shown. */
"use strict";
(() => {
  const STEP_S = 5, SLOTS = 720; // an hour of history
  const LEAST_S = 600;           // a chart shows no less
  const SERIES_MAX = 8;          // in one chart
  const FLOWS_MAX = 12;
  const NEAR = 200;              // px from what is in sight: shown, too
  const TURN = 3;                // of all other devices these are shown anew, each second
  const STALE_MS = 15000;
  const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];
  const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3], [], [6, 3], [2, 2], [8, 3, 2, 3]];
  const POWER = ["accepted_power", "active_power_total", "power_total", "active_power", "power"];

  const $ = (id) => document.getElementById(id);
  const devices = new Map();
  let run = null, writable = false, streaming = false, stream = null, lastHeardAt = 0;
  let lostAt = null, pollTimer = 0, refreshTimer = 0, infoRun = null, outcomes = [];
  let fresh = []; // outcomes told since the state was asked: it may not have them

  /* ---- small things ---- */

  const el = (tag, cls, text) => {
    const e = document.createElement(tag);
    if (cls) e.className = cls;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const said = new WeakMap(); // what put() has put: quicker than asking the element
  const put = (e, text) => { if (said.get(e) !== text) { said.set(e, text); e.textContent = text; } };
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // As it was sent, at most three decimals, thousands apart; − is the sign, not the dash.
  const number = (v) => {
    if (typeof v !== "number") return String(v);
    const [whole, part] = String(Math.round(Math.abs(v) * 1000) / 1000).split(".");
    const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, "\u202f") : whole;
    return (v < 0 ? "\u2212" : "") + grouped + (part ? "." + part : "");
  };
  const withUnit = (v, unit) => v === null || v === undefined ? "–" : number(v) + (unit ? "\u00a0" + unit : "");
  const fixed = (v, n) => v === null ? "–" : (v < 0 ? "\u2212" : "") + Math.abs(v).toFixed(n);
  const age = (ms) => ms === null ? "never" : ms < 1000 ? "<\u00a01\u00a0s" : ms < 10000 ? Math.floor(ms / 1000) + "\u00a0s" : ms < 120000 ? Math.round(ms / 1000) + "\u00a0s" : ms < 7200000 ? Math.round(ms / 60000) + "\u00a0min"
    : ms < 172800000 ? Math.round(ms / 3600000) + "\u00a0h" : Math.round(ms / 86400000) + "\u00a0d";
  const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });
  const words = (name) => name.replace(/_/g, " ");

  /* ---- what a device is and has ---- */

  const unitOf = (d, name) => d.points.get(name)?.unit ?? (/^energy_.*_integrated$/.test(name) ? "kWh" : "");
  const valueOf = (d, name) => d.state?.data?.[name] ?? null;
  const isBattery = (d) => d.points.has("target_power");
  const kw = (v, unit) => v === null ? null : unit === "W" ? v / 1000 : unit === "MW" ? v * 1000 : v;
  const powerPoint = (d) => POWER.find((name) => d.points.has(name)) ?? (isBattery(d) ? "target_power" : null);
  const powerOf = (d) => {
    const v = d.power ? valueOf(d, d.power) : null;
    return typeof v === "number" && !isOld(d) ? kw(v, unitOf(d, d.power)) : null;
  };
  const ageOf = (d) => d.goodAt === null ? null : Math.max(0, performance.now() - d.goodAt);
  const isOld = (d) => lostAt !== null || d.status !== "online" || (ageOf(d) ?? Infinity) > STALE_MS + 3 * d.gap;
  // In one word, from the worst.
  const health = (d) => d.status !== "online" ? "offline" : isOld(d) ? "old" : d.state?.quality !== "good" ? "partial" : "online";
  const errorsOf = (d) => Object.entries(d.state?.errors ?? {});
  const errorWords = (d) => {
    const by = new Map();
    for (const [name, word] of errorsOf(d)) by.set(word, [...(by.get(word) ?? []), name]);
    return [...by].map(([word, names]) => words(word) + (d.state.quality === "bad" ? "" : ": " + names.join(", "))).join("; ");
  };
  const leaseLeft = (d) => d.lease ? Math.max(0, (d.lease.endAt - performance.now()) / 1000) : null;

  /* ---- what comes in ---- */

  async function get(path) {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok && path !== "/healthz") throw new Error(path + ": " + answer.status);
    return answer;
  }

  function takeSample(d, state) {
    const now = performance.now();
    if (d.state && d.state.run === state.run && state.seq <= d.state.seq) return;
    if (d.sampleAt) d.gap = d.gap ? d.gap * 0.8 + (now - d.sampleAt) * 0.2 : now - d.sampleAt;
    d.sampleAt = now;
    if (d.state?.quality !== state.quality) flushSoon();
    d.state = state;
    if (state.quality !== "bad") d.goodAt = now;
    d.news++;
  }

  function takeState(state) {
    const now = performance.now();
    put($("site"), state.site);
    document.title = state.site + " · fluxbridge";
    if (run !== null && run !== state.run) { devices.clear(); fresh = []; }
    run = state.run;
    let changed = false;
    for (const s of state.devices) {
      let d = devices.get(s.name);
      if (!d) {
        d = { name: s.name, type: s.type, points: new Map(), gap: 0, news: 1, state: null,
              power: null, history: new Float32Array(SLOTS).fill(NaN), soe: new Float32Array(SLOTS).fill(NaN) };
        devices.set(s.name, d);
        changed = true;
      }
      d.status = s.status;
      d.control = s.control;
      d.schedule = s.schedule;
      d.goodAt = s.age_ms === null ? null : now - s.age_ms;
      d.lease = s.lease && { value: s.lease.value, endAt: now + s.lease.left_s * 1000, length: Math.max(d.lease?.length ?? 0, s.lease.left_s) };
      if (s.state && !(d.state && d.state.run === s.state.run && d.state.seq > s.state.seq)) d.state = s.state;
      d.news++;
    }
    const known = new Set(state.outcomes.map((o) => JSON.stringify(o)));
    outcomes = fresh.filter((o) => !known.has(JSON.stringify(o))).concat(state.outcomes);
    showHealth(state.health);
    showOutcomes();
    if (changed || infoRun !== run) askInfo(); else flush();
  }

  async function askInfo() {
    try {
      const info = await (await get("/api/info")).json();
      infoRun = info.run;
      writable = info.writable;
      put($("version"), "fluxbridge " + info.version + " · run " + info.run);
      for (const i of info.devices) {
        const d = devices.get(i.name);
        if (!d) continue;
        d.info = i;
        d.points = new Map(i.points.map((p) => [p.name, p]));
        d.power = powerPoint(d);
      }
      build();
    } catch { later(); }
  }

  async function refresh() {
    clearTimeout(refreshTimer);
    refreshTimer = 0;
    fresh = [];
    try {
      takeState(await (await get("/api/state")).json());
      heard();
    } catch { lost(); }
  }
  const refreshSoon = () => { if (!refreshTimer) refreshTimer = setTimeout(refresh, 300); };

  async function askHealth() {
    try {
      const text = await (await get("/healthz")).text();
      const up = /^mqtt up$/m.test(text), ok = text.startsWith("ok");
      mark($("fact-broker"), up ? "good" : "bad", up ? "connected" : "not reachable");
      if (lostAt === null) banner(ok ? "" : "The bridge says: " + text.split("\n")[0] + ". Some of what is shown may be old.");
    } catch { mark($("fact-broker"), "wait", "not known"); }
  }

  function heard() {
    lastHeardAt = performance.now();
    if (lostAt !== null) { lostAt = null; banner(""); document.body.classList.remove("lost"); for (const d of devices.values()) d.news++; askHealth(); }
    mark($("fact-page"), streaming ? "good" : "wait", streaming ? "live" : "asks every 5 s");
  }

  function lost() {
    if (lostAt === null) { lostAt = Date.now(); for (const d of devices.values()) d.news++; }
    document.body.classList.add("lost");
    banner("No connection to the bridge since " + clock(lostAt) + ". What is shown is from before; it comes back by itself.");
    mark($("fact-page"), "bad", "not connected");
    mark($("fact-broker"), "wait", "not known");
    flush();
    later();
  }
  const later = () => { clearTimeout(pollTimer); pollTimer = setTimeout(listen, 3000); };

  const EVENTS = {
    sample: (s) => { const d = devices.get(s.device); if (d) takeSample(d, s); else refreshSoon(); },
    status: (s) => { const d = devices.get(s.device); if (d) { d.status = s.status; d.news++; flushSoon(); } },
    health: (h) => { showHealth(h); askHealth(); refreshSoon(); },
    outcome: (o) => { fresh.unshift(o); outcomes = [o, ...outcomes].slice(0, 50); showOutcomes(); refreshSoon(); },
  };
  function takeEvent(text) { // "event: NAME\ndata: JSON", or a comment
    const line = text.indexOf("\n");
    if (line > 0) EVENTS[text.slice(7, line)]?.(JSON.parse(text.slice(line + 7)));
  }
  // Not with EventSource: what a browser does for each event of its own, 500 times a
  // second, is more than all that this page does with them.
  async function listen() {
    clearTimeout(pollTimer);
    stream?.abort();
    const mine = stream = new AbortController();
    let refused = false;
    try {
      const answer = await fetch("/api/events", { cache: "no-store", signal: mine.signal });
      refused = !answer.ok;
      if (!refused) await follow(answer.body.getReader());
    } catch { /* it has ended, too */ }
    if (mine !== stream) return; // given up, and another one is there
    streaming = false;
    if (refused) await refresh();
    else lost();
    if (refused && lostAt === null) { clearTimeout(pollTimer); pollTimer = setTimeout(listen, 5000); }
  }
  async function follow(reader) {
    const decoder = new TextDecoder();
    streaming = true;
    refresh();
    askHealth();
    for (let rest = "", piece; !(piece = await reader.read()).done;) {
      lastHeardAt = performance.now();
      const events = (rest + decoder.decode(piece.value, { stream: true })).split("\n\n");
      rest = events.pop();
      events.forEach(takeEvent);
    }
  }

  /* ---- header ---- */

  function mark(e, kind, text) {
    let dot = e.querySelector(".mark"), span = e.querySelector(".text");
    if (!dot) { put(e, ""); dot = e.appendChild(el("span", "mark")); span = e.appendChild(el("span", "text")); dot.setAttribute("aria-hidden", "true"); }
    if (dot.className !== "mark " + kind) dot.className = "mark " + kind;
    put(span, text);
  }
  function banner(text) {
    const b = $("banner");
    if (b.hidden !== !text) b.hidden = !text;
    put(b, text);
  }
  function showHealth(h) {
    if (!h) return;
    const waits = h.spool_depth ?? 0;
    const oldest = h.oldest_unacked_s > 1 ? ", oldest " + age(h.oldest_unacked_s * 1000) : "";
    mark($("fact-spool"), waits > 0 ? "wait" : "good", waits > 0 ? number(waits) + " samples" + oldest : "nothing");
    const gone = (h.drops ?? 0) + (h.set_aside ?? 0);
    mark($("fact-drops"), gone > 0 ? "bad" : "good", gone > 0 ? number(h.drops) + " samples, " + number(h.set_aside) + " set aside" : "nothing");
    const jumps = h.clock_jumps ?? 0, off = h.clock === "unsynchronised";
    mark($("fact-clock"), off || jumps ? "wait" : "good", off ? "unsynchronised" : jumps ? jumps + (jumps === 1 ? " jump" : " jumps") : "steady");
    $("fact-broker").title = h.last_error ?? "";
    for (const [name, state] of Object.entries(h.control ?? {})) {
      const d = devices.get(name);
      if (d && d.control !== state) { d.control = state; d.news++; }
    }
  }

  /* ---- power ---- */

  const flowRows = new Map();
  function flowOf() {
    const all = [...devices.values()].filter((d) => d.power);
    const batteries = all.filter(isBattery), meters = all.filter((d) => !isBattery(d)).map((d) => row(d, "meter"));
    const rows = batteries.length > 4
      ? [{ key: "*", name: batteries.length + " batteries", kind: "battery", kw: sum(batteries.map(powerOf)), setpoint: batteries.every((d) => d.power === "target_power") }]
      : batteries.map((d) => row(d, "battery"));
    const room = FLOWS_MAX - rows.length;
    const shown = meters.length > room ? meters.sort((a, b) => Math.abs(b.kw ?? 0) - Math.abs(a.kw ?? 0)).slice(0, room) : meters;
    return { rows: rows.concat(shown), hidden: meters.length - shown.length };
  }
  const row = (d, kind) => ({ key: d.name, name: d.name, kind, kw: powerOf(d), what: words(d.power), setpoint: d.power === "target_power", why: health(d) });
  const sum = (list) => list.every((v) => v === null) ? null : list.reduce((a, v) => a + (v ?? 0), 0);
  const doing = (r) => r.kw === null ? (r.why === "offline" ? "offline" : "no value") : r.kind === "battery"
    ? (r.setpoint ? "set to " : "") + (r.kw > 0 ? (r.setpoint ? "discharge" : "discharges") : r.kw < 0 ? (r.setpoint ? "charge" : "charges") : r.setpoint ? "rest" : "rests") : r.what;

  function showFlow() {
    const { rows, hidden } = flowOf();
    const box = $("flow");
    const most = Math.max(1, ...rows.map((r) => Math.abs(r.kw ?? 0)));
    if (rows.length === 0) { box.replaceChildren(el("p", "empty", "No device here measures a power.")); flowRows.clear(); return; }
    if ([...flowRows.keys()].join() !== rows.map((r) => r.key).join()) {
      flowRows.clear();
      const list = el("ul", "flow");
      for (const r of rows) {
        const li = el("li"), parts = { name: el("span", "name", r.name), doing: el("span", "doing"), bar: el("span", "bar"), fill: el("span", "fill"), kw: el("span", "kw") };
        parts.bar.setAttribute("aria-hidden", "true");
        parts.bar.append(parts.fill);
        li.append(parts.name, parts.doing, parts.bar, parts.kw);
        list.append(li);
        flowRows.set(r.key, parts);
      }
      box.replaceChildren(list, el("p", "note", ""));
    }
    for (const r of rows) {
      const p = flowRows.get(r.key), share = Math.abs(r.kw ?? 0) / most * 50;
      put(p.doing, doing(r));
      put(p.kw, r.kw === null ? "–" : fixed(r.kw, Math.abs(r.kw) < 10 ? 2 : 1) + "\u00a0kW");
      p.fill.className = "fill" + (r.kind === "battery" ? " stored" : "") + (r.kw < 0 ? " minus" : "");
      p.fill.style.width = share + "%";
      p.fill.style[r.kw < 0 ? "right" : "left"] = "50%";
      p.fill.style[r.kw < 0 ? "left" : "right"] = "auto";
    }
    put(box.lastChild, hidden > 0 ? "The largest of " + (hidden + rows.length) + "; all are below." : "");
  }

  /* ---- batteries ---- */

  function buildBatteries(list) {
    carded = list;
    $("batteries-section").hidden = list.length === 0;
    $("batteries").replaceChildren(...list.map((d) => {
      const card = el("article", "battery"), c = { card };
      card.dataset.device = d.name;
      const head = el("div", "head");
      head.append(el("h3", "", d.name), c.status = el("span", "status"));
      const gauge = el("div", "gauge");
      gauge.setAttribute("role", "img");
      gauge.append(c.fill = el("span", "fill"));
      c.gauge = gauge;
      const facts = el("dl", "pairs");
      const fact = (key, name) => { const div = el("div"); div.append(el("dt", "", name), c[key] = el("dd")); facts.append(div); return c[key]; };
      fact("soe", "Energy").className = "big";
      fact("set", "Setpoint").className = "big";
      fact("lease", "Lease left");
      fact("state", "State");
      if (d.control) fact("control", "Control");
      if (d.points.get("target_power")?.access === "rw") fact("schedule", "Schedule");
      fact("age", "Age");
      facts.classList.toggle("thirds", facts.children.length % 2 === 1);
      card.append(head, gauge, facts, c.errors = el("p", "errors"));
      if (d.points.get("target_power")?.access === "rw") {
        const button = el("button", "set", writable ? "Set power…" : "Read-only");
        button.disabled = !writable;
        button.setAttribute("aria-label", button.textContent + " " + d.name);
        if (!writable) button.title = "http.token_file is not configured";
        button.onclick = () => openAsk(d, "target_power");
        card.append(button);
      }
      d.card = c;
      return card;
    }));
  }

  function showBattery(d) {
    const c = d.card, soe = valueOf(d, "soe"), set = valueOf(d, "target_power"), old = isOld(d);
    c.card.className = "battery " + health(d);
    mark(c.status, MARKS[health(d)], LABELS[health(d)]);
    put(c.soe, withUnit(soe, "%"));
    c.soe.dataset.value = soe ?? "";
    c.gauge.setAttribute("aria-label", soe === null ? "State of energy not known" : "State of energy " + soe + " %");
    c.fill.style.width = (typeof soe === "number" ? Math.max(0, Math.min(100, soe)) : 0) + "%";
    put(c.set, withUnit(set, unitOf(d, "target_power")) + (set > 0 ? " ▸" : set < 0 ? " ◂" : ""));
    c.set.dataset.value = set ?? "";
    c.set.title = set > 0 ? "discharge" : set < 0 ? "charge" : "";
    put(c.state, valueOf(d, "status") === null ? "–" : String(valueOf(d, "status")));
    put(c.errors, errorWords(d));
    c.card.classList.toggle("stale", old);
  }

  /* ---- all devices ---- */

  const MARKS = { online: "good", partial: "wait", old: "wait", offline: "bad" };
  const LABELS = { online: "online", partial: "partly", old: "old values", offline: "offline" };
  let listed = [], carded = []; // the devices whose row, whose card there is, from top to bottom

  // Those of a list that are in sight, or nearly so. (An observer would look at all of them at each frame.)
  function* inSight(list, element) {
    const top = (i) => element(list[i]).getBoundingClientRect();
    let first = 0, beyond = list.length;
    while (first < beyond) {
      const middle = (first + beyond) >> 1;
      if (top(middle).bottom < -NEAR) first = middle + 1; else beyond = middle;
    }
    for (let i = first; i < list.length && top(i).top < innerHeight + NEAR; i++) yield list[i];
  }
  const isMain = (name) => !/_code$/.test(name);

  function buildDevices(list) {
    listed = list;
    if (list.length === 0) { $("devices").replaceChildren(el("p", "empty", "No device is configured.")); return; }
    const ul = el("ul", "devices");
    for (const d of list) {
      const li = el("li"), r = { li, values: new Map() };
      const details = el("details"), summary = el("summary");
      const name = el("span", "name");
      name.append(el("b", "", d.name), el("span", "type", d.type));
      summary.append(name, r.status = el("span", "status"), r.age = el("span", "age"), r.chips = el("span", "chips"));
      details.append(summary, r.detail = el("div", "detail"));
      details.ontoggle = () => { if (details.open) buildDetail(d); else closeDetail(d); d.row.shown = 0; flush(); };
      li.append(details);
      li.dataset.device = d.name;
      d.row = r;
      ul.append(li);
    }
    $("devices").replaceChildren(ul);
    find();
  }

  function buildDetail(d) {
    const r = d.row, dl = el("dl", "values");
    r.values.clear();
    for (const name of new Set([...d.points.keys(), ...Object.keys(d.state?.data ?? {})])) {
      const p = d.points.get(name), div = el("div"), dd = el("dd");
      div.append(el("dt", "", words(name)), dd);
      if (p?.access === "rw" && writable) {
        const button = el("button", "small", "Set…");
        button.setAttribute("aria-label", "Set… " + words(name) + " of " + d.name);
        button.onclick = () => openAsk(d, name);
        div.append(button);
      }
      r.values.set(name, dd);
      dl.append(div);
    }
    const facts = [d.info?.manufacturer, d.info?.model, d.info?.id && "id " + d.info.id].filter(Boolean).join(" · ");
    r.detail.replaceChildren(el("p", "note", facts), r.errors = el("p", "errors"), dl);
    if (d.power) { r.chartBox = r.detail.appendChild(el("div", "chart")); drawDetail(d); }
  }
  function closeDetail(d) {
    if (d.chart) { d.chart.destroy(); d.chart = null; }
    d.row.detail.replaceChildren();
    d.row.values.clear();
  }

  function showDevice(d) {
    const r = d.row, h = health(d);
    r.li.className = h;
    mark(r.status, MARKS[h], LABELS[h]);
    const data = d.state?.data ?? {};
    const none = d.state?.quality === "bad" ? "no value: " + errorWords(d) : d.state ? "" : "nothing read yet";
    const names = none ? [] : Object.keys(data).filter(isMain).slice(0, 5);
    if (r.chipNames !== names.join()) {
      r.chipNames = names.join();
      r.chips.replaceChildren(...names.map((name) => {
        const chip = el("span", "chip");
        chip.append(el("span", "key", words(name)), el("span", "value"));
        chip.lastChild.dataset.point = name;
        return chip;
      }));
    }
    if (none) { if (!r.none) r.chips.replaceChildren(r.none = el("span", "error")); put(r.none, none); } else r.none = null;
    for (const value of r.chips.querySelectorAll(".value")) showValue(d, value.dataset.point, value);
    for (const [name, dd] of r.values) showValue(d, name, dd);
    if (r.errors) put(r.errors, errorWords(d));
  }
  function showValue(d, name, e) {
    const v = valueOf(d, name), error = d.state?.errors?.[name];
    put(e, v === null && error ? words(error) : withUnit(v, unitOf(d, name)));
    e.dataset.value = v ?? "";
    e.classList.toggle("error", v === null && !!error);
  }
  function schedule(s) {
    if (!s) return "none";
    const at = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    if (s.reason) return words(s.reason);
    if (!s.current) return words(s.state) + (s.next ? " until " + at(s.next.at) : "");
    return words(s.state) + ": " + withUnit(s.current.value, "kW") + " until " + at(s.current.end);
  }
  function showTimes(d) {
    const left = leaseLeft(d);
    if (d.card.control) put(d.card.control, d.control ?? "");
    d.card.control?.classList.toggle("error", d.control === "lost");
    if (d.card.schedule) put(d.card.schedule, schedule(d.schedule));
    d.card.schedule?.classList.toggle("error", !!d.schedule?.reason);
    put(d.card.lease, left === null ? "none" : left === 0 ? "over" : left < 120 ? Math.ceil(left) + "\u00a0s" : Math.ceil(left / 60) + "\u00a0min");
    d.card.lease.classList.toggle("error", left !== null && left < 5);
  }

  function find() {
    const text = $("find").value.trim().toLowerCase(), only = $("troubled").checked;
    let n = 0;
    for (const d of devices.values()) {
      if (!d.row) continue;
      const hide = (text && !(d.name + " " + d.type).toLowerCase().includes(text)) || (only && health(d) === "online");
      d.row.li.hidden = hide;
      n += !hide;
    }
    listed = [...devices.values()].filter((d) => d.row && !d.row.li.hidden);
    put($("found"), text || only ? n + " of " + devices.size : "");
  }

  /* ---- charts ---- */

  const times = new Float64Array(SLOTS).fill(NaN);
  let slot = -1, charts = [], tracked = [], chartKey = "";

  function note() {
    const now = Math.floor(Date.now() / 1000 / STEP_S) * STEP_S;
    if (slot >= 0 && times[slot % SLOTS] === now) return;
    slot++;
    times[slot % SLOTS] = now;
    for (const d of devices.values()) {
      const soe = valueOf(d, "soe");
      d.history[slot % SLOTS] = powerOf(d) ?? NaN;
      d.soe[slot % SLOTS] = typeof soe === "number" && !isOld(d) ? soe : NaN;
    }
  }
  // The last hour, oldest first; a gap where nothing was known.
  function column(ring) {
    const out = [];
    for (let i = Math.max(0, slot - SLOTS + 1); i <= slot; i++) out.push(Number.isNaN(ring[i % SLOTS]) ? null : ring[i % SLOTS]);
    return out;
  }
  const firstTime = () => slot < 0 ? Infinity : times[Math.max(0, slot - SLOTS + 1) % SLOTS];
  // The legend has the values under the cursor, and the last ones when there is none.
  function fill(chart, list, key) {
    chart.setData(data(list, key));
    if (chart.cursor.idx === null || chart.cursor.left < 0) chart.setLegend({ idx: chart.data[0].length - 1 });
  }
  const data = (list, key) => [column(times), ...list.map((d) => column(d[key]))];

  function options(list, box, unit, range) {
    const axis = { stroke: css("--dim"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "12px system-ui" };
    return {
      width: Math.max(200, box.clientWidth), height: box.clientWidth < 500 ? 180 : 220,
      hooks: { ready: [(u) => { u.setLegend({ idx: u.data[0].length - 1 }); }] },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: true, range: () => { const now = Date.now() / 1000; return [Math.max(now - STEP_S * SLOTS, Math.min(firstTime(), now - LEAST_S)), now]; } }, y: { range } },
      axes: [{ ...axis, values: (u, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })) }, { ...axis, size: 56, values: (u, ticks) => ticks.map(number) }],
      series: [{ label: "Time", value: (u, t) => t === null ? "–" : clock(t * 1000) }, ...list.map((d, i) => ({
        label: d.name, stroke: css(COLOURS[i]), dash: DASHES[i], width: 1.75, spanGaps: false,
        points: { show: slot < 3 }, value: (u, v) => v === null ? "–" : fixed(v, 1) + "\u00a0" + unit }))],
    };
  }
  const powerRange = (u, lo, hi) => lo === null ? [-1, 1] : [Math.min(0, lo * 1.1), Math.max(0, hi * 1.1) || (lo < 0 ? 0 : 1)];
  const soeRange = () => [0, 100];

  function drawCharts() {
    for (const c of charts) c.chart.destroy();
    charts = [];
    const all = [...devices.values()].filter((d) => d.power);
    const batteries = all.filter(isBattery), meters = all.filter((d) => !isBattery(d));
    tracked = batteries.slice(0, Math.max(SERIES_MAX - meters.length, SERIES_MAX / 2)).concat(meters).slice(0, SERIES_MAX);
    const withSoe = [...devices.values()].filter((d) => d.points.has("soe")).slice(0, SERIES_MAX);
    restore();
    $("figure-soe").hidden = withSoe.length === 0;
    $("charts").hidden = tracked.length + withSoe.length === 0;
    const add = (id, list, key, unit, range) => {
      if (list.length === 0) return;
      const box = $(id);
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", box.closest("figure").querySelector("figcaption").textContent + ", last hour: " + list.map((d) => d.name).join(", ") + ". The values now are in the lists.");
      charts.push({ chart: new uPlot(options(list, box, unit, range), data(list, key), box), list, key, box });
    };
    add("chart-power", tracked, "history", "kW", powerRange);
    add("chart-soe", withSoe, "soe", "%", soeRange);
    const more = all.length - tracked.length;
    chartKey = more > 0 ? tracked.length + " of " + all.length + " devices; each has its own chart when opened below. " : "";
  }
  function drawDetail(d) {
    if (d.chart) d.chart.destroy();
    d.row.chartBox.setAttribute("role", "img");
    d.row.chartBox.setAttribute("aria-label", "Power of " + d.name + ", last hour");
    d.chart = new uPlot(options([d], d.row.chartBox, "kW", powerRange), data([d], "history"), d.row.chartBox);
    fill(d.chart, [d], "history");
  }
  function redrawCharts() {
    if (document.hidden) return;
    for (const c of charts) fill(c.chart, c.list, c.key);
    for (const d of devices.values()) if (d.chart) fill(d.chart, [d], "history");
    const minutes = Math.floor((Date.now() / 1000 - firstTime()) / 60);
    put($("charts-note"), chartKey + (minutes >= 59 ? "" : "As far as this page has been open: " + (minutes < 1 ? "less than a minute" : minutes + " min") + "."));
  }

  // Over a reload of the page: what its charts show.
  const STORE = "fluxbridge-history";
  let restored = false;
  addEventListener("pagehide", () => {
    try {
      sessionStorage.setItem(STORE, JSON.stringify({ site: $("site").textContent, times: column(times),
        series: [...new Set(tracked.concat(charts.flatMap((c) => c.list)))].map((d) => [d.name, column(d.history), column(d.soe)]) }));
    } catch { /* no room: the charts begin anew */ }
  });
  function restore() {
    if (restored) return;
    restored = true;
    let kept;
    try { kept = JSON.parse(sessionStorage.getItem(STORE)); } catch { return; }
    if (kept?.site !== $("site").textContent || !Array.isArray(kept.times)) return;
    const since = Date.now() / 1000 - STEP_S * SLOTS;
    slot = -1;
    kept.times.forEach((t, i) => {
      if (!(t >= since)) return;
      slot++;
      times[slot % SLOTS] = t;
      for (const [name, power, soe] of kept.series) {
        const d = devices.get(name);
        if (d) { d.history[slot % SLOTS] = power[i] ?? NaN; d.soe[slot % SLOTS] = soe[i] ?? NaN; }
      }
    });
  }

  /* ---- outcomes ---- */

  const KINDS = { confirmed: "good", superseded: "wait", accepted: "good", unknown: "bad", mismatch: "bad", failed: "bad", refused: "bad", lost: "bad" };
  const because = (o) => [o.reason && words(o.reason), o.detail].filter(Boolean).join(": ") || (o.readback !== undefined ? "reads back " + withUnit(o.readback, devices.get(o.device)?.points.get(o.point)?.unit) : "");
  function showOutcomes() {
    if (outcomes.length === 0) { $("outcomes").replaceChildren(el("p", "empty", "No command since the bridge started.")); return; }
    const list = el("ol", "outcomes");
    list.tabIndex = 0;
    list.setAttribute("aria-label", "Outcomes of commands, the newest first");
    for (const o of outcomes) {
      const li = el("li"), kind = el("span", "kind");
      li.dataset.id = o.id ?? "";
      mark(kind, KINDS[o.outcome] ?? "wait", o.outcome + (o.duplicate ? " (again)" : o.correction ? " (at last)" : ""));
      const what = el("span", "what");
      const unit = devices.get(o.device)?.points.get(o.point)?.unit ?? "";
      what.append(el("b", "", o.device ?? "?"), " " + words(o.point ?? "?") + " ", el("b", "", o.value === null || o.value === undefined ? "?" : withUnit(o.value, unit)));
      const why = el("span", "why", because(o) + (o.audited === false ? " (not in the audit log)" : ""));
      li.append(el("time", "", clock(o.ts)), kind, what, why, el("span", "source", o.source ?? ""));
      list.append(li);
    }
    $("outcomes").replaceChildren(list);
  }

  /* ---- setting a point ---- */

  let asked = null;
  function openAsk(d, name) {
    const p = d.points.get(name), stop = name === "target_power";
    asked = { d, name };
    put($("ask-what"), d.name + ", " + words(name) + (stop ? ": + discharges, − charges" : ""));
    put($("ask-unit"), p.unit ?? "");
    put($("ask-limits"), p.min !== undefined || p.max !== undefined ? "From " + (p.min === undefined ? "anything" : number(p.min)) + " to " + (p.max === undefined ? "anything" : number(p.max)) + " " + (p.unit ?? "") : "");
    put($("ask-answer"), "");
    $("ask-answer").className = "";
    $("ask-value").value = "";
    $("ask-stop").hidden = !stop;
    $("ask-token").value = sessionStorage.getItem("fluxbridge-token") ?? "";
    $("ask").showModal();
    $("ask-value").focus();
  }
  function say(kind, text) {
    $("ask-answer").className = kind;
    put($("ask-answer"), text);
  }
  async function send(value) {
    const { d, name } = asked, token = $("ask-token").value.trim();
    const buttons = [$("ask-send"), $("ask-stop")];
    const id = "page-" + Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, "0")).join("");
    say("", "Sent; waiting for the outcome…");
    for (const b of buttons) b.disabled = true;
    try {
      const answer = await fetch("/api/devices/" + d.name + "/set/" + encodeURIComponent(name), {
        method: "POST", headers: { "Content-Type": "application/json", Authorization: "Bearer " + token },
        body: JSON.stringify({ id, value, source: "page" }) });
      const o = await answer.json();
      if (answer.status !== 401) sessionStorage.setItem("fluxbridge-token", token);
      if (o.outcome === "confirmed") say("good", "Confirmed: reads back " + withUnit(o.readback, unitOf(d, name)) + ", after " + fixed(o.latency_ms, 1) + " ms.");
      else if (answer.status === 401) say("bad", "Not written: this is not the token.");
      else say("bad", (o.outcome ? words(o.outcome) : "Not written") + ": " + because(o) + ".");
    } catch {
      say("bad", "No answer from the bridge. Whether it was written is not known: see the last commands.");
    }
    for (const b of buttons) b.disabled = false;
  }
  $("ask-form").onsubmit = (event) => {
    event.preventDefault();
    const text = $("ask-value").value.trim().replace("\u2212", "-");
    if (!/^[-+]?\d+(\.\d+)?$/.test(text)) { say("bad", "A number is wanted, such as 25 or -12.5."); $("ask-value").focus(); return; }
    send(Number(text));
  };
  $("ask-stop").onclick = () => { if ($("ask-token").reportValidity()) send(0); };
  $("ask-close").onclick = () => $("ask").close();

  /* ---- all together ---- */

  function build() {
    const list = [...devices.values()];
    for (const d of list) { d.card = null; if (d.chart) { d.chart.destroy(); d.chart = null; } }
    buildDevices(list);
    buildBatteries(list.filter(isBattery));
    note();
    drawCharts();
    redrawCharts();
    showOutcomes();
    flush();
    document.body.classList.add("ready");
  }

  // What has changed and is in sight, and what comes next of all else: for who searches or listens.
  let flushTimer = 0, turn = 0;
  const flushSoon = () => { if (!flushTimer) flushTimer = setTimeout(flush, 50); };
  function flush() {
    clearTimeout(flushTimer);
    flushTimer = 0;
    if (document.hidden) return;
    const rows = new Set(inSight(listed, (d) => d.row.li)), cards = new Set(inSight(carded, (d) => d.card.card));
    for (let i = 0; i < TURN; i++, turn++) {
      if (listed.length > 0) rows.add(listed[turn % listed.length]);
      if (carded.length > 0) cards.add(carded[turn % carded.length]);
    }
    let troubled = 0, off = 0;
    for (const d of devices.values()) {
      const h = health(d);
      off += h === "offline";
      troubled += h !== "online";
      if (h !== d.wasHealth) { d.wasHealth = h; d.news++; }
    }
    const show = (d, part, all) => {
      if (part.shown !== d.news) all(d);
      part.shown = d.news;
      put(part.age, age(ageOf(d)));
    };
    for (const d of rows) show(d, d.row, showDevice);
    for (const d of cards) { show(d, d.card, showBattery); showTimes(d); }
    const n = devices.size;
    if (lostAt !== null) mark($("fact-devices"), "wait", "not known");
    else mark($("fact-devices"), off > 0 ? "bad" : troubled > 0 ? "wait" : "good",
      n === 0 ? "none" : n - off + " of " + n + " online" + (troubled > off ? ", " + (troubled - off) + " in trouble" : ""));
    showFlow();
    if ($("troubled").checked) find();
  }

  $("find").oninput = $("troubled").onchange = () => { find(); flush(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawCharts(); for (const d of devices.values()) if (d.chart) drawDetail(d); });
  let resizing = 0;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { for (const c of charts) c.chart.setSize({ width: Math.max(200, c.box.clientWidth), height: c.chart.height }); flush(); }, 150); });
  addEventListener("scroll", flushSoon, { capture: true, passive: true });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { flush(); redrawCharts(); } });
  setInterval(flush, 1000);
  setInterval(() => { note(); redrawCharts(); }, STEP_S * 1000);
  setInterval(() => { if (streaming && performance.now() - lastHeardAt > 25000) { streaming = false; lost(); } }, 5000); // a dead connection says nothing
  showOutcomes();
  listen();
})();
