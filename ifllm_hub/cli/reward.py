"""`ifllm reward | score | leaderboard | claim | publish-reward`: the reward model and its scores."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.options import (
    AddressOption,
    AllWorkersOption,
    DatasetArgument,
    EngineOption,
    ForceOption,
    PrivateOption,
    SeedsOption,
)
from ifllm_hub.cli.printing import bar, print_leaderboard
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Reward model"


@app.command(rich_help_panel=PANEL)
def reward(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Model folder to write.", show_default=False)],
    seeds: SeedsOption = 20,
    all_workers: AllWorkersOption = False,
) -> None:
    """Train the reward model and score it by the protocol; prints the leaderboard for unseen workers."""
    from ifllm_hub.reward.train import train_reward

    with bar("reward") as advance:
        board = train_reward(dataset, out, seeds, all_workers, n_jobs=-1, advance=advance)
    print_leaderboard(board)
    say(f"reward model: {out}")


@app.command(rich_help_panel=PANEL)
def score(
    dataset: Annotated[
        str, typer.Argument(help="A dataset folder, an address (s3://...) or a Hub repo id.", show_default=False)
    ],
    out: Annotated[str, typer.Option(help="Folder or address to write; a second run resumes.", show_default=False)],
    model: Annotated[
        str | None, typer.Option(help="A model folder or Hub id; default: the model of this package.")
    ] = None,
    withdrawn: Annotated[
        Path | None, typer.Option(help="File of worker ids to leave out, one per line.", show_default=False)
    ] = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
) -> None:
    """Score every reading of a dataset: which answer would this person prefer, and how surely?"""
    from ifllm_hub.dataset.privacy.consent import read_withdrawn
    from ifllm_hub.reward.scoring import score_dataset

    with bar("score") as advance:
        counts = score_dataset(
            dataset,
            out,
            model,
            engine,
            address,
            withdrawn=lambda: read_withdrawn(withdrawn) if withdrawn else frozenset(),
            advance=advance,
        )
    say(
        f"{counts['readings']:,} readings of {counts['people']:,} people: {counts['scored']:,} scored, "
        f"{counts['abstained']:,} not (one answer, or nobody was seen reading)"
    )
    if withdrawn:
        say(f"withdrawn: {counts['withdrawn']:,} readings left out")
    say(f"scores: {out}")


@app.command(rich_help_panel=PANEL)
def leaderboard(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder of the results; a second run resumes there.", show_default=False)],
    seeds: SeedsOption = 20,
    text_model: Annotated[
        str | None,
        typer.Option(help="Text encoder: a folder or Hub id; default: all-MiniLM-L6-v2 from its PyPI package."),
    ] = None,
    all_workers: AllWorkersOption = False,
) -> None:
    """Score all models and baselines by the full protocol; writes tables (Markdown, JSON) and figures."""
    from ifllm_hub.reward.protocol.full_leaderboard import PAGE_FILE, run_leaderboard

    with bar("leaderboard") as advance:
        board = run_leaderboard(dataset, out, seeds, text_model, all_workers, n_jobs=-1, advance=advance)
    print_leaderboard(board)
    if board["left_out"]:
        say(f"left out, because there is no text encoder (--text-model): {', '.join(board['left_out'])}")
    say(f"leaderboard: {out / PAGE_FILE}")


@app.command(rich_help_panel=PANEL)
def claim(
    dataset: DatasetArgument,
    out: Annotated[Path | None, typer.Option(help="Page to write: .md.", show_default=False)] = None,
    draws: Annotated[int, typer.Option(min=1, help="Exchanges of the permutation test; the claim says 999.")] = 999,
) -> None:
    """Test the one registered claim on a dataset: does reading say what length does not?"""
    from ifllm_hub.files import write_atomically
    from ifllm_hub.reward.protocol.claim import claim_page, claim_sentence, evaluate_claim

    with bar("claim") as advance:
        found = evaluate_claim(dataset, draws, n_jobs=-1, advance=advance)
    if out is not None:
        write_atomically(out, claim_page(found))
    say(claim_sentence(found))


@app.command(rich_help_panel=PANEL)
def publish_reward(
    folder: Annotated[Path, typer.Argument(help="A model folder.", show_default=False)],
    repo_id: Annotated[str, typer.Argument(help="Hub model repo: owner/name.", show_default=False)],
    private: PrivateOption = False,
    force: ForceOption = False,
) -> None:
    """Publish a reward model on the Hub in one commit; none if nothing changed."""
    from ifllm_hub.reward.model.pretrained import push_reward

    say(f"published: {repo_id} at {push_reward(folder, repo_id, private, force)}")
