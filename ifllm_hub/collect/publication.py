"""What was collected, kept up to date in a dataset repo on the Hub, which withdrawals reach like the folder here."""

import logging
from contextlib import suppress
from pathlib import Path

from huggingface_hub import CommitOperationDelete, CommitScheduler

from ifllm_hub.collect.export import TooFewPeople, export_dataset
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store import Store
from ifllm_hub.dataset.publish import addressed, plan_publication, publish, repo_files
from ifllm_hub.errors import IfllmError
from ifllm_hub.hub import clear_hub_errors

_log = logging.getLogger(__name__)


class ScheduledPublication(CommitScheduler):
    """Exports at the start, then every so many minutes and when asked, and publishes what changed.

    `CommitScheduler` by itself only adds files. Here a file that is gone is deleted, and with every change so are the
    repo's history and the large files that only it named: an earlier commit would hold what somebody withdrew. With
    too few people the repo is emptied.

    Raises:
        IfllmError: the repo cannot be made or written, or the Hub cannot be reached.
    """

    def __init__(
        self, store: Store, pseudonyms: Pseudonyms, folder: Path, repo_id: str, minutes: float, least_people: int
    ):
        """Start. A new repo is private, and its data are gated in any case.

        Args:
            folder: of the export, for this alone.
            minutes: between two publications; more than 0.
            least_people: with fewer, nothing stays in the repo.
        """
        self._store, self._pseudonyms, self._least_people = store, pseudonyms, least_people
        with clear_hub_errors(repo_id):
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
            self._empty()
        else:
            with addressed(self.folder_path, self.repo_id) as folder:
                plan = plan_publication(folder, self.repo_id)
                # Whoever is taken out may take a split or a config along.
                publish(plan, versioned=False, allow_breaking=True)
        self._forget_history()

    def _empty(self) -> None:
        with clear_hub_errors(self.repo_id):
            gone = [CommitOperationDelete(path) for path in repo_files(self.api, self.repo_id, "main")]
            if gone:
                message = "Too few people whose consent stands"
                self.api.create_commit(self.repo_id, gone, commit_message=message, repo_type="dataset")

    def _forget_history(self) -> None:
        with clear_hub_errors(self.repo_id):
            if len(self.api.list_repo_commits(self.repo_id, repo_type="dataset")) > 1:
                self.api.super_squash_history(self.repo_id, repo_type="dataset")
            files = repo_files(self.api, self.repo_id, "main").values()
            kept = {file.lfs.sha256 for file in files if file.lfs}
            stored = self.api.list_lfs_files(self.repo_id, repo_type="dataset")
            stale = [file for file in stored if file.file_oid not in kept]
            self.api.permanently_delete_lfs_files(self.repo_id, stale, rewrite_history=False, repo_type="dataset")
