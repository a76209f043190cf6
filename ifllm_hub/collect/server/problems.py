"""What the server answers when it refuses or fails: a status, a code for machines, a sentence for people.

No answer repeats input or reveals the server's internals.
"""

from typing import Any

from starlette.responses import JSONResponse

# code -> status, sentence. The tracker acts on these statuses.
_PROBLEMS = {
    "malformed": (400, "The body is not what this endpoint accepts."),
    "unknown_consent": (400, "This server does not know this version of the consent text."),
    "mixed_people": (400, "The tokens of one batch belong to several people."),
    "bad_token": (401, "There is no token, or it is not one of this server's."),
    "bad_key": (401, "The header X-Ifllm-Key is missing or wrong."),
    "origin_not_allowed": (403, "Pages of this origin may not report here."),
    "not_taken": (403, "Only a page's events are accepted here, and no files."),
    "unknown_answer": (404, "There is no such answer here."),
    "too_slow": (408, "The body took too long to arrive."),
    "conflict": (409, "This sequence number of this session is already used by another body or person."),
    "other_arm": (409, "An answer to this question is registered in another arm, or with another propensity."),
    "expired_token": (410, "The token has expired."),
    "withdrawn": (410, "The person has withdrawn."),
    "too_large": (413, "The body is too large."),
    "wrong_type": (415, "Send application/json, or JSON as text/plain."),
    "too_many_requests": (429, "Too many requests. Come back later."),
    "quota_reached": (429, "The daily limit for this person's readings is reached. Come back tomorrow."),
    "scoring": (429, "Another question of this person, or of many others, is being scored. Come back in a moment."),
    "failed": (500, "The server failed. Try again later."),
    "unavailable": (503, "The store cannot be reached. Try again later."),
}
SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"enum": list(_PROBLEMS)}, "message": {"type": "string"}},
        }
    },
}


class Problem(Exception):
    """End a request with one of the problems above.

    Args:
        code: which one.
        detail: more about it, such as a place in the body and a rule, never content.
        retry_after: seconds.
    """

    def __init__(self, code: str, detail: str = "", retry_after: int | None = None):
        super().__init__(code)
        self.code, self.detail, self.retry_after = code, detail, retry_after

    @property
    def error(self) -> dict[str, str]:
        """The code and the sentence, as sent to a page."""
        _, message = _PROBLEMS[self.code]
        return {"code": self.code, "message": f"{message} ({self.detail})" if self.detail else message}

    def response(self) -> JSONResponse:
        status, _ = _PROBLEMS[self.code]
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if status in (408, 413):
            headers["Connection"] = "close"  # the rest of the body is not waited for
        return JSONResponse({"error": self.error}, status, headers)


def declared(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of OpenAPI for some problems, and for those that any request can get."""
    everywhere = ("origin_not_allowed", "too_many_requests", "failed", "unavailable")
    return {
        status: {"description": message, "content": {"application/json": {"schema": SCHEMA}}}
        for status, message in (_PROBLEMS[code] for code in (*codes, *everywhere))
    }
