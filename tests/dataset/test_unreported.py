"""A build that leaves the privacy report and the card for later, and what waits for them."""

import shutil
import sys
from pathlib import Path

import pytest

from ifllm_hub import cli
from ifllm_hub.dataset.build import build_dataset, report_dataset
from ifllm_hub.dataset.privacy.report import read_privacy_report
from ifllm_hub.dataset.publishing.publish import plan_publication, planned
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.sources.ifllm.archive import Release, inventory
from tests.conftest import few_trees
from tests.hub.publishing import content

LATER = {"README.md", "features.md", "datasheet.md", "contents.json", "croissant.json", "privacy_report.json"}


@pytest.fixture(scope="module")
def built_bare(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare") / "ifllm"
    build_dataset(release, folder, report=False)
    return folder


@pytest.fixture
def bare(built_bare: Path, tmp_path: Path) -> Path:
    """A folder without report and card, to be changed."""
    return Path(shutil.copytree(built_bare, tmp_path / "ifllm"))


def test_report_and_card_are_the_same_later(bare: Path, dataset: Path, release: Release) -> None:
    before, whole = content(bare), content(dataset)
    missing = {name for name in whole if name not in before}
    assert {name for name in missing if not name.startswith("figures/")} == LATER
    assert {name for name in missing if name.startswith("figures/")}
    assert before == {name: whole[name] for name in before}
    report_dataset(bare, release)
    assert content(bare) == whole


def test_it_can_be_labeled_and_reported_on_afterwards(bare: Path, labeled_dataset: Path, release: Release) -> None:
    with few_trees():
        write_preferences(bare)
    assert not LATER & set(content(bare))
    report_dataset(bare, release)
    assert content(bare) == content(labeled_dataset)


def test_it_is_not_published(bare: Path) -> None:
    message = rf"^{bare}: has no privacy report and no card yet\. Make them with `ifllm card RELEASE {bare}`\.$"
    with pytest.raises(IfllmError, match=message):
        plan_publication(bare, "lab/ifllm")
    with pytest.raises(IfllmError, match=message), planned(bare, "lab/ifllm"):
        pass
    with pytest.raises(IfllmError, match=message):
        read_privacy_report(bare)


def test_a_folder_that_lost_its_report_is_damaged_and_not_waiting(
    dataset: Path, release: Release, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(dataset, tmp_path / "ifllm"))
    (folder / "privacy_report.json").unlink()
    with pytest.raises(IfllmError, match=r"privacy_report\.json: missing or damaged"):
        read_privacy_report(folder)
    with pytest.raises(IfllmError, match="has a privacy report or a card already"):
        report_dataset(folder, release)


def test_only_its_own_release_can_be_reported_on(bare: Path, simulated: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(simulated / "dataset", tmp_path / "other"))
    with (other / "task_table.csv").open("a") as table:
        table.write("\n")
    with pytest.raises(IfllmError, match=rf"^{bare}: was not built from {other}\."):
        report_dataset(bare, inventory(other))
    assert not LATER & set(content(bare))


def test_the_two_commands(
    simulated: Path,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "ifllm"

    def ifllm(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ifllm", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return capsys.readouterr().out

    said = ifllm("build", simulated, out, "--no-report")
    assert f"not to be published before: ifllm card {simulated} {out}\n" in said
    assert not LATER & set(content(out))
    assert ifllm("card", simulated, out) == f"privacy report and card: {out}\n"
    assert content(out) == content(dataset)
