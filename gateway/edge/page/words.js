// What the page says, in two languages.
const WORDS = {
  en: {
    skip: "Skip to the figures", now: "Now", fleet: "Reservoirs", flow: "Where requests went", queue: "Who waits",
    fleetLegend: "Fill: requests in flight. Solid line: this replica's share. Dashed line: the limit that was learnt.",
    flowLegend: "Attempts of the last ten seconds, by tier and backend, and requests that were refused.",
    ttft: "Time to first token, median (s)", tokens: "Answer tokens per second", policy: "The running policy",
    byClass: "By class", byTenant: "Most by tenant", refusals: "Refused since start, by reason", idle: "Nothing was sent in the last ten seconds.",
    locked: "This gateway asks for its admin key", adminKey: "Admin key", open: "Open", wrongKey: "This key opens nothing here.",
    onlyHere: "Only the gateway's own machine may look here: set SPILLGATE_ADMIN_KEY to allow others.",
    pause: "Pause", resume: "Go on", dark: "Dark", light: "Light", other: "中文", ready: "Ready", notReady: "Not ready",
    degraded: "Degraded: Redis is out of reach", lost: "No answer from the gateway", reloadFailed: "The last reload failed",
    requests: "requests/s", tokenRate: "answer tokens/s", inFlight: "in flight", waiting: "waiting", refused: "refused/s",
    spilled: "spilled/s", slowest: "slowest backend's p95 to first token", affinity: "sent where its beginning is known",
    streams: "streams", noLimit: "no limit known", learnt: "learnt", share: "share of", cooling: "resting", opened: "breaker open",
    halfOpen: "breaker half-open", none: "none", arrivals: "arrivals", tier: "tier", refusedNode: "refused", running: "configuration",
    reloaded: "in force, no failed reload", when: "when", data: "Last values", replicas: "replicas", replica: "this replica",
    retries: "tried again elsewhere/s",
    recent: "Recent requests", recentLegend: "What the gateway remembers. A request opens its waterfall and the decision behind it.",
    filter: "Filter by id, tenant, model, backend, status", close: "Close", noneFound: "No such request is remembered.",
    pick_last: "Last", pick_slow: "Slowest", pick_failed: "Failed", pick_spilled: "Spilled",
    at: "at", request: "request", status: "status", tenant: "tenant", model: "model", backend: "backend", total: "total",
    mostOfIt: "most of it", policyOf: "policy",
    connection: "connection", perSecond: "tokens/s", longestGap: "longest gap",
  },
  zh: {
    skip: "跳到数据", now: "当前", fleet: "算力水库", flow: "请求流向", queue: "排队情况",
    fleetLegend: "水位：正在处理的请求。实线：本副本的份额。虚线：学习到的上限。",
    flowLegend: "最近十秒的尝试次数（按层级和后端），以及被拒绝的请求。",
    ttft: "首个 token 时间，中位数（秒）", tokens: "每秒输出 token", policy: "当前策略",
    byClass: "按等级", byTenant: "排队最多的租户", refusals: "启动以来的拒绝（按原因）", idle: "最近十秒没有发出请求。",
    locked: "此网关需要管理密钥", adminKey: "管理密钥", open: "打开", wrongKey: "该密钥无效。",
    onlyHere: "仅网关本机可查看：设置 SPILLGATE_ADMIN_KEY 以允许其他机器。",
    pause: "暂停", resume: "继续", dark: "深色", light: "浅色", other: "English", ready: "就绪", notReady: "未就绪",
    degraded: "降级：无法连接 Redis", lost: "网关无响应", reloadFailed: "上次重新加载失败",
    requests: "请求/秒", tokenRate: "输出 token/秒", inFlight: "处理中", waiting: "排队中", refused: "拒绝/秒",
    spilled: "溢出/秒", slowest: "最慢后端的首 token p95", affinity: "命中已知前缀",
    streams: "并发流", noLimit: "上限未知", learnt: "学习值", share: "份额，总计", cooling: "休息中", opened: "熔断已打开",
    halfOpen: "熔断半开", none: "无", arrivals: "到达", tier: "层级", refusedNode: "被拒绝", running: "配置",
    reloaded: "生效中，无加载失败", when: "条件", data: "最新数值", replicas: "个副本", replica: "本副本",
    retries: "转移重试/秒",
    recent: "最近的请求", recentLegend: "网关记得的请求。点击可查看瀑布图和决策记录。",
    filter: "按编号、租户、模型、后端、状态筛选", close: "关闭", noneFound: "没有符合条件的请求。",
    pick_last: "最新", pick_slow: "最慢", pick_failed: "失败", pick_spilled: "溢出",
    at: "时间", request: "请求", status: "状态", tenant: "租户", model: "模型", backend: "后端", total: "总耗时",
    mostOfIt: "主要耗时", policyOf: "策略",
    connection: "连接", perSecond: "token/秒", longestGap: "最长间隔",
  },
};

let language = localStorage.getItem("spillgate-language") || (navigator.language.startsWith("zh") ? "zh" : "en");

export const t = (word) => WORDS[language][word] ?? word;

export function speak(next) {
  language = next;
  localStorage.setItem("spillgate-language", next);
  document.documentElement.lang = next === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = t(element.dataset.word);
}

export const spoken = () => language;

export const number = (value, digits = 0) =>
  value == null ? "–" : value.toLocaleString(language === "zh" ? "zh-CN" : "en", { maximumFractionDigits: digits });
