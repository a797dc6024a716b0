// The parts that are plain elements: figures, reservoirs, tables, policy.
import { number, t } from "/console/words.js";

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const by = (id) => document.getElementById(id);

export function figures(feed, rates) {
  const { totals, backends, affinity } = feed.fleet;
  const slowest = Math.max(...backends.map((b) => b.ttft_p95 ?? 0));
  const counts = Object.values(affinity ?? {}).reduce((sum, c) => [sum[0] + c.known, sum[1] + c.known + c.fresh + c.moved], [0, 0]);
  const shown = [
    ["requests", number(rates.offered, 1)],
    ["tokenRate", number(rates.tokens)],
    ["inFlight", number(totals.in_flight), "in-flight"],
    ["waiting", number(totals.waiting), "waiting"],
    ["refused", number(rates.refused, 1)],
    ["spilled", number(rates.spilled, 1)],
    ["retries", number(rates.retried, 1)],
    ["slowest", slowest ? `${number(slowest, 2)} s` : "–"],
  ];
  if (counts[1]) shown.push(["affinity", `${number((100 * counts[0]) / counts[1])} %`]);
  by("figures").replaceChildren(
    ...shown.map(([word, value, metric]) =>
      make("div", {}, make("dt", {}, t(word)), make("dd", { "data-metric": metric }, value))),
  );
}

export function reservoirs(feed) {
  const breakers = {};
  for (const backend of feed.fleet.backends) (breakers[backend.account] ??= []).push(backend);
  by("fleet").replaceChildren(...feed.fleet.accounts.map((account) => reservoir(account, breakers[account.name] ?? [])));
}

function reservoir(account, backends) {
  const room = account.rooms.find((one) => one.kind === "streams");
  const limit = room?.limit;
  const whole = room?.whole ?? limit;
  const learnt = account.learnt != null && !(account.learnt >= whole) ? account.learnt : null;
  const top = Math.max(whole ?? learnt ?? 0, account.in_flight, 1);
  const basin = make("div", { class: "basin", "aria-hidden": "true" });
  const fill = make("div", { class: limit && account.in_flight >= limit ? "fill hot" : "fill" });
  fill.style.height = `${(100 * account.in_flight) / top}%`;
  basin.append(fill);
  if (room?.whole != null) basin.append(mark("mark", limit / top));
  if (learnt != null) basin.append(mark("mark learned", learnt / top));
  const text = make("div", {}, make("h3", {}, account.name));
  text.append(make("p", { class: "use" },
    make("span", { "data-metric": "account-in-flight", "data-account": account.name }, number(account.in_flight)),
    limit == null ? "" : ` / ${number(limit)}`));
  text.append(make("p", {}, limit == null ? t("noLimit") : t("streams")));
  if (room?.whole != null) text.append(make("p", {}, `${t("share")} ${number(room.whole)}`));
  if (learnt != null) text.append(make("p", {}, `${t("learnt")} ${number(learnt, 1)} (${account.learnt_why})`));
  for (const other of account.rooms.filter((one) => one.kind !== "streams"))
    text.append(make("p", {}, `${other.kind} ${number(other.used)} / ${number(other.limit)}`));
  for (const words of troubles(account, backends)) text.append(make("p", { class: "out" }, words));
  return make("li", {}, basin, text);
}

function mark(kind, share) {
  const line = make("div", { class: kind });
  line.style.bottom = `${Math.min(99, 100 * share)}%`;
  return line;
}

function troubles(account, backends) {
  const found = [];
  if (account.cooling_until !== null || account.cooling_reason) found.push(`${t("cooling")}: ${account.cooling_reason}`);
  for (const backend of backends)
    if (backend.breaker !== "closed") found.push(t(backend.breaker === "open" ? "opened" : "halfOpen"));
    else if (backend.blocked_until !== null) found.push(t("cooling"));
  return found;
}

const row = (name, value) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value));

function table(id, entries) {
  const rows = entries.map(([name, value]) => row(name, number(value)));
  by(id).replaceChildren(...(rows.length ? rows : [row(t("none"), "")]));
}

export function queue(feed) {
  table("classes", Object.entries(feed.fleet.waiting_classes));
  table("tenants", Object.entries(feed.fleet.waiting_tenants).flatMap(([name, classes]) =>
    Object.entries(classes).map(([word, count]) => [`${name} · ${word}`, count])));
  table("refusals", Object.entries(feed.fleet.totals.refused));
}

export function policies(feed) {
  by("reload").textContent = `${t("running")} ${feed.configuration}: ${feed.reload_error ? t("reloadFailed") + ": " + feed.reload_error : t("reloaded")}`;
  by("policy").replaceChildren(...Object.entries(feed.policies).map(([name, tiers]) => {
    const models = Object.entries(feed.models).filter(([, model]) => model.policy === name).map(([model]) => model);
    const steps = tiers.map((tier, place) => make("li", {},
      `${t("tier")} ${place + 1}: ${tier.backends.join(", ")} `,
      make("code", {}, tier.choose + (tier.when ? ` · ${t("when")} ${tier.when}` : ""))));
    return make("div", {}, make("h3", {}, `${name} (${models.join(", ")})`), make("ol", { class: "tiers" }, ...steps));
  }));
}
