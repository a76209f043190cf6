"""`ifllm run`: what is done, what is kept, and what a failure leaves behind."""

import json
from pathlib import Path

import pytest

from ifllm_hub import pipeline
from ifllm_hub.errors import IfllmError
from ifllm_hub.pipeline import Settings, Stage, run
from tests.conftest import few_trees

STAGES = ["simulate", "build", "patterns", "reward", "label", "align", "report"]


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real stages with their inputs and outputs, but the work only writes the output; lists what worked."""
    worked: list[str] = []
    real = pipeline.stages

    def stages(settings: Settings, out: Path) -> list[Stage]:
        def work(stage: Stage) -> None:
            worked.append(stage.name)
            stage.output.parent.mkdir(parents=True, exist_ok=True)
            stage.output.write_text(stage.name)

        return [
            Stage(stage.name, stage.inputs, stage.output, lambda advance, stage=stage: work(stage), stage.leftover)
            for stage in real(settings, out)
        ]

    monkeypatch.setattr(pipeline, "stages", stages)
    return worked


def worked_again(worked: list[str], settings: Settings, out: Path) -> list[str]:
    worked.clear()
    run(settings, out)
    return list(worked)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    listed = pipeline.stages

    def fail(_: object) -> None:
        raise error

    def stages(settings: Settings, out: Path) -> list[Stage]:
        return [
            Stage(stage.name, stage.inputs, stage.output, fail if stage.name == name else stage.work, stage.leftover)
            for stage in listed(settings, out)
        ]

    monkeypatch.setattr(pipeline, "stages", stages)


def interrupted_alignment(out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that Ctrl-C ended while it trained; the checkpoint it left."""
    with monkeypatch.context() as broken:
        failing(broken, "align", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(Settings(), out)
    (out / "policy").mkdir()
    (out / "policy" / "checkpoint").touch()
    return out / "policy" / "checkpoint"


def test_a_second_run_does_nothing(light: list[str], tmp_path: Path) -> None:
    told: list[tuple[str, str, float]] = []
    run(Settings(), tmp_path / "run")
    assert light == STAGES
    light.clear()
    run(Settings(), tmp_path / "run", lambda *event: told.append(event))
    assert light == []
    assert told == [(stage, "kept", 1.0) for stage in STAGES]


@pytest.mark.parametrize(
    ("changed", "from_stage"),
    [
        ({"questions": 60}, "simulate"),
        ({"seeds": 2}, "reward"),
        ({"label_source": "explicit"}, "align"),
        ({"recipe": "tiny"}, "align"),
        ({"policy": "tiny"}, "align"),
        ({"steps": 3}, "align"),
        ({"seed": 1}, "simulate"),
    ],
)
def test_a_changed_input_redoes_its_stage_and_all_later_ones(
    light: list[str], tmp_path: Path, changed: dict[str, object], from_stage: str
) -> None:
    run(Settings(), tmp_path / "run")
    again = worked_again(light, Settings(**changed), tmp_path / "run")  # type: ignore[arg-type]
    assert again == STAGES[STAGES.index(from_stage) :]


@pytest.mark.parametrize(("settings", "policy"), [(Settings(policy="tiny"), "tiny"), (Settings(), None)])
def test_the_policy_is_that_of_the_recipe_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings, policy: str | None
) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(
        "ifllm_hub.align.runs.launch.launch_dpo",
        lambda recipe, dataset, out, overrides, *rest, **more: asked.append(overrides),
    )
    (align,) = (stage for stage in pipeline.stages(settings, tmp_path) if stage.name == "align")
    align.work(lambda share: None)
    assert asked[0].get("policy") == policy


def test_more_processes_change_no_result_and_redo_nothing(light: list[str], tmp_path: Path) -> None:
    run(Settings(), tmp_path / "run")
    assert worked_again(light, Settings(processes=2), tmp_path / "run") == []


def test_a_lost_output_is_made_again(light: list[str], tmp_path: Path) -> None:
    run(Settings(), tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    assert worked_again(light, Settings(), tmp_path / "run") == ["report"]


def test_a_recipe_file_that_was_edited_redoes_the_alignment(light: list[str], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("policy: tiny\n")
    run(Settings(recipe=str(recipe)), tmp_path / "run")
    recipe.write_text("policy: smollm2-135m\n")
    assert worked_again(light, Settings(recipe=str(recipe)), tmp_path / "run") == ["align", "report"]


def test_a_release_folder_that_changed_is_built_again(light: list[str], simulated: Path, tmp_path: Path) -> None:
    import shutil

    release = tmp_path / "release"
    shutil.copytree(simulated / "dataset", release)
    settings = Settings(release=str(release))
    run(settings, tmp_path / "run")
    assert light == STAGES[1:]
    assert worked_again(light, settings, tmp_path / "run") == []
    with next(release.glob("user_behavior/*/*/abs_mouse.csv")).open("a") as file:
        file.write("1,2,3,1700000000000\n")
    assert worked_again(light, settings, tmp_path / "run") == STAGES[1:]


def test_a_failed_stage_is_named_and_the_earlier_ones_are_kept(
    light: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        failing(broken, "label", IfllmError("too few labeled pairs. Simulate more questions."))
        with pytest.raises(IfllmError, match=r"stage 'label': too few labeled pairs.*finished stages are kept"):
            run(Settings(), tmp_path / "run")
    assert light == ["simulate", "build", "patterns", "reward"]
    assert worked_again(light, Settings(), tmp_path / "run") == ["label", "align", "report"]


def test_an_unexpected_error_leaves_its_traceback(
    light: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "reward", ZeroDivisionError("by hand"))
    with pytest.raises(IfllmError, match=r"stage 'reward' failed unexpectedly \(ZeroDivisionError: by hand\)"):
        run(Settings(), tmp_path / "run")
    assert "ZeroDivisionError: by hand" in (tmp_path / "run" / "error.log").read_text()


def test_an_interrupted_stage_is_done_again(light: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = interrupted_alignment(tmp_path / "run", monkeypatch)
    assert worked_again(light, Settings(), tmp_path / "run") == ["align", "report"]
    assert checkpoint.exists()


def test_a_half_trained_policy_of_other_inputs_is_thrown_away(
    light: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = interrupted_alignment(tmp_path / "run", monkeypatch)
    run(Settings(steps=3), tmp_path / "run")
    assert not checkpoint.exists()


def test_a_folder_that_is_no_run_is_not_touched(light: list[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(IfllmError, match="is not a run folder"):
        run(Settings(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert light == []


def test_a_damaged_state_file_is_named(light: list[str], tmp_path: Path) -> None:
    (tmp_path / "stages.json").write_text('{"stages": ')
    with pytest.raises(IfllmError, match=r"stages\.json: missing or damaged"):
        run(Settings(), tmp_path)


def test_the_whole_run_from_a_simulated_release(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = Settings(workers=8, questions=80, seeds=1, recipe="tiny", steps=2)
    events: list[tuple[str, str]] = []
    with few_trees():
        places = run(settings, out, lambda stage, status, share: events.append((stage, status)))
    assert list(dict.fromkeys(stage for stage, _ in events)) == STAGES
    assert all(path.exists() for path in places.values())
    assert json.loads((out / "policy" / "results.json").read_text())["steps"] == 2
    assert (out / "policy" / "model.safetensors").is_file()
    assert "simulated" in (out / "report.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run(settings, out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
