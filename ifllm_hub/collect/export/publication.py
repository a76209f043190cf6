"""What was collected, kept up to date in a dataset repo on the Hub, which withdrawals reach like the folder here."""

import json
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from huggingface_hub import CommitScheduler

from ifllm_hub import __version__
from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.export.stored import TooFewPeople
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store
from ifllm_hub.dataset.manifest import MANIFEST
from ifllm_hub.dataset.publishing.publish import planned, publish
from ifllm_hub.dataset.publishing.sending import DATASET
from ifllm_hub.dataset.publishing.versions import forget_history, forget_versions
from ifllm_hub.errors import IfllmError
from ifllm_hub.hub import claim_repo, clear_hub_errors, commit_files

_log = logging.getLogger(__name__)
_COLLECTED = replace(DATASET, insist=None)
# What stays of an emptied repo, so that it is still known as ours.
_NOBODY = json.dumps({"collected": True, "ifllm_hub": __version__, "tier": "full", "people": 0}).encode()


class ScheduledPublication(CommitScheduler):
    """Exports at the start, then every so many minutes and when asked, and publishes what changed.

    `CommitScheduler` by itself only adds files. Here a file that is gone is deleted, and with every change so are the
    repo's history and the large files that only it named: an earlier commit would hold what somebody withdrew. With
    too few people the repo is emptied, but for a manifest that says so.

    Raises:
        IfllmError: the repo cannot be made or written, holds something else, or the Hub cannot be reached.
    """

    def __init__(
        self, store: Store, pseudonyms: Pseudonyms, folder: Path, repo_id: str, minutes: float, least_people: int
    ):
        """Start. A new repo is private, and its data are gated in any case; one of somebody else's is not touched.

        Args:
            folder: of the export, for this alone.
            minutes: between two publications; more than 0.
            least_people: with fewer, nothing stays in the repo.
        """
        self._store, self._pseudonyms, self._least_people = store, pseudonyms, least_people
        with clear_hub_errors(repo_id):
            repo_id = claim_repo(repo_id, _COLLECTED, private=True)
            super().__init__(repo_id=repo_id, folder_path=folder, every=minutes, repo_type="dataset", private=True)

    def finish(self) -> None:
        """Publish once more, and stop. What goes wrong is logged; the next start makes up for it."""
        with suppress(IfllmError):
            self.trigger().result()
        self.stop()

    def push_to_hub(self) -> None:
        """Run by the scheduler, one at a time.

        Raises:
            IfllmError: the folder cannot be written, or the Hub failed; the next run makes up for it.
        """
        try:
            export_dataset(self._store, self.folder_path, self._pseudonyms, self._least_people)
        except TooFewPeople as few:
            _log.info("%s: %s", self.repo_id, few)
            commit_files({MANIFEST: _NOBODY}, self.repo_id, _COLLECTED)
        else:
            with planned(self.folder_path, self.repo_id) as plan:
                # Whoever is taken out may take a split or a config along.
                publish(plan, versioned=False, allow_breaking=True)
        with clear_hub_errors(self.repo_id):
            forget_history(self.api, self.repo_id)
            forget_versions(self.api, self.repo_id, kept=("main",))
