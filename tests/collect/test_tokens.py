"""Tokens: what was signed comes back; nothing else does."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifllm_hub.collect.tokens import BadToken, ExpiredToken, PersonToken, ResponseToken, Signer

KEY, OTHER = b"a key for the tests", b"another key for them"
TOKEN = ResponseToken("0" * 32, "q1", "left", "f" * 64, 12, "a" * 32, 1_000, 2_000)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def test_what_was_signed_comes_back() -> None:
    assert Signer([KEY]).response(Signer([KEY]).sign(TOKEN), 1_999) == TOKEN
    person = PersonToken("a" * 32, 1_000, 2_000)
    assert Signer([KEY]).person(Signer([KEY]).sign(person), 1_999) == person


def test_the_format_is_as_documented() -> None:
    encoded, signature = Signer([KEY]).sign(TOKEN).split(".")
    assert json.loads(base64.urlsafe_b64decode(encoded + "==")) == {"kind": "response", **vars(TOKEN)}
    digest = hmac.new(KEY, encoded.encode(), hashlib.sha256).digest()
    assert signature == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_tokens_of_earlier_versions_are_good() -> None:
    """An answer's lives for 12 hours, a person's for 30 days, and an upgrade takes minutes."""
    response = (
        "eyJleHBpcmVzX2F0IjoyMDAwLCJpc3N1ZWRfYXQiOjEwMDAsImtpbmQiOiJyZXNwb25zZSIsInBlcnNvbiI6ImFhYWFhYWFhYWFhYWFhYWFhYW"
        "FhYWFhYWFhYWFhYWFhIiwicXVlc3Rpb25faWQiOiJxMSIsInJlc3BvbnNlX2lkIjoiMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAi"
        "LCJzaWRlIjoibGVmdCIsInRleHRfbGVuZ3RoIjoxMiwidGV4dF9zaGEyNTYiOiJmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZm"
        "ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmIn0.DFyGaOD3TikdwYoaw8eNaQlyyiIiYBtj-cw0doElKPk"
    )
    person = (
        "eyJleHBpcmVzX2F0IjoyMDAwLCJpc3N1ZWRfYXQiOjEwMDAsImtpbmQiOiJwZXJzb24iLCJwZXJzb24iOiJhYWFhYWFhYWFhYWFhYWFhYWFhYW"
        "FhYWFhYWFhYWFhYSJ9.0ntZs7Ngh335_yLIqDdl6XWl961JVZWjQEqTNE8TZ9k"
    )
    signer = Signer([KEY])
    assert (signer.response(response, 0), signer.sign(TOKEN)) == (TOKEN, response)
    assert signer.person(person, 0) == PersonToken("a" * 32, 1_000, 2_000)


def test_it_ends_at_its_time() -> None:
    with pytest.raises(ExpiredToken):
        Signer([KEY]).response(Signer([KEY]).sign(TOKEN), 2_000)


def test_a_rotated_key_is_accepted_until_it_is_taken_off() -> None:
    old = Signer([KEY]).sign(TOKEN)
    rotated = Signer([OTHER, KEY])
    assert rotated.response(old, 0) == TOKEN
    assert rotated.sign(TOKEN) == Signer([OTHER]).sign(TOKEN) != old
    with pytest.raises(BadToken):
        Signer([OTHER]).response(old, 0)


def test_one_kind_is_not_the_other() -> None:
    signer = Signer([KEY])
    with pytest.raises(BadToken):
        signer.person(signer.sign(TOKEN), 0)
    with pytest.raises(BadToken):
        signer.response(signer.sign(PersonToken("a" * 32, 0, 9)), 0)


@given(st.data())
def test_no_other_character_anywhere(data: st.DataObject) -> None:
    text = Signer([KEY]).sign(TOKEN)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(ALPHABET.replace(text[place], "")))
    with pytest.raises(BadToken):
        Signer([KEY]).response(text[:place] + other + text[place + 1 :], 0)


@settings(max_examples=30)
@given(st.text(max_size=60))
def test_no_other_text(text: str) -> None:
    with pytest.raises(BadToken):
        Signer([KEY]).response(text, 0)
