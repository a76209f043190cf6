"""Every pair that a judge was asked about is decided, tied or set aside, and each page says so in the same numbers."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ifllm_hub.evaluation.comparison.compare import run_comparison
from ifllm_hub.evaluation.judge.quality import read_quality
from ifllm_hub.evaluation.judge.run import JudgeArguments, run_judge
from ifllm_hub.report.evaluation import build_evaluation_page
from tests.evaluation.conftest import write_answers
from tests.evaluation.judge.server import JudgeServer, Reply, verdict

pytestmark = pytest.mark.usefixtures("online")

# Points of an answer; the baseline's are worth 4. Of ten questions, four have the baseline's own text again, and the
# sources share the first five answers. The judge has no verdict on "mumble".
POINTS = {"same": 4, "good": 7, "poor": 3}
FOREST = ["same"] * 4 + ["good"] * 6
EXPLICIT = ["same"] * 4 + ["good"] + ["poor"] * 4 + ["mumble"]


def judge(body: dict[str, Any], before: int) -> Reply:
    text = body["messages"][-1]["content"]
    if "mumble" in text:
        return Reply("What?")
    if not ("good" in text or "poor" in text):
        return Reply(verdict(9, 5, "first"))  # of two equal answers, it likes the first
    points = POINTS["good" if "good" in text else "poor"]
    model_first = text.index("same") > text.index("good" if "good" in text else "poor")
    scores = (points, 4) if model_first else (4, points)
    return Reply(verdict(*scores, "first" if scores[0] > scores[1] else "second"))


class Texts(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def online() -> Any:
    """As the fixture of this name, for the whole module."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield
    close_session()


@pytest.fixture(scope="module")
def folder(online: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation folder: both label sources judged in both orders, compared, and shown."""
    made = tmp_path_factory.mktemp("evaluation")
    baseline = write_answers(made / "sft.parquet", "sft", ["same"] * 10)
    for source, answers in (("forest", FOREST), ("explicit", EXPLICIT)):
        with JudgeServer(judge) as server:
            run_judge(
                JudgeArguments(
                    judge="j",
                    base_url=server.url,
                    model_answers=write_answers(made / f"{source}.parquet", source, answers),
                    baseline_answers=baseline,
                    llm="tiny",
                    label_source=source,
                    output=made / f"judgments/{source}.parquet",
                    attempts=1,
                )
            )
            assert len(server.log) == 16  # four questions with equal answers are asked once
    run_comparison([made / "judgments"], made / "comparison", draws=20)
    build_evaluation_page(made)
    return made


def test_the_comparison(folder: Path) -> None:
    comparison = json.loads((folder / "comparison/comparison.json").read_text())
    counted = {
        cell["label_source"]: (cell["asked"], cell["n"], cell["tied"], cell["set_aside"])
        for cell in comparison["cells"]
    }
    assert counted == {"forest": (10, 10, 4, 0), "explicit": (10, 9, 4, 1)}
    means = {cell["label_source"]: cell["difference"]["mean"] for cell in comparison["cells"]}
    assert means == {"forest": pytest.approx(6 * 3 / 10), "explicit": pytest.approx((3 - 4) / 9)}
    assert {cell["label_source"]: cell["ties"] for cell in comparison["cells"]} == {"forest": 0.4, "explicit": 4 / 9}
    assert (comparison["asked"], comparison["pairs"], comparison["tied"]) == (20, 19, 8)
    assert comparison["set_aside"] == {"no order scored: malformed": 1}
    assert comparison["repeated"] == 0
    (contrast,) = comparison["contrasts"]
    assert contrast["n"] == 9  # all questions that both have, equal answers among them
    page = " ".join((folder / "comparison/comparison.md").read_text().split())
    assert "20 pairs asked = 11 decided + 8 tied + 1 set aside (no order scored: malformed: 1)." in page
    assert "| explicit feedback | tiny | 10 | 5 | 4 | 1 |" in page
    assert "| forest, mouse + gaze | pooled | 10 | 6 | 4 | 0 |" in page


def test_the_judges_own_table(folder: Path) -> None:
    for source, pairs in (
        ("forest", {"asked": 10, "decided": 6, "tied": 4, "set_aside": 0}),
        ("explicit", {"asked": 10, "decided": 5, "tied": 4, "set_aside": 1}),
    ):
        (quality,) = read_quality(folder / f"judgments/{source}.quality.json")
        assert quality["pairs"] == pairs
        assert quality["position_consistency"]["n"] == pairs["decided"] + pairs["tied"]


def test_the_page(folder: Path) -> None:
    text = " ".join(" ".join(Texts((folder / "evaluation.html").read_text(encoding="utf-8")).texts).split())
    assert "20 pairs asked = 11 decided + 8 tied + 1 set aside (no order scored: malformed: 1)." in text
    assert "Pairs scored 19 of 20 asked; 1 set aside" in text
    assert "pairs asked = decided + tied + set aside 20 = 11 + 8 + 1" in text
    assert "explicit feedback tiny 10 5 4 1" in text
    assert "n = 9" in text
    assert " of 20 pairs, both orders each" in text
