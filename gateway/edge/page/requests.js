// Recent requests, and where the time of one went.
import { make } from "/console/fleet.js";
import { number, t } from "/console/words.js";

const by = (id) => document.getElementById(id);
const PICKS = ["last", "slow", "failed", "spilled"];
const SHOWN = {
  "spillgate.outcome": (word) => word,
  "spillgate.connection": (word) => `${t("connection")}: ${word}`,
  "spillgate.verdict": (word) => word,
  "spillgate.reason": (word) => word,
  "spillgate.tokens_per_second": (value) => `${number(value, 1)} ${t("perSecond")}`,
  "spillgate.longest_gap_seconds": (value) => `${t("longestGap")} ${seconds(value)}`,
};
let pick = "last";
let found = [];
let get = null;

export function seconds(value) {
  if (value == null) return "–";
  if (value >= 1) return `${number(value, 2)} s`;
  return value >= 0.001 ? `${number(value * 1000, 1)} ms` : `${number(value * 1e6)} µs`;
}

export function label() {
  by("picks").replaceChildren(...PICKS.map((one) => {
    const button = make("button", { type: "button", "aria-pressed": String(one === pick) }, t(`pick_${one}`));
    button.addEventListener("click", () => { pick = one; label(); refresh(); });
    return button;
  }));
  by("filter").placeholder = t("filter");
  by("filter").setAttribute("aria-label", t("filter"));
  by("close").textContent = t("close");
  const heads = ["at", "request", "status", "tenant", "model", "backend", "total", "mostOfIt"];
  by("heads").replaceChildren(...heads.map((word) => make("th", { scope: "col" }, t(word))));
  list();
}

// `ask` fetches a path with the key that was given.
export function begin(ask) {
  get = ask;
  by("filter").addEventListener("input", list);
  by("close").addEventListener("click", () => by("one").close());
}

export async function refresh() {
  if (!get || by("one").open || by("requests").contains(document.activeElement)) return; // do not pull a row away
  const answer = await get(`/traces?pick=${pick}&count=50`);
  if (!answer.ok) return;
  found = (await answer.json()).data;
  list();
}

function list() {
  const wanted = by("filter").value.trim().toLowerCase();
  const rows = found
    .filter((one) => !wanted || [one.id, one.tenant, one.model, one.backend, String(one.status), one.policy].some((word) => (word ?? "").toLowerCase().includes(wanted)))
    .slice(0, 20)
    .map(row);
  by("requests").replaceChildren(...(rows.length ? rows : [make("tr", {}, make("td", { colspan: "8", class: "quiet" }, t("noneFound")))]));
}

function row(one) {
  const open = make("button", { type: "button", class: "link" }, one.id);
  open.addEventListener("click", () => show(one.id));
  const status = make("td", {}, String(one.status));
  if (one.status >= 400) status.className = "out";
  return make("tr", {},
    make("td", {}, one.at.slice(11, 19)), make("td", {}, open), status, make("td", {}, `${one.tenant} (${one.class})`),
    make("td", {}, one.model || "–"), make("td", {}, one.backend || "–"), make("td", {}, seconds(one.total)),
    make("td", {}, one.longest ? `${one.longest} ${seconds(one.longest_seconds)}` : "–"));
}

async function show(id) {
  const answer = await get(`/traces/${encodeURIComponent(id)}`);
  if (!answer.ok) return;
  const told = await answer.json();
  by("one-name").textContent = told.id;
  by("one-about").textContent = [
    `${t("status")} ${told.status}`, `${t("total")} ${seconds(told.total)}`, `${t("tenant")} ${told.tenant} (${told.class})`,
    `${t("model")} ${told.model}`, `${t("policyOf")} ${told.policy}`, ...(told.kept ?? []),
  ].join(" · ");
  by("spans").replaceChildren(...flat(told.root.spans ?? [], 0).map(([span, depth]) => bar(span, depth, told.root.end)));
  by("one").showModal();
}

const flat = (spans, depth) => spans.flatMap((span) => [[span, depth], ...flat(span.spans ?? [], depth + 1)]);

function bar(span, depth, whole) {
  const facts = span.attributes ?? {};
  const name = [span.name, facts["spillgate.backend"], facts["spillgate.tier"] ? `${t("tier")} ${facts["spillgate.tier"]}` : ""].filter(Boolean).join(" · ");
  const line = make("div", { class: "bar" });
  const part = make("div", { class: facts["spillgate.outcome"] && facts["spillgate.outcome"] !== "served" ? "part lost" : "part" });
  part.style.marginLeft = `${(100 * span.start) / whole}%`;
  part.style.width = `${Math.max(0.3, (100 * (span.end - span.start)) / whole)}%`;
  line.append(part);
  const said = Object.entries(SHOWN).filter(([word]) => facts[word] != null).map(([word, say]) => say(facts[word])).join(", ");
  const entry = make("li", {}, make("span", { class: "name" }, name), make("span", { class: "time" }, seconds(span.end - span.start)), line);
  entry.style.paddingLeft = `${depth}rem`;
  if (said) entry.append(make("p", {}, said));
  for (const candidate of facts["spillgate.candidates"] ?? []) entry.append(make("p", {}, candidate));
  return entry;
}
