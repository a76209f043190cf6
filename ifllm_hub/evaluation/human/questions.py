"""What raters are asked: the questions, the answers offered, and the fields that hold them."""

from dataclasses import dataclass

from ifllm_hub.terms import SIDES


@dataclass(frozen=True)
class Scale:
    """A question about one answer.

    Attributes:
        name: that of the field, without the side.
        question: as the rater reads it.
        options: the words of each value, in the order they are shown.
    """

    name: str
    question: str
    options: dict[int, str]


SCALES = (
    Scale(
        "errors",
        "How many statements in this answer are wrong, as far as you can tell?",
        {0: "None", 1: "One", 2: "Two or more"},
    ),
    Scale(
        "informativeness",
        "How much does a reader learn from it?",
        {1: "Nothing", 2: "A little", 3: "A fair amount", 4: "A lot", 5: "All one could want"},
    ),
    Scale(
        "relevance",
        "Does it address what was asked?",
        {1: "Not at all", 2: "In part", 3: "Mostly", 4: "Fully"},
    ),
    Scale(
        "overall",
        "Overall, how good is this answer?",
        {1: "Very bad", 2: "Bad", 3: "Fair", 4: "Good", 5: "Very good"},
    ),
)
# Whether a claim that the rater copied from the answer holds. Poems and refusals may have nothing to look up.
SUPPORT: dict[str, bool | None] = {"yes": True, "no": False, "nothing": None}
# Required unless there is nothing to look up.
CLAIM_FIELDS = ("claim", "claim_url", "claim_evidence")
# Points for the left answer, A, against the right one, B.
COMPARISON = {
    3: "A, by far",
    2: "A, clearly",
    1: "A, slightly",
    0: "No difference",
    -1: "B, slightly",
    -2: "B, clearly",
    -3: "B, by far",
}

# What a row of ratings holds beside `task_id`, `item_id` and `rater_id`, in order.
FIELDS = (
    *(
        f"{name}_{side}"
        for side in SIDES
        for name in ("claim_supported", *CLAIM_FIELDS, *(scale.name for scale in SCALES))
    ),
    "comparison",
    "comment",
)
