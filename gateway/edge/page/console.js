// The page's clock: ask for the feed every second, turn counters into rates, draw.
import { curves, flow, remember } from "/console/charts.js";
import { figures, policies, queue, reservoirs } from "/console/fleet.js";
import { begin, label as labelRequests, refresh } from "/console/requests.js";
import { speak, spoken, t } from "/console/words.js";

const EVERY = 1000;
const LIST_EVERY = 3;
const FLOW_SECONDS = 10;
const by = (id) => document.getElementById(id);
const recent = [];
let paused = false;
let turns = 0;
let latest = null;
let sent = { backends: {}, refused: 0 };

const total = (counts) => Object.values(counts).reduce((sum, one) => sum + one, 0);

function summary(feed) {
  const backends = {};
  for (const { name, counters } of feed.fleet.backends)
    backends[name] = { granted: counters.granted, tokens: counters.tokens, spilled: counters.spilled_in };
  const { offered, refused, retried } = feed.fleet.totals;
  return { at: feed.fleet.at, offered, retried, refused: total(refused), backends };
}

function between(before, after) {
  const seconds = Math.max(after.at - before.at, 0.001);
  const rate = (a, b) => Math.max(0, b - a) / seconds;
  const byBackend = {};
  for (const [name, now] of Object.entries(after.backends)) {
    const then = before.backends[name] ?? now;
    byBackend[name] = { tokens: rate(then.tokens, now.tokens), spilled: rate(then.spilled, now.spilled), granted: Math.max(0, now.granted - then.granted) };
  }
  const sum = (what) => Object.values(byBackend).reduce((all, one) => all + one[what], 0);
  return {
    offered: rate(before.offered, after.offered), refused: rate(before.refused, after.refused),
    retried: rate(before.retried, after.retried), tokens: sum("tokens"), spilled: sum("spilled"), byBackend,
  };
}

function take(feed) {
  const now = summary(feed);
  if (recent.length && now.at < recent.at(-1).at) recent.length = 0; // another replica, or a restart
  const last = recent.at(-1) ?? now;
  recent.push(now);
  while (recent.length > 2 && now.at - recent[0].at > FLOW_SECONDS) recent.shift();
  const window = between(recent[0], now);
  sent = {
    backends: Object.fromEntries(Object.entries(window.byBackend).map(([name, one]) => [name, one.granted])),
    refused: Math.max(0, now.refused - recent[0].refused),
  };
  latest = { feed, rates: between(last, now) };
  remember(feed, latest.rates);
}

function state(feed) {
  const chip = by("state");
  const bad = !feed.ready;
  const warn = feed.shared_state?.degraded || feed.reload_error;
  chip.className = bad ? "chip bad" : warn ? "chip warn" : "chip";
  chip.textContent = bad ? t("notReady") : feed.shared_state?.degraded ? t("degraded") : feed.reload_error ? t("reloadFailed") : t("ready");
  const replicas = feed.shared_state ? ` · ${feed.shared_state.replicas} ${t("replicas")}` : "";
  by("versions").textContent = `${feed.version}${replicas}`;
}

function draw() {
  if (!latest) return;
  const { feed, rates } = latest;
  state(feed);
  figures(feed, rates);
  reservoirs(feed);
  queue(feed);
  policies(feed);
  flow(feed, sent);
  curves();
}

function show(id) {
  for (const name of ["board", "locked"]) by(name).hidden = name !== id;
}

function get(path) {
  const key = sessionStorage.getItem("spillgate-key");
  return fetch(path, { headers: key ? { authorization: `Bearer ${key}` } : {}, cache: "no-store" });
}

async function ask() {
  const key = sessionStorage.getItem("spillgate-key");
  const answer = await get("/console/feed");
  if (answer.status === 401) {
    if (key) by("wrong").textContent = t("wrongKey");
    sessionStorage.removeItem("spillgate-key");
    show("locked");
    return;
  }
  if (answer.status === 403) {
    show("locked");
    by("wrong").textContent = t("onlyHere");
    return;
  }
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  take(await answer.json());
  show("board");
  draw();
  if (turns++ % LIST_EVERY === 0) await refresh();
}

async function tick() {
  if (!paused && !document.hidden && by("locked").hidden) {
    try {
      await ask();
    } catch {
      by("state").className = "chip bad";
      by("state").textContent = t("lost");
    }
  }
  setTimeout(tick, EVERY);
}

function label() {
  speak(spoken());
  labelRequests();
  by("pause").textContent = paused ? t("resume") : t("pause");
  by("pause").setAttribute("aria-pressed", String(paused));
  by("language").textContent = t("other");
  by("language").lang = spoken() === "zh" ? "en" : "zh-CN";
  by("theme").textContent = document.documentElement.dataset.theme === "dark" ? t("light") : t("dark");
}

function dress(theme) {
  document.documentElement.dataset.theme = theme;
  label();
  draw();
}

by("pause").addEventListener("click", () => { paused = !paused; label(); });
by("language").addEventListener("click", () => { speak(spoken() === "zh" ? "en" : "zh"); label(); draw(); });
by("theme").addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("spillgate-theme", next);
  dress(next);
});
by("locked").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("spillgate-key", by("key").value);
  by("key").value = "";
  by("wrong").textContent = "";
  show("");
});

begin(get);
dress(localStorage.getItem("spillgate-theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
tick();
