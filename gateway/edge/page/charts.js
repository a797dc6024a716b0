// The parts that are drawn: the flow, and two curves that begin when the page is opened.
import { number, t } from "/console/words.js";

const KEPT = 300;
const charts = {};
const history = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const palette = () => document.documentElement.dataset.theme === "dark"
  ? ["#7dd3fc", "#fdba74", "#86efac", "#f0abfc", "#fca5a5", "#c4b5fd", "#5eead4", "#fde68a"]
  : ["#0b6fa4", "#c2410c", "#14713d", "#86198f", "#b42318", "#5b21b6", "#0f766e", "#92400e"];

function chart(id) {
  if (!charts[id]) {
    charts[id] = echarts.init(document.getElementById(id), null, { renderer: "canvas" });
    new ResizeObserver(() => charts[id].resize()).observe(document.getElementById(id));
  }
  return charts[id];
}

const base = () => ({
  animation: false, color: palette(), textStyle: { color: colour("--ink"), fontFamily: "inherit" },
  tooltip: { trigger: "axis", renderMode: "richText", backgroundColor: colour("--panel"), textStyle: { color: colour("--ink") } },
});

export function remember(feed, rates) {
  history.push({ at: new Date(), feed, rates });
  if (history.length > KEPT) history.shift();
}

export function curves() {
  if (!history.length) return;
  const names = history.at(-1).feed.fleet.backends.map((backend) => backend.name);
  lines("ttft", names, (moment, name) => moment.feed.fleet.backends.find((b) => b.name === name)?.ttft_p50 ?? null, false);
  lines("tokens", names, (moment, name) => moment.rates.byBackend[name]?.tokens ?? 0, true);
}

function lines(id, names, value, stacked) {
  const series = names.map((name) => ({
    name, type: "line", showSymbol: false, stack: stacked ? "all" : undefined, areaStyle: stacked ? { opacity: 0.35 } : undefined,
    data: history.map((moment) => [moment.at, value(moment, name)]),
  }));
  chart(id).setOption({
    ...base(), series, grid: { left: 8, right: 12, top: 38, bottom: 6, containLabel: true },
    legend: { type: "scroll", top: 0, bottom: "auto", left: 0, icon: "roundRect", textStyle: { color: colour("--ink") }, pageTextStyle: { color: colour("--ink") } },
    xAxis: { type: "time", axisLabel: { color: colour("--quiet"), hideOverlap: true } },
    yAxis: { type: "value", axisLabel: { color: colour("--quiet") }, splitLine: { lineStyle: { color: colour("--line") } } },
  }, true);
  const last = history.at(-1);
  const said = names.map((name) => `${name} ${number(value(last, name), 2)}`).join(", ");
  document.getElementById(id).setAttribute("aria-label", `${t(id)}. ${t("data")}: ${said}`);
}

export function flow(feed, sent) {
  const links = [];
  const nodes = new Map();
  const paint = {};
  const node = (name, label, color) => nodes.has(name) || nodes.set(name, { name, label: { formatter: label }, itemStyle: { color } });
  const tierOf = {};
  for (const tiers of Object.values(feed.policies))
    tiers.forEach((tier, place) => tier.backends.forEach((name) => (tierOf[name] = Math.min(place, tierOf[name] ?? 99))));
  const link = (source, target, value) => value > 0 && links.push({ source, target, value });
  const colours = palette();
  feed.fleet.backends.forEach(({ name }, place) => (paint[name] = colours[place % colours.length]));
  node("in", t("arrivals"), colour("--edge"));
  const byTier = {};
  for (const [name, count] of Object.entries(sent.backends)) if (count > 0) (byTier[tierOf[name] ?? 0] ??= []).push([name, count]);
  for (const [tier, found] of Object.entries(byTier)) {
    node(`tier ${tier}`, `${t("tier")} ${Number(tier) + 1}`, colour("--edge"));
    link("in", `tier ${tier}`, found.reduce((sum, [, count]) => sum + count, 0));
    for (const [name, count] of found) {
      node(`backend ${name}`, `${name} · ${number(count)}`, paint[name]);
      link(`tier ${tier}`, `backend ${name}`, count);
    }
  }
  if (sent.refused > 0) {
    node("refused", `${t("refusedNode")} · ${number(sent.refused)}`, colour("--bad"));
    link("in", "refused", sent.refused);
  }
  const idle = links.length === 0;
  document.getElementById("flow-idle").hidden = !idle;
  document.getElementById("flow").hidden = idle;
  const said = Object.entries(sent.backends).map(([name, count]) => `${name} ${number(count)}`).join(", ");
  document.getElementById("flow").setAttribute("aria-label", `${t("flow")}: ${said}, ${t("refusedNode")} ${number(sent.refused)}`);
  if (idle) return;
  chart("flow").setOption({
    ...base(), tooltip: { ...base().tooltip, trigger: "item" },
    series: [{
      type: "sankey", layoutIterations: 0, left: 6, right: 130, top: 8, bottom: 8, nodeWidth: 12, nodeGap: 10, draggable: false,
      data: [...nodes.values()], links, emphasis: { focus: "adjacency" },
      lineStyle: { color: "gradient", opacity: 0.45 }, label: { color: colour("--ink"), fontSize: 12 },
    }],
  }, true);
}
