"""What can go wrong on the Hugging Face Hub, as one clear error."""

from collections.abc import Iterator
from contextlib import contextmanager

from ifllm_hub.errors import IfllmError

_ADVICE: dict[int | None, str] = {
    400: "the Hub refuses this ({detail}).",
    401: "the Hub does not accept the token. Log in again with `hf auth login`, or set HF_TOKEN.",
    403: "this token may not write there ({detail}). Use one that may, or another name.",
    404: "not on the Hub, or not to be seen with this token ({detail}). Check the id and the revision.",
    409: "the name is taken on the Hub ({detail}). Choose another, or use a token that may see it.",
    412: "somebody else committed meanwhile. Run it again to compare with what is there now.",
}
_BROKEN_OFF = "{hub} failed or cannot be reached ({detail}). Run it again; it goes on from what is there."


@contextmanager
def clear_hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what `huggingface_hub` raises in the block into an error that names the repo and says what to do.

    Raises:
        IfllmError: the id is malformed, nothing is there, the token may not, or the Hub failed.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import httpx

    try:
        yield
    except HFValidationError as error:
        raise IfllmError(f"{repo_id}: not a Hub repo id. {error}") from error
    except (httpx.HTTPError, OSError, RuntimeError, ValueError) as error:
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error  # an upload in a thread
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        if isinstance(cause, RepositoryNotFoundError):  # the Hub answers 401 to whoever may not know
            status = 404
        detail = " ".join(str(getattr(cause, "server_message", None) or cause or type(cause).__name__).split())
        advice = _ADVICE.get(status, _BROKEN_OFF).format(detail=detail, hub=constants.ENDPOINT)
        raise IfllmError(f"{repo_id}: {advice}") from error
