"""Keep a dataset repo on the Hub up to date with what was collected; withdrawals reach it like the local folder."""

import json
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from huggingface_hub import CommitScheduler

from ifllm_hub import __version__
from ifllm_hub.collect.export.dataset import TooFewPeople, export_dataset
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
# What stays in an emptied repo, so that it is still recognized as this collector's.
_NOBODY = json.dumps({"collected": True, "ifllm_hub": __version__, "tier": "full", "people": 0}).encode()


class ScheduledPublication(CommitScheduler):
    """Exports at the start, then every `minutes` and on request, and publishes what changed.

    `CommitScheduler` by itself only adds files. Here a file that is gone is deleted, and with every change so are the
    repo's history and the large files that only the history refers to, since an earlier commit would still hold what
    somebody withdrew. With too few people the repo is emptied, except for a manifest that says so.

    Raises:
        IfllmError: the repo cannot be created or written, holds something else, or the Hub cannot be reached.
    """

    def __init__(
        self,
        store: Store,
        pseudonyms: Pseudonyms,
        folder: Path,
        repo_id: str,
        minutes: float,
        least_people: int,
        shards: int = 1,
    ):
        """Start. A new repo is private, and its data are gated in any case; a repo that holds something else is not
        touched.

        Args:
            folder: of the export, used for nothing else.
            minutes: between two publications; more than 0.
            least_people: with fewer, nothing stays in the repo.
            shards: see `export_dataset`.
        """
        self._store, self._pseudonyms = store, pseudonyms
        self._least_people, self._shards = least_people, shards
        with clear_hub_errors(repo_id):
            repo_id = claim_repo(repo_id, _COLLECTED, private=True)
            super().__init__(repo_id=repo_id, folder_path=folder, every=minutes, repo_type="dataset", private=True)

    def finish(self) -> None:
        """Publish once more, and stop. Failures are logged; the next start catches up."""
        with suppress(IfllmError):
            self.trigger().result()
        self.stop()

    def push_to_hub(self) -> None:
        """Run by the scheduler, one at a time.

        Raises:
            IfllmError: the folder cannot be written, or the Hub failed; the next run catches up.
        """
        try:
            export_dataset(self._store, self.folder_path, self._pseudonyms, self._least_people, self._shards)
        except TooFewPeople as few:
            _log.info("%s: %s", self.repo_id, few)
            commit_files({MANIFEST: _NOBODY}, self.repo_id, _COLLECTED)
        else:
            with planned(self.folder_path, self.repo_id) as plan:
                # Removing people may remove a whole split or config.
                publish(plan, versioned=False, allow_breaking=True)
        with clear_hub_errors(self.repo_id):
            forget_history(self.api, self.repo_id)
            forget_versions(self.api, self.repo_id, kept=("main",))
