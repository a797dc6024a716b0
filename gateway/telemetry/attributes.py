"""Names of span attributes, all of them, in one place.

`gen_ai.*` as in open-telemetry/semantic-conventions-genai, which has no release yet (state of August 2026: everything
"Development", moved out of the core conventions with their 1.42.0); `http.*`, `server.*`, `url.*`, `error.*` are
stable. What has no name there is ours, `spillgate.*`. Nothing here ever carries a prompt or an answer.
"""

from __future__ import annotations

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
HTTP_RESEND = "http.request.resend_count"
URL_SCHEME = "url.scheme"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"

GEN_OPERATION = "gen_ai.operation.name"
GEN_PROVIDER = "gen_ai.provider.name"
GEN_MODEL = "gen_ai.request.model"
GEN_STREAM = "gen_ai.request.stream"
GEN_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
GEN_INPUT = "gen_ai.usage.input_tokens"
GEN_OUTPUT = "gen_ai.usage.output_tokens"
GEN_CACHED = "gen_ai.usage.cache_read.input_tokens"
GEN_REASONING = "gen_ai.usage.reasoning.output_tokens"

REQUEST = "spillgate.request_id"
TENANT = "spillgate.tenant.hash"
KEY = "spillgate.key.id"
CLASS = "spillgate.class"
MODEL = "spillgate.model"
POLICY = "spillgate.policy"
KEPT = "spillgate.kept"
ATTEMPTS = "spillgate.attempts"
QUEUED = "spillgate.queue_seconds"
BACKEND = "spillgate.backend"
ACCOUNT = "spillgate.account"
TIER = "spillgate.tier"
OUTCOME = "spillgate.outcome"
RESERVED = "spillgate.reserved_tokens"
HEDGE = "spillgate.hedge"
CONNECTION = "spillgate.connection"
TOKENS = "spillgate.tokens"
TOKEN_RATE = "spillgate.tokens_per_second"  # noqa: S105
LONGEST_GAP = "spillgate.longest_gap_seconds"
VERDICT = "spillgate.verdict"
REASON = "spillgate.reason"
CANDIDATES = "spillgate.candidates"
ELIGIBLE = "spillgate.eligible"
EXCLUDED = "spillgate.excluded"
LOOKED = "spillgate.looked_seconds_before"

PROVIDERS = {
    "alibaba-model-studio": "alibaba_cloud.model_studio",
    "alibaba-model-studio-intl": "alibaba_cloud.model_studio",
    "baidu-qianfan": "baidu_cloud.qianfan",
    "deepseek": "deepseek",
    "huawei-maas": "huawei_cloud.maas",
    "infinigence": "infinigence.genstudio",
    "minimax": "minimax",
    "modelscope": "modelscope",
    "moonshot": "moonshot_ai",
    "openai": "openai",
    "ppio": "ppio",
    "siliconflow": "siliconflow",
    "tencent-lkeap": "tencent_cloud.lkeap",
    "tencent-tokenhub": "tencent_cloud.tokenhub",
    "ucloud": "ucloud.umodelverse",
    "volcengine-ark": "volcengine.ark",
    "zhipu": "z_ai",
}
"""`gen_ai.provider.name` by preset. The conventions list deepseek, moonshot_ai and openai; the others are ours to name.
A preset that is not here (vllm, sglang …) is its own name."""
