"""Publishing an export on the Hugging Face Hub, where the user asks for it."""

import re
from pathlib import Path
from typing import Any

from ddoq.errors import UserError
from ddoq.exchange.record import RECORD

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# What an export may have left there earlier; all else in the repository stays.
_EARLIER = ("data/train-*.parquet", "[0-9]*_*/*.png", "labels.csv")
_NEW = {".gitattributes"}  # the Hub puts it into every new repository


def check_name(repo: str) -> None:
    """Refuse what is no name of a dataset on the Hub.

    Raises:
        UserError: If it is not of the form ``user/name``.
    """
    if not _NAME.fullmatch(repo) or ".." in repo or "--" in repo:
        raise UserError(f"--push: {repo!r} is no name on the Hub; it must read user/name.")


def push(folder: Path, repo: str, *, public: bool = False) -> str:
    """Upload an export as a dataset.

    Args:
        folder: The export.
        repo: Name on the Hub, ``user/name``; made if need be.
        public: Whether a repository that is made now can be seen by all.

    Returns:
        Its address.

    Raises:
        UserError: If the name is wrong, the repository holds something else, or the Hub cannot be reached or refuses.
    """
    check_name(repo)
    from huggingface_hub import HfApi

    try:
        return _upload(HfApi(), folder, repo, public)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - the Hub's client raises errors of several HTTP libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--push: {repo} could not be written ({reason}). The export itself is whole, in {folder}. "
            f"Log in with `hf auth login`, or set HF_TOKEN to a token with write access, and upload it with "
            f"`hf upload {repo} {folder} . --repo-type dataset`."
        ) from None


def _upload(api: Any, folder: Path, repo: str, public: bool) -> str:
    address = str(api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True))
    files = set(api.list_repo_files(repo, repo_type="dataset")) - _NEW
    if files and RECORD not in files:
        raise UserError(
            f"--push: {repo} holds files that are no export ({', '.join(sorted(files)[:3])}). Choose another name."
        )
    api.upload_folder(
        repo_id=repo,
        folder_path=folder,
        repo_type="dataset",
        commit_message="Upload a distilled set",
        delete_patterns=list(_EARLIER),
    )
    return address
