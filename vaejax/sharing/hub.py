"""Models of the Hugging Face hub, as `hf://owner/name@revision`: got, and pushed."""

import importlib.util
import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from vaejax.data.quiet import one_line
from vaejax.errors import InputError
from vaejax.sharing.manifest import CARD, NAME, NEEDED, hub_address, is_of_hub

# A `Path` has made one slash of the two.
ADDRESS = re.compile(r"hf:/+([\w.-]+/[\w.-]+)(?:@(\S+))?", re.ASCII)
FETCHED = (NAME, CARD, *NEEDED)
"""Files that are downloaded: no others, so no pictures and no pickles."""

log = logging.getLogger(__name__)


class Repository(NamedTuple):
    """A repository of the hub, at a branch, tag or commit."""

    name: str
    revision: str | None

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.name}{at}"


def repository_of(name: str | os.PathLike[str]) -> Repository:
    """The repository of an address; InputError where it is none."""
    found = ADDRESS.fullmatch(os.fspath(name))
    if not found:
        raise InputError(
            f"{hub_address(name)} is no model of the hub: write hf://owner/name or "
            "hf://owner/name@revision"
        )
    return Repository(found[1], found[2])


def fetch_model(name: str | os.PathLike[str]) -> Path:
    """The folder of a model of the hub in the cache on this machine, got if need be.

    A model that the cache has is found without the network, too (`HF_HUB_OFFLINE=1`).

    Raises:
      InputError: huggingface_hub is not installed, or there is no such model here or
        there.
    """
    repository = repository_of(name)
    hub = library(str(repository))
    errors = hub.errors
    try:
        folder = hub.snapshot_download(
            repository.name,
            revision=repository.revision,
            allow_patterns=list(FETCHED),
            library_name="vaejax",
        )
    except errors.RevisionNotFoundError:
        reason = f"there is no revision {repository.revision}"
    except errors.RepositoryNotFoundError:
        reason = (
            "there is no such model, or it is private: `hf auth login` logs in those "
            "who may read it"
        )
    except errors.LocalEntryNotFoundError:
        reason = (
            "it is not in the cache, and the hub was not reached: look at the network, "
            "and at HF_HUB_OFFLINE and HF_ENDPOINT"
        )
    except Exception as error:  # of HTTP, of a proxy, of the disk: whatever it is
        reason = one_line(error)
    else:
        return Path(folder)
    raise InputError(f"cannot get {repository}: {reason}")


def library(what: str) -> Any:
    """huggingface_hub; InputError where it is not installed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(f"{what} needs huggingface_hub: pip install 'vaejax[hub]'")
    import huggingface_hub
    import huggingface_hub.errors

    return huggingface_hub


def check_push(name: str) -> Repository:
    """The repository to push to; InputError where nobody is logged in."""
    repository = repository_of(name if is_of_hub(name) else f"hf://{name}")
    if repository.revision:
        raise InputError(f"--push {name}: models are pushed to owner/name alone")
    if library(f"--push {name}").get_token() is None:
        raise InputError(
            f"--push {name} needs a token of the hub: log in with `hf auth login`, or "
            "set HF_TOKEN"
        )
    return repository


def push_folder(folder: Path, repository: Repository) -> str:
    """Uploads a shared folder, and returns its address as people read it.

    A repository that is not there yet is made private: its owner opens it.
    """
    hub = library(str(repository))
    try:
        hub.HfApi().create_repo(repository.name, private=True, exist_ok=True)
        done = hub.HfApi().upload_folder(
            repo_id=repository.name,
            folder_path=folder,
            commit_message="Share a model of vaejax",
        )
    except Exception as error:  # of HTTP, of rights, of the disk: whatever it is
        raise InputError(
            f"{folder} is written, but cannot be pushed to {repository} "
            f"({one_line(error)}): `hf upload {repository.name} {folder}` tries again"
        ) from error
    return str(done)
