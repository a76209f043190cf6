"""What the server answers when it does not do what was asked: a status, a code for machines, a sentence for people.

None of it repeats input, and none of it tells about the inside of the server.
"""

from typing import Any

from starlette.responses import JSONResponse

# code -> status, sentence. The statuses are those that the tracker acts on.
_PROBLEMS = {
    "malformed": (400, "The body is not what this address takes."),
    "unknown_consent": (400, "This version of the consent text is none that this server was told of."),
    "mixed_people": (400, "The tokens of one batch are of several people."),
    "bad_token": (401, "There is no token, or it is none of this server's."),
    "bad_key": (401, "The header X-Ifllm-Key is missing or wrong."),
    "origin_not_allowed": (403, "Pages of this origin may not report here."),
    "not_taken": (403, "Files, and what is no event of a page, are not taken here."),
    "unknown_answer": (404, "There is no such answer here."),
    "too_slow": (408, "The body took too long to arrive."),
    "conflict": (409, "This sequence number of this session was taken by another body or person."),
    "expired_token": (410, "The token has expired."),
    "withdrawn": (410, "The person has withdrawn."),
    "too_large": (413, "The body is too large."),
    "wrong_type": (415, "Send application/json, or JSON as text/plain."),
    "too_many_requests": (429, "Too many requests. Come back later."),
    "quota_reached": (429, "As much of this person as is stored in a day is stored. Come back tomorrow."),
    "scoring": (429, "A question of this person is being scored, or of many others. Come back in a moment."),
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
    """Ends a request with one of the problems above.

    Args:
        code: which.
        detail: what else can be said: a place in the body and a rule, never content.
        retry_after: seconds.
    """

    def __init__(self, code: str, detail: str = "", retry_after: int | None = None):
        super().__init__(code)
        self.code, self.detail, self.retry_after = code, detail, retry_after

    @property
    def error(self) -> dict[str, str]:
        """The code and the sentence, as a page is told."""
        _, message = _PROBLEMS[self.code]
        return {"code": self.code, "message": f"{message} ({self.detail})" if self.detail else message}

    def response(self) -> JSONResponse:
        status, _ = _PROBLEMS[self.code]
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if status in (408, 413):
            headers["Connection"] = "close"  # the rest of the body is not waited for
        return JSONResponse({"error": self.error}, status, headers)


def declared(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of OpenAPI for some problems, and for those that any request can meet."""
    everywhere = ("origin_not_allowed", "too_many_requests", "failed", "unavailable")
    return {
        status: {"description": message, "content": {"application/json": {"schema": SCHEMA}}}
        for status, message in (_PROBLEMS[code] for code in (*codes, *everywhere))
    }
