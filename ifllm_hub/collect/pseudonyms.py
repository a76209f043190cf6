"""Keyed hashes in place of ids: of people in the store, and of everything that leaves it.

An exported pseudonym is a hash of a hash, so that neither an export alone leads to the store nor the store alone to the
integrator's ids. Anyone who has the key and guesses an id can confirm it: this is pseudonymization, not anonymity.
"""

import hashlib
import hmac
import json

# The largest Int64. With fewer bits, as in a float64, two of 100 million questions would get the same number.
_LARGEST_NUMBER = 2**63 - 1


class Pseudonyms:
    """The pseudonyms of one collector.

    Args:
        key: secret; with another key, every pseudonym is different.
    """

    def __init__(self, key: bytes):
        self.key = key

    def person(self, person: str) -> str:
        """The pseudonym, in the store and in tokens, of the integrator's id of a person; 32 hexadecimal digits."""
        return self._hash("person", person).hex()

    def response(self, person: str, question_id: str, side: str) -> str:
        """The id of a person's answer: the same whenever it is registered again; 32 hexadecimal digits."""
        return self._hash("response", person, question_id, side).hex()

    def worker(self, person: str) -> str:
        """`worker_id` in exports, from a person's pseudonym in the store."""
        return f"reader_{self._hash('worker', person).hex()[:16]}"

    def number(self, kind: str, person: str, id_: str) -> int:
        """`question_id` or `task_id` in exports: from 1 to 2^63 - 1."""
        return int.from_bytes(self._hash(kind, person, id_)[:8], "big") % _LARGEST_NUMBER + 1

    def _hash(self, *parts: str) -> bytes:
        return hmac.digest(self.key, json.dumps(parts).encode(), hashlib.sha256)[:16]
