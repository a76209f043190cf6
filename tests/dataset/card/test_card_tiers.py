"""What the card says of a tier: who may have it, what its privacy report found, and where it is published."""

import json
import shutil
from pathlib import Path
from typing import Any

from ifllm_hub.dataset.card.pages import write_card
from tests.dataset.card.cards import split_card


def with_manifest(folder: Path, **entries: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | entries))


def test_only_the_full_tier_is_gated(dataset: Path, copy: Path) -> None:
    head, body = split_card(dataset)
    assert "trajectories" in head["extra_gated_prompt"]
    kinds = [kind if isinstance(kind, str) else kind["type"] for kind in head["extra_gated_fields"].values()]
    assert set(kinds) <= {"text", "country", "select", "checkbox", "date_picker"}
    assert any("not try to identify" in field for field in head["extra_gated_fields"])
    assert "This is the full tier" in body

    shutil.rmtree(copy / "data/trajectories")
    with_manifest(copy, tier="public")
    write_card(copy)
    head, body = split_card(copy)
    assert not [key for key in head if key.startswith("extra_gated")]
    assert "This is the public tier" in body
    assert '"trajectories"' not in body
    assert "data/trajectories" not in body + (copy / "croissant.json").read_text()
    assert "This is the public tier" in (copy / "datasheet.md").read_text()


PRIVACY: dict[str, Any] = {
    "tier": "full",
    "workers": 87,
    "withdrawn": 1,
    "not_included": ["age"],
    "window_fields_dropped": 9,
    "k_anonymity": {
        "quasi_identifiers": ["questions", "browser"],
        "k": 4,
        "workers_below_5": 0.14,
        "workers_alone": 0.0,
        "each": [],
        "why": {},
        "not_quasi_identifiers": {},
        "statement": "Pseudonymous.",
    },
    "demographics": {
        "workers": 80,
        "each": [
            {"quasi_identifiers": ["age", "gender"], "k": 1, "workers_below_5": 1.0, "workers_alone": 0.9},
        ],
        "statement": "One join away.",
    },
    "reidentification": {
        "workers": 60,
        "conversations": 400,
        "top1": 0.61,
        "low": 0.5,
        "high": 0.7,
        "majority": 0.2,
        "top1_mean_over_workers": 0.6,
    },
    "free_text": {"tool": "a scanner", "entities": ["URL"], "cannot_find": "names", "texts": 3, "found": []},
}


def test_the_privacy_report_is_on_the_card(dataset: Path, copy: Path) -> None:
    for name in ("README.md", "datasheet.md"):
        text = " ".join((dataset / name).read_text().split())
        assert "k-anonymity over day of asked_at, task_id" in text
        assert "They were not searched for personal data" in text
    (copy / "privacy_report.json").write_text(json.dumps(PRIVACY))
    with_manifest(copy, withdrawn={"listed": 2, "workers": 1, "questions": 9})
    write_card(copy)
    for name in ("README.md", "datasheet.md"):
        text = " ".join((copy / name).read_text().split())
        assert "k-anonymity over questions, browser" in text
        assert "at least 3 others (k = 4); 14% of the workers are in a group of fewer than five" in text
        assert "61% of 400 conversations of 60 workers (95% interval 50% to 70%; always naming" in text
        assert "most frequent worker: 20%)" in text
        assert "80 of the 87 workers here are in it with such data;" in text
        assert "; 72 are the only ones with their age and gender." in text
        assert "Earlier tags and commits here still hold the worker's data" in text
        assert "searched for personal data by software" in text
        assert "1 worker has withdrawn and is in no config" in text
    assert '"privacy_report.json"' in (copy / "croissant.json").read_text()
    alone = PRIVACY | {"k_anonymity": PRIVACY["k_anonymity"] | {"k": 1}}
    (copy / "privacy_report.json").write_text(json.dumps(alone))
    write_card(copy)
    assert "someone shares these with nobody (k = 1)" in " ".join((copy / "README.md").read_text().split())


def test_the_card_says_that_a_sample_of_the_workers_was_attacked(copy: Path) -> None:
    sample = PRIVACY["reidentification"] | {"workers": 200, "workers_in_all": 1_234}
    for report, told in ((PRIVACY, False), (PRIVACY | {"reidentification": sample}, True)):
        (copy / "privacy_report.json").write_text(json.dumps(report))
        write_card(copy)
        header, body = split_card(copy)
        assert ("400 conversations of 200 of 1,234 workers (95% interval" in body) == told
        assert ("To name one of all workers is harder" in " ".join(body.split())) == told
        assert ("(61%, among 200 of 1,234 workers)" in header["extra_gated_prompt"]) == told


def test_the_repo_id_is_in_the_code_once_it_is_known(dataset: Path, copy: Path) -> None:
    write_card(copy, "lab/reading")
    _, body = split_card(copy)
    assert "ORG/ifllm" not in body
    assert body.count("lab/reading") == split_card(dataset)[1].count("ORG/ifllm") - 1  # the note on the placeholder
    assert "datasets/lab/reading" in json.loads((copy / "croissant.json").read_text())["url"]
