"""Signed, short-lived tokens: which answers a browser may report on, and whose data it may delete.

A token is `base64url(canonical JSON) . base64url(HMAC-SHA256)`, signed by itsdangerous. The signature covers the
encoded text as sent, so no second spelling of a token is valid. Anyone who holds a token can read it, as the tracker
does: nothing in it is secret, and persons are pseudonyms.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import itsdangerous
from itsdangerous.encoding import base64_decode, base64_encode

from ifllm_hub.terms import Side

MAX_LENGTH = 1_024


class BadToken(Exception):
    """Not a valid token: malformed, forged, of another kind, or signed with a key that is no longer accepted."""


class ExpiredToken(Exception):
    """A valid token that has expired."""


@dataclass(frozen=True)
class ResponseToken:
    """Lets a browser report how one answer is read.

    Attributes:
        response_id: the answer.
        question_id: the integrator's id of the question.
        side: where the answer is shown.
        text_sha256: of the answer's text in UTF-8, hexadecimal. While an answer streams, of the text so far.
        text_length: code points of that text.
        person: pseudonym of the reader.
        issued_at: UTC ms.
        expires_at: UTC ms; not valid from then on.
    """

    response_id: str
    question_id: str
    side: Side
    text_sha256: str
    text_length: int
    person: str
    issued_at: int
    expires_at: int


@dataclass(frozen=True)
class PersonToken:
    """Lets a browser delete everything that is stored about a person; times in UTC ms."""

    person: str
    issued_at: int
    expires_at: int


_KINDS: dict[str, type[ResponseToken] | type[PersonToken]] = {"response": ResponseToken, "person": PersonToken}


class Signer:
    """Signs with the first key and accepts all: a new key goes first, the old one stays until its tokens expire.

    Args:
        keys: secrets, newest first.
    """

    def __init__(self, keys: Sequence[bytes]):
        # Uses the keys as they are, and not itsdangerous' serializers: they may compress what the tracker reads, and
        # their times are in whole seconds.
        self._signer = itsdangerous.Signer(keys[::-1], key_derivation="none", digest_method=hashlib.sha256)

    def sign(self, token: ResponseToken | PersonToken) -> str:
        kind = next(name for name, type_ in _KINDS.items() if isinstance(token, type_))
        payload = json.dumps({"kind": kind, **asdict(token)}, sort_keys=True, separators=(",", ":"))
        return self._signer.sign(base64_encode(payload)).decode()

    def response(self, text: str, now: int) -> ResponseToken:
        """The token of an answer.

        Args:
            now: UTC ms.

        Raises:
            BadToken: it is not valid.
            ExpiredToken: it was valid.
        """
        token = self._verified("response", text, now)
        assert isinstance(token, ResponseToken)
        return token

    def person(self, text: str, now: int) -> PersonToken:
        """The token of a person; see `response`."""
        token = self._verified("person", text, now)
        assert isinstance(token, PersonToken)
        return token

    def _verified(self, kind: str, text: str, now: int) -> ResponseToken | PersonToken:
        if len(text) > MAX_LENGTH or not text.isascii():
            raise BadToken
        try:
            encoded = self._signer.unsign(text)
        except itsdangerous.BadSignature as error:
            raise BadToken from error
        signature = text.rpartition(".")[2].encode()
        if base64_encode(base64_decode(signature)) != signature:  # the same bytes, spelled differently
            raise BadToken
        payload = json.loads(base64_decode(encoded))
        if payload.pop("kind") != kind:
            raise BadToken
        token = _KINDS[kind](**payload)
        if token.expires_at <= now:
            raise ExpiredToken
        return token
