"""How each cloud says no: status, headers and body, as seen on the real ones.

Why so many shapes: the same 429 means six different things, and some clouds hide billing in a 400 or a refusal in
a 200. The gateway's refusal tables are tried against these.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil

from gateway.clouds.profiles import DialectName, Style
from gateway.clouds.tickets import Kind, Refused

ABSURD = 604_800
"""a Retry-After that nobody should believe: a week"""

Row = tuple[int, str, str]
"""status, code (or type), message; `{number}`, `{seen}` and `{per}` are filled in"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal as bytes. `headers` without length and connection."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


_OPENAI: dict[Kind, Row] = {
    "rpm": (429, "rate_limit_exceeded", "Rate limit reached for requests per min (RPM): Limit {number}, Used {seen}."),
    "tpm": (429, "rate_limit_exceeded", "Rate limit reached for tokens per min (TPM): Limit {number}, Used {seen}."),
    "burst": (429, "rate_limit_exceeded", "Request rate increased too quickly."),
    "concurrency": (429, "rate_limit_exceeded", "Too many concurrent requests: limit {number}."),
    "quota": (
        429,
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "overloaded": (503, "server_overloaded", "The server is currently overloaded. Please try again later."),
    "content": (400, "content_filter", "The request was rejected by the content filter."),
    "invalid": (400, "invalid_request_error", "The request is not valid."),
    "auth": (401, "invalid_api_key", "Incorrect API key provided."),
    "not_found": (404, "model_not_found", "The model does not exist or you do not have access to it."),
    "server": (500, "server_error", "The server had an error while processing your request."),
    "timeout": (504, "timeout", "The request timed out."),
}

_TABLES: dict[DialectName, dict[Kind, Row]] = {
    "openai": {},
    "deepseek": {
        "rpm": (429, "rate_limit_error", "Rate limit reached: you are sending requests too quickly."),
        "tpm": (429, "rate_limit_error", "Rate limit reached for TPM"),
        "burst": (429, "rate_limit_error", "Rate limit reached: you are sending requests too quickly."),
        "concurrency": (
            429,
            "rate_limit_error",
            "Your current concurrency is {seen}, which exceeds your concurrency limit of {number} based on your remaining balance",  # noqa: E501
        ),
        "quota": (402, "unknown_error/invalid_request_error", "Insufficient Balance"),
        "overloaded": (503, "service_unavailable_error", "Service is overloaded. Please try again later."),
        "content": (400, "invalid_request_error", "Content Exists Risk"),
        "auth": (401, "authentication_error", "Authentication Fails, Your api key is invalid"),
        "not_found": (400, "invalid_request_error", "Model Not Exist"),
    },
    "dashscope": {
        "rpm": (429, "limit_requests", "Requests rate limit exceeded, please try again later."),
        "tpm": (429, "insufficient_quota", "Allocated quota exceeded, please increase your quota limit."),
        "burst": (429, "limit_burst_rate", "Request rate increased too quickly."),
        "concurrency": (429, "Throttling.Concurrency", "Too many concurrent requests."),
        "quota": (400, "Arrearage", "Access denied, please make sure your account is in good standing (overdue)."),
        "overloaded": (503, "ModelServingError", "Request throttled due to system capacity limits."),
        "content": (400, "data_inspection_failed", "Input data may contain inappropriate content."),
        "invalid": (400, "InvalidParameter", "The provided parameter is not valid."),
        "server": (500, "InternalError.Algo", "An internal error has occurred."),
        "timeout": (500, "RequestTimeOut", "Request timed out, please try again later."),
    },
    "ark": {
        "rpm": (
            429,
            "RateLimitExceeded.EndpointRPMExceeded",
            "The Requests Per Minute (RPM) limit of the associated endpoint for your account has been exceeded.",
        ),
        "tpm": (429, "ModelAccountTpmRateLimitExceeded", "The tokens per minute limit of the model is exceeded."),
        "burst": (429, "RequestBurstTooFast", "Your request rate rose too fast."),
        "concurrency": (429, "InflightBatchsizeExceeded", "Too many requests in flight for this account."),
        "quota": (403, "AccountOverdueError", "The account has an overdue balance."),
        "overloaded": (429, "ServerOverloaded", "The service is currently unable to handle additional requests."),
        "content": (400, "InputTextSensitiveContentDetected", "The input text may contain sensitive information."),
        "invalid": (400, "InvalidParameter", "A parameter specified in the request is not valid."),
        "auth": (401, "AuthenticationError", "The API key in the request is missing or invalid."),
        "not_found": (404, "InvalidEndpointOrModel.NotFound", "The model or endpoint does not exist."),
        "server": (500, "InternalServiceError", "The service encountered an unexpected internal error."),
    },
    "tokenhub": {
        "rpm": (429, "rate_limit_error/429001", "rate limit exceeded on dimension: rpm"),
        "tpm": (429, "rate_limit_error/429001", "rate limit exceeded on dimension: tpm"),
        "burst": (429, "rate_limit_error/429001", "rate limit exceeded on dimension: rpm"),
        "concurrency": (429, "rate_limit_error/429001", "rate limit exceeded on dimension: concurrency"),
        "quota": (402, "permission_error/401007", "FREE_QUOTA_EXHAUSTED"),
        "overloaded": (502, "upstream_error/502001", "upstream service is overloaded"),
        "content": (451, "content_filter_error/451001", "content blocked"),
        "invalid": (400, "invalid_request_error/400001", "invalid request"),
        "auth": (401, "authentication_error/401002", "invalid api key"),
        "not_found": (404, "not_found_error/404001", "model not found"),
        "server": (500, "internal_error/500001", "internal error"),
        "timeout": (504, "upstream_error/504001", "upstream timeout"),
    },
    "qianfan": {
        "rpm": (429, "rpm_rate_limit_exceeded", "Rate limit reached for RPM"),
        "tpm": (429, "tpm_rate_limit_exceeded", "Rate limit reached for TPM"),
        "burst": (429, "user_rate_limit_exceeded", "Rate limit reached"),
        "concurrency": (429, "user_rate_limit_exceeded", "Concurrent request limit reached"),
        "quota": (403, "account_overdue", "The account is overdue"),
        "overloaded": (429, "cluster_rate_limit_exceeded", "The cluster is busy, please try again later"),
        "content": (403, "system_unsafe", "The content was found unsafe"),
        "invalid": (400, "invalid_argument", "An argument is not valid"),
        "auth": (401, "invalid_iam_token", "The IAM token is not valid"),
        "not_found": (401, "invalid_model", "The model is not valid"),
        "server": (500, "internal_error", "Internal error"),
        "timeout": (500, "dispatch_internal_error", "Internal error"),
    },
    "huawei": {
        "rpm": (429, "ModelArts.81101", "The request exceeded rate limit is {number} times per {per}."),
        "tpm": (429, "ModelArts.81103", "The tokens exceeded rate limit is {number} per {per}."),
        "burst": (429, "APIG.0308", "The throttling threshold has been reached: policy user over ratelimit."),
        "concurrency": (429, "APIG.0308", "The throttling threshold has been reached: concurrency over {number}."),
        "quota": (403, "ModelArts.81005", "The account is in arrears."),
        "overloaded": (503, "ModelArts.81100", "Decode server overloaded"),
        "content": (403, "ModelArts.81011", "May contain sensitive information."),
        "invalid": (400, "ModelArts.81001", "Invalid request."),
        "auth": (401, "ModelArts.81003", "Authorization failed."),
        "not_found": (404, "ModelArts.81009", "The model does not exist."),
        "server": (500, "ModelArts.81500", "Internal error."),
        "timeout": (504, "APIG.0203", "Backend timeout."),
    },
    "siliconflow": {
        "rpm": (429, "", "Request was rejected due to rate limiting. Details: RPM limit reached."),
        "tpm": (429, "", "Request was rejected due to rate limiting. Details: TPM limit reached."),
        "burst": (429, "", "Request was rejected due to rate limiting. Details: RPM limit reached."),
        "concurrency": (429, "", "Request was rejected due to rate limiting. Details: concurrency limit reached."),
        "quota": (403, "30001", "Sorry, your account balance is insufficient"),
        "overloaded": (503, "50505", "System is too busy now. Please try again later."),
        "content": (451, "20061", "The content was blocked."),
        "invalid": (400, "20015", "The parameter is invalid. Please check again."),
        "auth": (401, "30014", "Token is invalid."),
        "not_found": (400, "20012", "Model does not exist. Please check it carefully."),
        "server": (500, "50000", "Unknown error."),
        "timeout": (504, "50504", "Timeout."),
    },
    "moonshot": {
        "rpm": (429, "rate_limit_reached_error", "reached max RPM: {number}, please try again after {wait} seconds"),
        "tpm": (429, "rate_limit_reached_error", "reached max TPM: {number}, please try again after {wait} seconds"),
        "burst": (429, "rate_limit_reached_error", "reached max RPM, please try again after {wait} seconds"),
        "concurrency": (429, "rate_limit_reached_error", "reached max organization concurrency: {number}"),
        "quota": (429, "exceeded_current_quota_error", "Your account is suspended, please check your plan"),
        "overloaded": (429, "engine_overloaded_error", "The engine is currently overloaded, please try again later"),
        "auth": (401, "invalid_authentication_error", "Invalid Authentication"),
        "not_found": (404, "resource_not_found_error", "Not found the model or Permission denied"),
    },
    "minimax": {
        "rpm": (200, "1002", "rate limit"),
        "tpm": (200, "1039", "token limit"),
        "burst": (200, "2045", "rate growth limit"),
        "concurrency": (200, "1041", "connection limit"),
        "quota": (200, "1008", "insufficient balance"),
        "overloaded": (200, "1033", "downstream service error"),
        "content": (200, "1026", "input new_sensitive"),
        "invalid": (200, "2013", "invalid params"),
        "auth": (200, "1004", "login fail: the API secret key is not valid"),
        "not_found": (200, "2013", "invalid params, unknown model"),
        "server": (200, "1013", "internal service error"),
        "timeout": (200, "1001", "timeout"),
    },
    "zhipu": {
        "rpm": (429, "1302", "The request rate of your API has reached its limit."),
        "tpm": (429, "1303", "The call frequency of your API has reached its limit."),
        "burst": (429, "1303", "The call frequency of your API has reached its limit."),
        "concurrency": (429, "1302", "The concurrency of your API is too high."),
        "quota": (429, "1113", "Your account is overdue, please top up."),
        "overloaded": (429, "1305", "The model is visited too much at present, please try again later."),
        "content": (400, "1301", "Unsafe or sensitive content was found."),
        "invalid": (400, "1210", "A parameter of the API call is wrong."),
        "auth": (401, "1002", "The authorization token is not valid."),
        "not_found": (400, "1211", "The model does not exist."),
        "server": (500, "1234", "Network error."),
    },
    "vllm": {
        "rpm": (429, "RateLimitError", "Rate limit exceeded."),
        "tpm": (429, "RateLimitError", "Token rate limit exceeded (TPM)."),
        "burst": (429, "RateLimitError", "Rate limit exceeded."),
        "concurrency": (429, "RateLimitError", "Too many concurrent requests."),
        "overloaded": (503, "ServiceUnavailableError", "The waiting queue is full."),
        "invalid": (400, "BadRequestError", "The request is not valid."),
        "auth": (401, "AuthenticationError", "Unauthorized"),
        "not_found": (404, "NotFoundError", "The model does not exist."),
        "server": (500, "InternalServerError", "EngineCore encountered an issue."),
    },
    "sglang": {
        "overloaded": (503, "ServiceUnavailableError", "Request queue timeout reached."),
        "invalid": (400, "BadRequestError", "The request is not valid."),
        "not_found": (404, "NotFoundError", "The model does not exist."),
        "server": (500, "InternalServerError", "Internal server error."),
    },
}  # fmt: skip


def refuse(dialect: DialectName, refused: Refused, style: Style, request_id: str) -> Refusal:
    """The refusal as this cloud would put it. A `crash` has no bytes: the shell drops the connection instead."""
    status, code, text = _TABLES[dialect].get(refused.kind) or _OPENAI[refused.kind]
    wait = max(1, ceil(refused.retry_after or 1.0))
    per = "second" if refused.limit in {"rps", "tps", "ramp"} else "minute"
    message = text.format(number=refused.number, seen=refused.seen + 1, per=per, wait=wait)
    headers: list[tuple[str, str]] = [("content-type", "application/json"), ("x-request-id", request_id)]
    if refused.retry_after is not None and style.retry_after != "none":
        headers.append(("retry-after", str(ABSURD if style.retry_after == "absurd" else wait)))
    return Refusal(status, tuple(headers), json.dumps(body(dialect, status, code, message, request_id)).encode())


def failure(dialect: DialectName, request_id: str) -> bytes:
    """The JSON of an error frame inside a stream that began with 200."""
    status, code, message = _TABLES[dialect].get("server") or _OPENAI["server"]
    found = body(dialect, status, code, message, request_id)
    return json.dumps({"error": found} if found.get("object") == "error" else found).encode()


def body(dialect: DialectName, status: int, code: str, message: str, request_id: str) -> dict[str, object]:
    """The object a cloud wraps an error in."""
    match dialect:
        case "deepseek" | "openai" | "moonshot":
            kind, _, code = code.rpartition("/") if "/" in code else (_openai_type(dialect, status, code), "", code)
            return {"error": {"message": message, "type": kind, "param": None, "code": code}}
        case "dashscope":
            error: dict[str, object] = {"message": message, "type": code, "param": None, "code": code}
            return {"error": error, "request_id": request_id}
        case "ark":
            error = {
                "code": code,
                "message": f"{message} Request id: {request_id}",
                "param": "",
                "type": _ark_type(status),
            }
            return {"error": error}
        case "tokenhub":
            kind, _, number = code.partition("/")
            source = "upstream" if kind == "upstream_error" else "client" if status < 429 else "gateway"
            error = {"type": kind, "code": number, "message": message, "source": source, "request_id": request_id}
            if source == "upstream":
                error |= {"upstream_code": "timeout" if status == 504 else "overloaded", "upstream_status": status}
            return {"error": error}
        case "qianfan":
            kind = (
                "rate_limit_exceeded" if status == 429 else "unsafe_request" if "unsafe" in code else "invalid_request"
            )
            return {"id": f"as-{request_id[-10:]}", "error": {"code": code, "message": message, "type": kind}}
        case "huawei":
            return {"error_code": code, "error_msg": message, "request_id": request_id}
        case "siliconflow":
            return {"code": int(code), "message": message, "data": ""} if code else {"message": message, "data": ""}
        case "minimax":
            return {"id": request_id, "choices": None, "base_resp": {"status_code": int(code), "status_msg": message}}
        case "zhipu":
            return {"error": {"code": code, "message": message}}
        case "vllm" | "sglang":
            return {"object": "error", "message": message, "type": code, "param": None, "code": status}


def _openai_type(dialect: DialectName, status: int, code: str) -> str:
    if dialect != "openai":
        return code
    return "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"


def _ark_type(status: int) -> str:
    return {429: "TooManyRequests", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}.get(
        status, "BadRequest" if status < 500 else "InternalServerError"
    )
