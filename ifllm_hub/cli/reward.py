"""`ifllm reward | leaderboard | claim | publish-reward`: the reward model and its scores."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.options import AllWorkersOption, DatasetArgument, ForceOption, PrivateOption, SeedsOption
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
