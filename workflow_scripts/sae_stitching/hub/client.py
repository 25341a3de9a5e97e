"""The Hugging Face hub: names become commits, and files come as the hub says that they are.

Nothing else of this package asks the hub for anything. What is fetched lies in the hub's own cache
(``HF_HOME``), where other programs find it too. ``HF_ENDPOINT``, ``HF_TOKEN`` and
``HF_HUB_OFFLINE`` mean what they always mean.

Importing this is quick; the hub's client is imported when it is needed.
"""

import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from sae_stitching.base.errors import StudyError, WriteError
from sae_stitching.base.store import replacing

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")

_BLOCK = 1 << 20  # bytes read at a time
_FULL_COMMIT = re.compile("[0-9a-f]{40}")
# Xet's client is patient for minutes, and does not say so; plain HTTP is there when it gives up.
_XET = {
    "HF_XET_CLIENT_READ_TIMEOUT": "30s",
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "1000ms",
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "3",
    "HF_XET_CLIENT_RETRY_MAX_DURATION": "60s",
}
_POINTER = b"version https://git-lfs.github.com/spec/"  # how a Git LFS pointer begins


@dataclass(frozen=True)
class Commit:
    """One commit of a repository, and how it was asked for.

    Attributes
    ----------
    kind
        ``"model"`` (SAEs too) or ``"dataset"``.
    name
        What the study calls the repository; TransformerLens has short names for some.
    repo
        Name on the hub; of a repository that was renamed, the new one.
    revision
        Branch, tag or commit that was asked for.
    commit
        All 40 digits.
    """

    kind: str
    name: str
    repo: str
    revision: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repo} at {self.commit}"


@dataclass(frozen=True)
class HubFile:
    """One file of a commit, as the hub describes it.

    Attributes
    ----------
    path
        Within the repository.
    size
        In bytes.
    checksum
        SHA-256 where the file lies in large storage (Git LFS, Xet), else the SHA-1 that git gives
        it, in hexadecimal digits.
    """

    path: str
    size: int
    checksum: str


# Names and commits


def resolve(kind: str, name: str, revision: str) -> Commit:
    """Find out which commit a branch or a tag is now; of a commit, nothing is asked.

    Offline it is the commit that the hub's cache remembers.

    Raises
    ------
    StudyError
        If the hub cannot be reached, or has no such repository or revision.
    """
    from huggingface_hub import HfApi

    repo = _full_name(name) if kind == "model" else name
    if _FULL_COMMIT.fullmatch(revision):
        return Commit(kind, name, repo, revision, revision)
    if _offline():
        commit = _remembered(kind, repo, revision)
    else:
        info = HfApi().model_info if kind == "model" else HfApi().dataset_info
        with _worded(kind, repo, revision):
            found = _sound(lambda: info(repo, revision=revision))
        # Of a repository that was renamed, the new name.
        repo, commit = found.id, found.sha
        if commit is None or not _FULL_COMMIT.fullmatch(commit):
            raise StudyError(
                f"{repo}: the hub does not say which commit {revision} is; name a commit, all 40 "
                "digits"
            )
        _remember(kind, repo, revision, commit)
    logger.info("%s: %s is commit %s of %s", name, revision, commit, repo)
    return Commit(kind, name, repo, revision, commit)


def _full_name(name: str) -> str:
    """Resolve a short name of TransformerLens, e.g. gpt2-small, to the hub's."""
    if "/" in name:
        return name
    from transformer_lens.tools.model_registry.registry_io import resolve_model_alias

    return resolve_model_alias(name) or name


def _remember(kind: str, repo: str, revision: str, commit: str) -> None:
    """Note a commit in the hub's cache, as its client does, for when there is no network."""
    try:
        with replacing(_storage(kind, repo) / "refs" / revision) as temporary:
            temporary.write_text(commit)
    except (OSError, WriteError):  # a cache that others look after
        logger.debug("%s: the hub's cache cannot be written", repo)


def _remembered(kind: str, repo: str, revision: str) -> str:
    try:
        commit = (_storage(kind, repo) / "refs" / revision).read_text().strip()
    except OSError:
        commit = ""
    if not _FULL_COMMIT.fullmatch(commit):
        raise StudyError(f"{repo}: which commit {revision} is, {_ABSENT}")
    return commit


def write_commit(commit: Commit, path: str | Path) -> None:
    """Write which commit was found; a file that says so already is left as it is."""
    with suppress(StudyError):  # what is there may be damaged
        if read_commit(path) == commit:
            return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(commit), indent=1) + "\n", encoding="utf-8")


def read_commit(path: str | Path) -> Commit:
    """Read what `write_commit` wrote.

    Raises
    ------
    StudyError
        If the file is missing or something else.
    """
    try:
        return Commit(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise StudyError(
            f"{path}: does not say a commit ({error}); run snakemake --forceall resolve"
        ) from error


# Files


def list_files(commit: Commit, folder: str = "", *, recursive: bool = False) -> dict[str, HubFile]:
    """List the files of a commit in a folder, and below it if asked to.

    Offline these are the files of the commit that the hub's cache has; below a folder, those that
    it knows of.

    Returns
    -------
    dict
        By path within the repository; empty where there is no such folder.

    Raises
    ------
    StudyError
        If the hub cannot be reached, or lacks the repository or the commit.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    folder = "" if folder == "." else folder
    if _offline():
        return _cached_files(commit, folder, recursive=recursive)
    options = {"revision": commit.commit, "repo_type": commit.kind, "recursive": recursive}

    def listed() -> list[Any]:
        try:
            return list(HfApi().list_repo_tree(commit.repo, folder or None, **options))
        except EntryNotFoundError:
            return []

    with _worded(commit.kind, commit.repo, commit.commit):
        entries = _sound(listed)
    for entry in entries:
        # Git allows no such names; whoever lists one means to have something written elsewhere.
        if entry.path.startswith("/") or ".." in entry.path.split("/"):
            raise StudyError(f"{commit}: lists {entry.path!r}, which is no path in a repository")
    return {
        entry.path: HubFile(
            entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id
        )
        for entry in entries
        if isinstance(entry, RepoFile)
    }


def _cached_files(commit: Commit, folder: str, *, recursive: bool) -> dict[str, HubFile]:
    storage = _storage(commit.kind, commit.repo)
    snapshot = storage / "snapshots" / commit.commit
    if not snapshot.is_dir():
        raise StudyError(f"{commit}: {_ABSENT}")
    if recursive:
        return _cached_listing(commit, storage / "trees" / f"{commit.commit}.json", folder)
    found = {}
    for path in sorted((snapshot / folder).glob("**/*" if recursive else "*")):
        if path.is_file():
            name = path.relative_to(snapshot).as_posix()
            # The cache calls what a file holds by its checksum.
            blob = Path(os.readlink(path)).name if path.is_symlink() else ""
            found[name] = HubFile(name, path.stat().st_size, blob)
    return found


def _cached_listing(commit: Commit, path: Path, folder: str) -> dict[str, HubFile]:
    # All files that there are, as downloads of whole repositories keep them: the part of a dataset
    # that is in the cache must not be taken for the whole.
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {
            name: HubFile(name, told["size"], told.get("lfs_sha256") or told["blob_id"])
            for name, told in files.items()
            if name.startswith(f"{folder}/" if folder else "")
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StudyError(f"{commit}: the list of its files {_ABSENT}") from error


def lacking(commit: Commit, complaint: str) -> StudyError:
    """What to say of a commit that lacks something; offline, more of it may be elsewhere."""
    return StudyError(
        f"{commit}: " + (f"what is wanted of it {_ABSENT}" if _offline() else complaint)
    )


def fetch_file(commit: Commit, file: HubFile) -> Path:
    """Fetch one file of a commit into the hub's cache, or find it there, and check it.

    A file that is not what the hub says is fetched once more, and does not stay in the cache.

    Returns
    -------
    Path
        In the hub's cache.

    Raises
    ------
    StudyError
        If it cannot be fetched, or is damaged a second time.
    """
    from huggingface_hub import try_to_load_from_cache

    revision = {"revision": commit.commit, "repo_type": commit.kind}
    cached = try_to_load_from_cache(commit.repo, file.path, **revision)
    if isinstance(cached, str):
        path = Path(cached)
        if not (wrong := _difference(path, file)):
            return _no_pointer(path, commit, file)
        logger.warning("%s: %s in the hub's cache is damaged: %s", commit, file.path, wrong)
        _remove(path)
        if _offline():
            raise StudyError(
                f"{commit}: {file.path}: the hub's cache had it damaged ({wrong}); unset "
                "HF_HUB_OFFLINE and run snakemake fetch"
            )
    _drop_partial(commit, file)
    wrong = ""
    for attempt in range(2):
        with _worded(commit.kind, commit.repo, commit.commit, file.path):
            try:
                found = _download(commit, file, plain=attempt > 0)
            except OSError as error:
                if (length := _other_length(error)) is None:
                    raise
                found, wrong = None, f"{length:,} bytes, the hub says {file.size:,}"
        if found and not (wrong := _difference(found, file)):
            logger.info("%s: fetched %s, %s bytes", commit, file.path, f"{file.size:,}")
            return _no_pointer(found, commit, file)
        logger.warning("%s: %s came damaged: %s", commit, file.path, wrong)
        if found:
            _remove(found)
    raise StudyError(
        f"{commit}: {file.path}: came damaged twice: {wrong}; nothing of it was kept, run again, "
        "and if it stays so tell those who look after the repository or the network"
    )


def _drop_partial(commit: Commit, file: HubFile) -> None:
    """Remove what downloads of a file left that were killed; nobody goes on with them."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock

    blobs = _storage(commit.kind, commit.repo) / "blobs"
    partial = list(blobs.glob(f"{file.checksum}.*incomplete"))
    if not partial:
        return
    folder = repo_folder_name(repo_id=commit.repo, repo_type=commit.kind)
    lock = Path(constants.HF_HUB_CACHE, ".locks", folder, f"{file.checksum}.lock")
    try:
        # Whoever is downloading it now holds this.
        with WeakFileLock(lock, timeout=0.1):
            for path in partial:
                path.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("%s: is being downloaded by another process (%s)", file.path, error)


def _download(commit: Commit, file: HubFile, *, plain: bool) -> Path:
    """Fetch by the client's own means; plainly by HTTP if asked to, or if Xet fails."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    def download() -> Path:
        where: Any = {"revision": commit.commit, "repo_type": commit.kind}
        return Path(hf_hub_download(commit.repo, file.path, **where))

    disable_progress_bars()
    for key, value in _XET.items():
        os.environ.setdefault(key, value)
    if not plain:
        try:
            return download()
        except Exception as error:
            # Xet's client raises what it likes. What the hub itself said, it will say again.
            if _is_of_the_hub(error):
                raise
            logger.warning(
                "%s: %s did not come by Xet (%s); trying plain HTTP", commit, file.path, error
            )
    # The client reads its environment once, as it is imported.
    before, constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET, True
    try:
        return download()
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _is_of_the_hub(error: Exception) -> bool:
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError

    from sae_stitching.hub.patience import Unwell

    known = (FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError, Unwell)
    return (
        isinstance(error, known)
        or getattr(error, "errno", None) in _DISK
        or _other_length(error) is not None
    )


def _other_length(error: Exception) -> int | None:
    """Bytes that a file came with, if that is why the client does not take it."""
    told = re.match(r"Consistency check failed: .* but has size (\d+)", str(error))
    return int(told[1]) if told else None


def _difference(path: Path, file: HubFile) -> str:
    """What sets a file apart from what the hub says of it; nothing if it is the same."""
    size = path.stat().st_size
    if size != file.size:
        return f"{size:,} bytes, the hub says {file.size:,}"
    if len(file.checksum) == 64:
        name, digest = "SHA-256", hashlib.sha256()
    elif len(file.checksum) == 40:
        name, digest = "git's SHA-1", hashlib.sha1(b"blob %d\0" % size)
    else:  # offline, in a cache on a disk without links
        return ""
    with open(path, "rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    return "" if found == file.checksum else f"{name} is {found}, the hub says {file.checksum}"


def _no_pointer(path: Path, commit: Commit, file: HubFile) -> Path:
    if file.size < 1024 and path.read_bytes().startswith(_POINTER):
        raise StudyError(
            f"{commit}: {file.path}: is a Git LFS pointer, the file itself was never uploaded; "
            "name another revision, or tell those who look after the repository"
        )
    return path


def _remove(path: Path) -> None:
    """Take a file out of the hub's cache: its name in the commit, and what that leads to."""
    leads_to = [path]
    while leads_to[-1].is_symlink():
        leads_to.append(leads_to[-1].parent / os.readlink(leads_to[-1]))
    try:
        for place in leads_to:
            place.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(
            f"{path}: is damaged and cannot be removed ({error.strerror}); have it removed, or set "
            "HF_HOME to another folder, then run again"
        ) from error


def _storage(kind: str, repo: str) -> Path:
    """Where the hub's cache keeps a repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind)


def _offline() -> bool:
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


# What went wrong

_ABSENT = (
    "is not in the hub's cache, and HF_HUB_OFFLINE is set; unset it and run snakemake fetch, where "
    "there is a network"
)
_NOT_A_HUB = "its answer is not that of a hub"
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def _sound(ask: Callable[[], _Found]) -> _Found:
    """Ask once more where an answer is none that a hub gives, as what stands between may send."""
    from huggingface_hub.errors import HFValidationError

    from sae_stitching.hub.patience import Unwell

    no_answers = (OSError, HFValidationError)  # an answer that says no, and a question that is none
    try:
        return ask()
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, no_answers):
            raise
        logger.warning("the hub's answer cannot be read (%s); asking again", error)
    try:
        return ask()
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, no_answers):
            raise
        raise Unwell(_NOT_A_HUB) from error


@contextmanager
def _worded(kind: str, repo: str, revision: str, path: str = "") -> Iterator[None]:
    """Be patient with the hub, and say in one line why it does not give what is asked for."""
    import httpx2
    from huggingface_hub.errors import HFValidationError

    from sae_stitching.hub.patience import Unwell, patient

    try:
        with patient():
            yield
    except (HFValidationError, OSError, Unwell, httpx2.HTTPError, httpx2.InvalidURL) as error:
        which = f"{repo} at {revision}" + (f": {path}" if path else "")
        raise _complaint(error, kind, repo, which) from error


def _complaint(error: Exception, kind: str, repo: str, which: str) -> StudyError:
    from huggingface_hub import constants, get_token
    from huggingface_hub import errors as hub

    from sae_stitching.hub.patience import Unwell, describe

    # The client wraps what it was told, in case a cache could do without it.
    wrapped = isinstance(error, hub.LocalEntryNotFoundError) and error.__cause__
    error = wrapped if isinstance(wrapped, Exception) else error
    number = getattr(error, "errno", None)
    if number in _DISK:
        return WriteError(
            f"{which}: the hub's cache {constants.HF_HUB_CACHE} cannot be written "
            f"({os.strerror(number)}); make room or set HF_HOME to another folder, then run again"
        )
    if isinstance(error, hub.LocalEntryNotFoundError | hub.OfflineModeIsEnabled):
        return StudyError(f"{which}: {_ABSENT}")
    if isinstance(error, hub.HFValidationError):
        return StudyError(f"{repo}: is no name of a repository on the hub; correct it")
    response = getattr(error, "response", None)
    if response is None:
        said = str(error) if isinstance(error, Unwell) else describe(error)[:200]
        if isinstance(error, hub.FileMetadataError):
            said = _NOT_A_HUB
        return StudyError(
            f"{which}: the hub {constants.ENDPOINT} does not give it ({said}); run again when it "
            "is well and can be reached"
        )
    status = response.status_code
    token, page = get_token() is not None, f"{constants.ENDPOINT}/{_page(kind, repo)}"
    log_in = "log in (hf auth login, or HF_TOKEN)"
    if isinstance(error, hub.GatedRepoError):
        remedy = (
            f"the account of your token is not let in (HTTP {status}); ask for access at {page}"
            if token
            else f"is gated (HTTP {status}); accept its terms at {page} and {log_in}"
        )
    elif isinstance(error, hub.DisabledRepoError):
        remedy = f"the hub has closed this repository (HTTP {status}); name another"
    elif isinstance(error, hub.RevisionNotFoundError):
        remedy = (
            f"the repository has no such commit, branch or tag (HTTP {status}), or no longer; "
            "correct revision"
        )
    elif isinstance(error, hub.EntryNotFoundError):
        remedy = f"the commit has no such file (HTTP {status}); correct the path"
    elif status == 401 and token:
        # With a token that it knows, the hub answers 404 or 403.
        remedy = (
            "the hub does not accept your token (HTTP 401), which may have expired; renew it (hf "
            "auth login, or HF_TOKEN)"
        )
    elif isinstance(error, hub.RepositoryNotFoundError):
        remedy = f"the hub has no such repository, or it is private (HTTP {status}); correct " + (
            "the name, or use the token of an account that may read it"
            if token
            else f"the name, or {log_in}"
        )
    elif str(response.url.host) not in constants.ENDPOINT:
        remedy = f"its storage {response.url.host} refuses it (HTTP {status}); run again"
    elif status == 403 and token:
        remedy = (
            "your token may not read this (HTTP 403); give it the right to, at "
            f"{constants.ENDPOINT}/settings/tokens"
        )
    elif status in (401, 403):
        remedy = f"the hub asks who wants it (HTTP {status}); {log_in}"
    else:
        reason = getattr(response, "reason_phrase", "")
        remedy = f"the hub refuses it (HTTP {status} {reason}); is HF_ENDPOINT right?"
    return StudyError(f"{which}: {remedy}")


def _page(kind: str, repo: str) -> str:
    return repo if kind == "model" else f"{kind}s/{repo}"
