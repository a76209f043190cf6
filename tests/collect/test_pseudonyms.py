"""Exported ids: the same for the same key, others for another, and too many to meet by chance."""

from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.collect.pseudonyms import Pseudonyms

KEYS = st.binary(min_size=16, max_size=32)
KINDS = st.sampled_from(["question", "conversation"])


@given(KEYS, KINDS, st.text(), st.text())
def test_a_number_is_of_its_key_kind_person_and_id_and_fits_an_int64(
    key: bytes, kind: str, person: str, id_: str
) -> None:
    number = Pseudonyms(key).number(kind, person, id_)
    assert 1 <= number <= 2**63 - 1
    assert number == Pseudonyms(key).number(kind, person, id_)
    others = {
        Pseudonyms(key + b"x").number(kind, person, id_),
        Pseudonyms(key).number(kind + "x", person, id_),
        Pseudonyms(key).number(kind, person + "x", id_),
        Pseudonyms(key).number(kind, person, id_ + "x"),
        # What belongs to the person does not run into what belongs to the id.
        Pseudonyms(key).number(kind, person + "x", id_[1:]),
    }
    assert number not in others


def test_numbers_use_all_of_63_bits() -> None:
    """Of 100 million questions, two have the same number with a probability of n^2 / 2^64 = 0.05 %."""
    pseudonyms = Pseudonyms(b"0123456789abcdef")
    numbers = [pseudonyms.number("question", "ada", str(number)) for number in range(4_000)]
    for bit in range(63):
        # 2,000 of 4,000; five standard deviations of a binomial are 158.
        assert 1_842 <= sum(number >> bit & 1 for number in numbers) <= 2_158


def test_an_id_of_an_export_is_the_same_in_every_version() -> None:
    """Else labels kept elsewhere lose their questions."""
    pseudonyms = Pseudonyms(b"0123456789abcdef")
    assert pseudonyms.number("question", "ada", "q1") == 3922153797710896697
    assert pseudonyms.worker("ada") == "reader_a86ebbce5011d60f"
