"""The settings of a collector: where it stores, whom it lets in, and its secrets."""

import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic_core import Url, ValidationError
from sqlalchemy import URL

from ifllm_hub.collect import CONSENT, LEAST_PEOPLE, PUBLISH_MINUTES
from ifllm_hub.collect.wire import VERSION
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json

# Environment variables; what is not set there is read from the folder's secrets file, which the first start creates.
SIGNING_KEYS, PSEUDONYM_KEY, API_KEY = (
    "IFLLM_COLLECT_SIGNING_KEYS",
    "IFLLM_COLLECT_PSEUDONYM_KEY",
    "IFLLM_COLLECT_API_KEY",
)
SECRETS_FILE, STORE_FILE, PUBLISHED_FOLDER = "secrets.json", "collected.sqlite", "published"
# The name under which the tracker is served. Script blockers list names such as "tracker.js".
SCRIPT = "ifllm.js"
# The script that it loads when somebody asks why nothing arrives.
DIAGNOSIS = "diagnose.js"
# For chat pages of other products.
ANSWERS = "answers.js"
_MIN_SECRET = 16
# Origins of pages opened from files, such as some of Electron's.
_NAMELESS = ("null", "file://")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Secrets:
    """Keys of a collector.

    Attributes:
        signing: for tokens, newest first; all are accepted, the first signs.
        pseudonym: for the keyed hashes that stand for people and ids. With another key the same person gets another
            pseudonym, so it never rotates.
        api: what a server that registers answers sends as `X-Ifllm-Key`.
    """

    signing: tuple[bytes, ...]
    pseudonym: bytes
    api: str

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load from the environment (signing keys separated by commas), else from `folder/secrets.json`, created if
        missing.

        Raises:
            IfllmError: a secret is too short, or the file is damaged or cannot be written.
        """
        stored: dict[str, str] = {}
        names = (SIGNING_KEYS, PSEUDONYM_KEY, API_KEY)
        if not all(os.environ.get(name) for name in names):
            stored = _stored_secrets(folder / SECRETS_FILE, names)
        signing, pseudonym, api = (os.environ.get(name) or stored.get(name, "") for name in names)
        keys = [key.strip() for key in signing.split(",") if key.strip()]
        for name, secret in (
            (SIGNING_KEYS, min(keys, key=len, default="")),
            (PSEUDONYM_KEY, pseudonym),
            (API_KEY, api),
        ):
            if len(secret) < _MIN_SECRET:
                raise IfllmError(f"{name}: has fewer than {_MIN_SECRET} characters. Set it to a random secret.")
        return cls(tuple(key.encode() for key in keys), pseudonym.encode(), api)


def _stored_secrets(path: Path, names: tuple[str, ...]) -> dict[str, str]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Created with its mode, so that nobody else can ever read it; if two start at once, one creates it.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return dict(read_json(path))
    except OSError as error:
        raise IfllmError(f"{path}: cannot be written ({error.strerror}). Choose a folder you may write to.") from error
    with os.fdopen(descriptor, "w") as file:
        json.dump({name: secrets.token_urlsafe(32) for name in names}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    return dict(read_json(path))


@dataclass(frozen=True)
class Rate:
    """A token bucket.

    Attributes:
        per_second: how fast it fills.
        burst: how much it holds.
    """

    per_second: float
    burst: float


@dataclass(frozen=True)
class Settings:
    """Settings of a collector; every default suits one machine with SQLite.

    Attributes:
        folder: of the secrets, of what is published and, without `database`, of the store.
        database: SQLAlchemy URL; None: SQLite in `folder`.
        origins: scheme, host and port of the pages that may report, such as "https://chat.example.org", or what an app
            shell sends in their place: "tauri://localhost", "capacitor://localhost", "file://", "null".
        consents: versions of the consent text that are in use; readings under any other are refused.
        prefix: where the router is mounted.
        token_seconds: how long the token of an answer is valid.
        person_token_seconds: how long the token by which a person deletes is valid.
        retention_days: how long what was collected stays in the store; None: until somebody deletes it.
        dataset_repo: keep this Hub dataset repo up to date with what was collected; None: nothing leaves this machine.
        publish_minutes: how often; after a withdrawal, at once.
        publish_shards: files of each split of a config there; only those in which something changed are sent.
        least_people: with fewer whose consent stands, nothing stays in that repo.
        max_body: largest request body from a page, bytes.
        body_seconds: how long a request body may take to arrive.
        person_day_bytes: how much of one person's readings is stored in a day (UTC), bytes; see `Store.accept`.
        session_rate, person_rate, address_rate: limits for one page load, one person and one network address (IPv6:
            network).
        page_rate: limit for one network address's requests to Gradio, for a study or a recorded chat.
        person_ask_rate, address_ask_rate: limits for questions to a study's models, and for consents, by participant
            and by network address.
        answers_at_once: how many answers the models of a study may be giving at the same time.
    """

    folder: Path
    database: str | None = None
    origins: tuple[str, ...] = ()
    consents: tuple[str, ...] = (CONSENT,)
    prefix: str = "/ifllm"
    token_seconds: int = 12 * 3600
    person_token_seconds: int = 30 * 24 * 3600
    retention_days: int | None = 365
    dataset_repo: str | None = None
    publish_minutes: float = PUBLISH_MINUTES
    publish_shards: int = 1
    least_people: int = LEAST_PEOPLE
    max_body: int = 256 * 1024
    body_seconds: float = 30
    person_day_bytes: int = 32 * 1024 * 1024
    session_rate: Rate = field(default=Rate(5, 60))
    person_rate: Rate = field(default=Rate(20, 240))
    address_rate: Rate = field(default=Rate(200, 2_000))
    page_rate: Rate = field(default=Rate(20, 400))
    person_ask_rate: Rate = field(default=Rate(0.1, 10))
    address_ask_rate: Rate = field(default=Rate(0.5, 60))
    answers_at_once: int = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "origins", tuple(map(_origin, self.origins)))
        if not self.consents:
            raise IfllmError("A collector must know the version of the consent text that people agree to (--consent).")
        for version in self.consents:
            if not re.fullmatch(VERSION, version):
                raise IfllmError(f"{version!r}: not a version of a consent text. Write 1 to 64 printable characters.")
        if self.retention_days is not None and self.retention_days < 1:
            raise IfllmError(f"Retention is {self.retention_days} days; it must be at least 1, or unset for no limit.")
        if not self.publish_minutes > 0:
            raise IfllmError(f"publish_minutes is {self.publish_minutes}; it must be more than 0.")
        if self.publish_shards < 1:
            raise IfllmError(f"publish_shards is {self.publish_shards}; it must be at least 1.")

    @property
    def url(self) -> str | URL:
        return self.database or URL.create("sqlite", database=str((self.folder / STORE_FILE).resolve()))


def _origin(text: str) -> str:
    """An origin as browsers send it: in lower case, in ASCII, without the scheme's default port."""
    if text in _NAMELESS:
        return text
    try:
        url = Url(text)
    except ValidationError:
        url = None
    if (
        url is None
        or not url.host
        or "*" in url.host
        or url.path not in (None, "/")
        or any((url.query, url.fragment, url.username, url.password))
    ):
        raise IfllmError(
            f"{text}: not an origin. Write scheme://host[:port], such as https://chat.example.org or "
            f"tauri://localhost, without a path."
        )
    port = "" if url.port in (None, _PORTS.get(url.scheme)) else f":{url.port}"
    return f"{url.scheme}://{url.host}{port}"
