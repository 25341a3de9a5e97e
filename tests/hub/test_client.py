"""What is fetched of the hub, what may go wrong, what is said then, and what stays behind.

The library talks to the hub of loopback_hub.py as to the real one, by HTTP and by Xet. Waits
between tries are noted, and not waited for.
"""

import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import certifi
import numpy as np
import pytest
from helpers.checkout import SCRIPTS
from helpers.loopback_hub import EXPIRED, MEMBER, STRANGER, Hub
from huggingface_hub import constants
from sae_stitching.base.errors import StudyError
from sae_stitching.hub import patience
from sae_stitching.hub.client import (
    Commit,
    fetch_file,
    list_files,
    read_commit,
    resolve,
    write_commit,
)

pytestmark = pytest.mark.usefixtures("waits")

REPO, FOLDER = "somebody/saes", "768"
SMALL, LARGE = f"{FOLDER}/cfg.json", f"{FOLDER}/sae_weights.safetensors"
FILES = {SMALL: b'{"d_in": 3, "d_sae": 5}', LARGE: np.random.default_rng(0).bytes(200_000)}
OTHERS = {SMALL: b'{"d_in": 3, "d_sae": 6}', LARGE: np.random.default_rng(1).bytes(200_000)}
UNKNOWN = "0123456789" * 4

# Each kind of request, as a fault names it.
COMMIT = "GET /api/models/somebody/saes/revision/"
LISTING = "GET /api/models/somebody/saes/tree/"
ASK_SMALL, ASK_LARGE = f"HEAD /{REPO}/resolve/.*json", f"HEAD /{REPO}/resolve/.*tensors"
GET_SMALL, GET_LARGE = "GET /api/resolve-cache/", "GET /-/cdn/"
XET_TOKEN, XET_PLAN, XET_BYTES = "xet-read-token", "/reconstructions/", "GET /-/xet/xorbs/"


@pytest.fixture
def saes(hub, tmp_path, monkeypatch) -> Hub:
    """A repository with one SAE."""
    # One certificate is read instead of all, which takes longer than everything else here.
    end = "-----END CERTIFICATE-----\n"
    first = Path(certifi.where()).read_text(encoding="utf-8").partition(end)
    (tmp_path / "one.pem").write_text(first[0] + end, encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "one.pem"))
    hub.repository(REPO).commit(FILES)
    return hub


@pytest.fixture
def hasty(monkeypatch) -> None:
    """Give up a connection soon where nothing comes."""
    monkeypatch.setattr(patience, "STALL", 0.6)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.6)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.6)


def fetched(revision: str = "main", repo: str = REPO) -> dict[str, bytes]:
    """Fetch the SAE as a study does: its commit, what there is, and the files."""
    commit = resolve("model", repo, revision)
    listed = list_files(commit, FOLDER)
    return {path: fetch_file(commit, file).read_bytes() for path, file in listed.items()}


def complaint(revision: str = "main", repo: str = REPO) -> str:
    with pytest.raises(StudyError) as caught:
        fetched(revision, repo)
    return str(caught.value)


def cache() -> Path:
    return Path(os.environ["HF_HOME"], "hub")


def assert_cache_is_true(n_files: int | None = None) -> None:
    """What the cache holds is what its names say, whole, and it remembers no absence."""
    blobs = [path for path in cache().glob("**/blobs/**/*") if path.is_file()]
    for path in blobs:
        if path.suffix not in (".lock", ".refs") and path.name[0] != ".":
            content = path.read_bytes()
            whole = hashlib.sha256(content).hexdigest()
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            assert path.name in (whole, git)
    named = [path for path in cache().glob("*/snapshots/**/*") if not path.is_dir()]
    assert all(path.is_file() for path in named)
    if n_files is not None:
        assert len(named) == n_files
    assert not any(path.is_file() for path in cache().glob("*/.no_exist/**/*"))


# What passes


@dataclass
class Case:
    """A fault of some requests, and what is said of it."""

    match: str
    do: str
    how: dict[str, Any] = field(default_factory=dict)
    says: str = ""
    waits: list[float] | None = None


PASSING = {
    "commit, 500": Case(COMMIT, "status", {"status": 500}, "HTTP 500 Internal Server Error"),
    "commit, 502": Case(COMMIT, "status", {"status": 502}, "HTTP 502 Bad Gateway"),
    "commit, 503": Case(COMMIT, "status", {"status": 503}, "HTTP 503 Service Unavailable"),
    "commit, 504": Case(COMMIT, "status", {"status": 504}, "HTTP 504 Gateway Timeout"),
    "commit, 408": Case(COMMIT, "status", {"status": 408}, "HTTP 408 Request Timeout"),
    "commit, 429": Case(COMMIT, "status", {"status": 429}, "HTTP 429 Too Many Requests"),
    "commit, reset": Case(COMMIT, "reset", {}, "ReadError: [Errno 104] Connection reset by peer"),
    "commit, dropped": Case(COMMIT, "drop", {}, "RemoteProtocolError: Server disconnected"),
    "commit, dropped within": Case(COMMIT, "drop", {"after": 9}, "RemoteProtocolError: peer"),
    "listing, 503": Case(LISTING, "status", {"status": 503}, "HTTP 503 Service Unavailable"),
    "listing, reset": Case(LISTING, "reset", {}, "ReadError: [Errno 104] Connection reset by peer"),
    "listing, dropped within": Case(LISTING, "drop", {"after": 9}, "RemoteProtocolError: peer"),
    "where a small file is, 500": Case(ASK_SMALL, "status", {"status": 500}, "HTTP 500 Internal"),
    "where a large file is, 504": Case(ASK_LARGE, "status", {"status": 504}, "HTTP 504 Gateway"),
    "where a large file is, reset": Case(ASK_LARGE, "reset", {}, "ReadError: [Errno 104]"),
    "a small file, 503": Case(GET_SMALL, "status", {"status": 503}, "HTTP 503 Service Unavailable"),
    "a small file, reset": Case(GET_SMALL, "reset", {"after": 0}, "ReadError: [Errno 104]"),
    "a small file, dropped at its end": Case(GET_SMALL, "drop", {"after": 22}, "RemoteProtocol"),
    "a large file, 429": Case(GET_LARGE, "status", {"status": 429}, "HTTP 429 Too Many Requests"),
    "a large file, 500": Case(GET_LARGE, "status", {"status": 500}, "HTTP 500 Internal"),
    "a large file, reset at once": Case(GET_LARGE, "reset", {}, "ReadError: [Errno 104]"),
    "a large file, reset after headers": Case(GET_LARGE, "reset", {"after": 0}, "ReadError: "),
    "a large file, reset at its first byte": Case(GET_LARGE, "reset", {"after": 1}, "ReadError: "),
    "a large file, reset midway": Case(GET_LARGE, "reset", {"after": 99_999}, "ReadError: [Errno"),
    "a large file, dropped midway": Case(GET_LARGE, "drop", {"after": 99_999}, "RemoteProto"),
    "a large file, dropped at its end": Case(GET_LARGE, "drop", {"after": 199_999}, "RemoteProto"),
    "Xet's token, 503": Case(XET_TOKEN, "status", {"status": 503}, "HTTP 503 Service Unavailable"),
    "Xet's token, reset": Case(XET_TOKEN, "reset", {}, "ReadError: [Errno 104]"),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSING)
def test_what_passes_is_waited_for(saes, waits, caplog, case):
    what = PASSING[case]
    times = 1 + list(PASSING).index(case) % 2
    saes.xet = "Xet" in case
    saes.fault(what.match, what.do, times=times, **what.how)
    with caplog.at_level(logging.INFO, "sae_stitching"):
        assert fetched() == FILES
    # A download goes on where it broke, and is then already past the place of the second fault.
    assert waits in ([1.0], [1.0, 2.0]) if "after" in what.how else waits == [1.0, 2.0][:times]
    said = [line for line in caplog.messages if "trying again" in line]
    assert len(said) == len(waits)
    assert what.says in said[0] and said[0].endswith("trying again in 1 s")
    assert saes.url in said[0] or saes.elsewhere in said[0]
    assert "signature" not in caplog.text and "\n" not in said[0]
    assert_cache_is_true(2)


@pytest.mark.parametrize("case", ["drop", "reset"])
def test_a_download_goes_on_where_it_broke(saes, case):
    saes.fault(GET_LARGE, case, after=50_000, times=1)
    assert fetched() == FILES
    first, second = (r for r in saes.requests if re.search(GET_LARGE, str(r)))
    assert first.sent == 50_000
    # What a reset destroys on the way is asked for again.
    assert second.status == 206 and 150_000 <= second.sent <= 200_000


@pytest.mark.parametrize("do", ["drop", "reset"])
def test_a_file_that_the_hub_would_pack_goes_on_too(saes, waits, do):
    saes.packs = True
    saes.fault(GET_SMALL, do, after=10, times=2)
    assert fetched() == FILES
    assert len(waits) in (1, 2)
    assert_cache_is_true(2)


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 1.0),
        ({"Retry-After": "soon"}, 1.0),
        ({"RateLimit": '"api";r=0;t=55'}, 56.0),
    ],
)
@pytest.mark.parametrize("match", [COMMIT, LISTING, ASK_LARGE, GET_LARGE])
def test_the_hub_says_how_long_to_wait(saes, waits, headers, waited, match):
    saes.fault(match, "status", status=429, headers=headers, times=1)
    assert fetched() == FILES
    assert waits == [waited]


def test_the_hub_says_until_when_to_wait(saes, waits):
    until = formatdate(time.time() + 20, usegmt=True)
    saes.fault(COMMIT, "status", status=503, headers={"Retry-After": until}, times=1)
    assert fetched() == FILES
    assert 15 <= waits[0] <= 20


def test_a_wait_of_an_hour_is_for_people(saes, waits):
    saes.fault(COMMIT, "status", status=429, headers={"Retry-After": "3600"})
    assert complaint() == (
        f"{REPO} at main: the hub {saes.url} does not give it (HTTP 429 Too Many Requests, and "
        "asks to wait 3600 seconds); run again when it is well and can be reached"
    )
    assert waits == []


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("match", [COMMIT, LISTING, ASK_LARGE, GET_SMALL, GET_LARGE])
@pytest.mark.parametrize("after", [None, 10])
def test_a_hub_that_falls_silent_is_asked_again(saes, match, after):
    if after and "HEAD" in match:
        return  # has no body to fall silent in
    saes.fault(match, "stall", after=after, times=1)
    assert fetched() == FILES
    assert_cache_is_true(2)


def test_slow_is_not_silent(saes, waits):
    saes.fault("", "trickle", rate=400_000)
    assert fetched() == FILES
    assert waits == []


# By Xet

BY_XET = {
    "a plan, 401": Case(XET_PLAN, "status", {"status": 401}),
    "a plan, 404": Case(XET_PLAN, "status", {"status": 404}),
    "a plan, 503": Case(XET_PLAN, "status", {"status": 503}),
    "a plan, reset": Case(XET_PLAN, "reset"),
    "a plan, dropped within": Case(XET_PLAN, "drop", {"after": 20}),
    "a plan that is none": Case(XET_PLAN, "status", {"status": 200, "body": b"<html>"}),
    "a plan, silence": Case(XET_PLAN, "stall"),
    "bytes, silence": Case(XET_BYTES, "stall"),
    "bytes, silence midway": Case(XET_BYTES, "stall", {"after": 99_999}),
    "bytes, 403": Case(XET_BYTES, "status", {"status": 403}),
    "bytes, 500": Case(XET_BYTES, "status", {"status": 500}),
    "bytes, reset": Case(XET_BYTES, "reset"),
    "bytes, reset midway": Case(XET_BYTES, "reset", {"after": 99_999}),
    "bytes, dropped at their end": Case(XET_BYTES, "drop", {"after": 200_020}),
    "bytes, cut short": Case(XET_BYTES, "cut", {"after": 99_999}),
    "bytes, one wrong": Case(XET_BYTES, "flip", {"after": 150_000}),
    "bytes, one wrong in a header": Case(XET_BYTES, "flip", {"after": 1}),
}


@pytest.mark.parametrize("case", BY_XET)
@pytest.mark.parametrize("times", [1, None])
def test_what_does_not_come_by_xet_comes_plainly(saes, case, times):
    what = BY_XET[case]
    saes.xet = True
    saes.fault(what.match, what.do, times=times, **what.how)
    assert fetched() == FILES
    assert_cache_is_true(2)
    if times is None:
        assert len(saes.asked(GET_LARGE)) == 1
        assert fetched() == FILES
        assert len(saes.asked(GET_LARGE)) == 1


def test_by_xet_nothing_is_asked_plainly(saes):
    saes.xet = True
    assert fetched() == FILES
    assert not saes.asked(GET_LARGE) and len(saes.asked(XET_BYTES)) == 1


# What lasts

_UNWELL = (
    "the hub {hub} does not give it ({said}, 3 times); run again when it is well and can be reached"
)
_SMALL, _LARGE = f"{REPO} at {{commit}}: {SMALL}", f"{REPO} at {{commit}}: {LARGE}"
_LOG_IN = "log in (hf auth login, or HF_TOKEN)"
_RESET = "ReadError: [Errno 104] Connection reset by peer"
LASTING = {
    **{
        f"{name}, {said}": Case(match, do, how, f"{which}: {_UNWELL.replace('{said}', said)}")
        for name, match, which in (
            ("commit", COMMIT, f"{REPO} at main"),
            ("listing", LISTING, f"{REPO} at {{commit}}"),
            ("where a small file is", ASK_SMALL, _SMALL),
            ("where a large file is", ASK_LARGE, _LARGE),
            ("a small file", GET_SMALL, _SMALL),
            ("a large file", GET_LARGE, _LARGE),
            ("Xet's token", XET_TOKEN, _LARGE),
        )
        for do, how, said in (
            ("status", {"status": 500}, "HTTP 500 Internal Server Error"),
            ("status", {"status": 503}, "HTTP 503 Service Unavailable"),
            ("status", {"status": 429}, "HTTP 429 Too Many Requests"),
            ("reset", {}, _RESET),
            ("drop", {}, "RemoteProtocolError: Server disconnected without sending a response."),
        )
    },
    **{
        f"{name}, not of a hub": Case(
            match,
            "status",
            {"status": 200, "body": b"<html>Log in to the hotel's network</html>"},
            f"{which}: the hub {{hub}} does not give it (its answer is not that of a hub); run "
            "again when it is well and can be reached",
        )
        for name, match, which in (
            ("commit", COMMIT, f"{REPO} at main"),
            ("listing", LISTING, f"{REPO} at {{commit}}"),
            ("where a small file is", ASK_SMALL, _SMALL),
            ("where a large file is", ASK_LARGE, _LARGE),
        )
    },
    **{
        f"{name}, {status}": Case(match, "status", {"status": status}, f"{which}: {remedy}")
        for name, match, which in (
            ("commit", COMMIT, f"{REPO} at main"),
            ("listing", LISTING, f"{REPO} at {{commit}}"),
            ("where a large file is", ASK_LARGE, _LARGE),
        )
        for status, remedy in (
            (401, f"the hub asks who wants it (HTTP 401); {_LOG_IN}"),
            (403, f"the hub asks who wants it (HTTP 403); {_LOG_IN}"),
            (404, "the hub refuses it (HTTP 404 Not Found); is HF_ENDPOINT right?"),
        )
    },
    **{
        f"a large file, {status}": Case(
            GET_LARGE,
            "status",
            {"status": status},
            f"{_LARGE}: its storage localhost refuses it (HTTP {status}); run again",
        )
        for status in (401, 403, 404)
    },
    **{
        f"a large file, {name}": Case(
            GET_LARGE,
            do,
            how,
            f"{_LARGE}: came damaged twice: {found} bytes, the hub says 200,000; nothing of it was "
            "kept, run again, and if it stays so tell those who look after the repository or the "
            "network",
        )
        for name, do, how, found in (
            ("cut short", "cut", {"after": 100_000}, "100,000"),
            ("empty", "cut", {"after": 0}, "0"),
            ("another page", "status", {"status": 200, "body": b"<html>"}, "6"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("case", LASTING)
def test_what_lasts_is_said_in_one_line(saes, case):
    what = LASTING[case]
    saes.xet = "Xet" in case
    saes.fault(what.match, what.do, **what.how)
    commit = saes.repository(REPO).branches["main"]
    assert complaint() == what.says.format(hub=saes.url, commit=commit)
    assert_cache_is_true()
    saes.heal()
    assert fetched() == FILES
    assert_cache_is_true(2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("match", [COMMIT, GET_LARGE])
def test_a_hub_that_stays_silent(saes, match):
    saes.fault(match, "stall")
    which = {COMMIT: "main", GET_LARGE: f"{saes.repository(REPO).branches['main']}: {LARGE}"}
    assert complaint() == (
        f"{REPO} at {which[match]}: the hub {saes.url} does not give it (ReadTimeout: timed out, 3 "
        "times); run again when it is well and can be reached"
    )
    assert_cache_is_true()
    saes.heal()
    assert fetched() == FILES


def test_a_hub_that_is_gone_and_comes_back(saes):
    with saes.gone():
        assert complaint() == (
            f"{REPO} at main: the hub {saes.url} does not give it (ConnectError: [Errno 111] "
            "Connection refused, 3 times); run again when it is well and can be reached"
        )
    assert fetched() == FILES


# Who may read what

ACCESS = {
    "gated, nobody": ("gated", "", "main", f"{REPO} at {{commit}}: is gated (HTTP 401); accept its "
        f"terms at {{hub}}/{REPO} and log in (hf auth login, or HF_TOKEN)"),
    "gated, a stranger": ("gated", STRANGER, "main", f"{REPO} at {{commit}}: the account of your "
        f"token is not let in (HTTP 403); ask for access at {{hub}}/{REPO}"),
    "private, nobody": ("private", "", "main", f"{REPO} at main: the hub has no such repository, "
        "or it is private (HTTP 401); correct the name, or log in (hf auth login, or HF_TOKEN)"),
    "private, a stranger": ("private", STRANGER, "main", f"{REPO} at main: the hub has no such "
        "repository, or it is private (HTTP 404); correct the name, or use the token of an account "
        "that may read it"),
    "an expired token": ("public", EXPIRED, "main", f"{REPO} at main: the hub does not accept your "
        "token (HTTP 401), which may have expired; renew it (hf auth login, or HF_TOKEN)"),
    "no token at all": ("public", "hf_mistyped", "main", f"{REPO} at main: the hub does not accept "
        "your token (HTTP 401), which may have expired; renew it (hf auth login, or HF_TOKEN)"),
    "no such branch": ("public", "", "trunk", f"{REPO} at trunk: the repository has no such "
        "commit, branch or tag (HTTP 404), or no longer; correct revision"),
    "no such commit": ("public", "", UNKNOWN, f"{REPO} at {UNKNOWN}: the repository has no such "
        "commit, branch or tag (HTTP 404), or no longer; correct revision"),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCESS)
def test_who_may_not_read_is_told_why(saes, monkeypatch, case):
    access, token, revision, says = ACCESS[case]
    repository = saes.repository(REPO)
    repository.access = access
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    says = says.format(hub=saes.url, commit=repository.branches["main"])
    assert complaint(revision) == says
    assert token not in says or not token
    assert_cache_is_true(0)
    # The member's token, or a commit that is pushed after all.
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    repository.commit(FILES, revision if revision == UNKNOWN else None, branch="trunk")
    assert fetched(revision) == FILES
    assert_cache_is_true(2)


def test_a_repository_that_is_not_there(hub):
    says = f"{REPO} at main: the hub has no such repository, or it is private (HTTP 401); correct "
    assert complaint() == says + "the name, or log in (hf auth login, or HF_TOKEN)"
    hub.repository(REPO).commit(FILES)
    assert fetched() == FILES


@pytest.mark.parametrize("name", ["some body/saes", "a/b/c", "--/x"])
def test_a_name_that_is_none(hub, name):
    assert complaint(repo=name) == f"{name}: is no name of a repository on the hub; correct it"
    assert hub.requests == []


def test_a_repository_that_is_closed_between_two_files(saes, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", STRANGER)
    commit = resolve("model", REPO, "main")
    listed = list_files(commit, FOLDER)
    assert fetch_file(commit, listed[SMALL]).read_bytes() == FILES[SMALL]
    saes.repository(REPO).access = "gated"
    with pytest.raises(
        StudyError, match=f"^{commit}: {LARGE}: the account of your token is not let"
    ):
        fetch_file(commit, listed[LARGE])
    assert_cache_is_true(1)


def test_a_renamed_repository_is_found_under_its_old_name(saes):
    saes.renamed["somebody/old"] = REPO
    assert fetched(repo="somebody/old") == FILES


def test_a_file_that_is_uploaded_after_a_first_failure_is_found(saes):
    saes.repository(REPO).commit({"README.md": b"SAEs to come.\n"})
    assert fetched() == {}
    saes.repository(REPO).commit(FILES)
    assert fetched() == FILES


def test_a_commit_that_vanishes_between_two_files(saes):
    commit = resolve("model", REPO, "main")
    listed = list_files(commit, FOLDER)
    fetch_file(commit, listed[SMALL])
    del saes.repository(REPO).commits[commit.commit]
    with pytest.raises(StudyError) as caught:
        fetch_file(commit, listed[LARGE])
    assert str(caught.value) == (
        f"{commit}: {LARGE}: the repository has no such commit, branch or tag (HTTP 404), or no "
        "longer; correct revision"
    )
    # What is here is still good.
    assert fetch_file(commit, listed[SMALL]).read_bytes() == FILES[SMALL]


# Names that move


def test_a_branch_that_moves_and_a_tag(saes):
    old = resolve("model", REPO, "main")
    saes.repository(REPO).tags["v1"] = old.commit
    saes.repository(REPO).commit(OTHERS)
    # The commit stays what it was, whatever the branch is by now.
    listed = list_files(old, FOLDER)
    assert fetch_file(old, listed[LARGE]).read_bytes() == FILES[LARGE]
    assert resolve("model", REPO, "main").commit != old.commit
    assert fetched() == OTHERS and fetched("v1") == FILES and fetched(old.commit) == FILES


def test_what_was_found_is_written_down(saes, tmp_path):
    path = tmp_path / "commits" / "saes.json"
    commit = resolve("model", REPO, "main")
    write_commit(commit, path)
    assert read_commit(path) == commit
    # The same again leaves the file as it is, so that nothing is made anew.
    os.utime(path, (1, 1))
    write_commit(resolve("model", REPO, "main"), path)
    assert path.stat().st_mtime == 1
    saes.repository(REPO).commit(OTHERS)
    write_commit(resolve("model", REPO, "main"), path)
    assert read_commit(path) == resolve("model", REPO, "main") != commit


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "[Errno 2] No such file or directory: '{path}'"),
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[]", "sae_stitching.hub.client.Commit() argument after ** must be a mapping, not list"),
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ],
)
def test_what_does_not_say_a_commit(tmp_path, content, why):
    path = tmp_path / "saes.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StudyError) as caught:
        read_commit(path)
    assert str(caught.value) == (
        f"{path}: does not say a commit ({why.format(path=path)}); run snakemake --forceall resolve"
    )
    # Which does.
    commit = Commit("model", REPO, REPO, "main", UNKNOWN)
    write_commit(commit, path)
    assert read_commit(path) == commit


def test_of_a_commit_nothing_is_asked(hub):
    assert resolve("model", REPO, UNKNOWN).commit == UNKNOWN
    assert hub.requests == []


def test_a_branch_with_a_slash(saes):
    saes.repository(REPO).commit(OTHERS, branch="refs/pr/4")
    assert fetched("refs/pr/4") == OTHERS and fetched() == FILES


# Bytes that are not those of the hub


def sums(content: bytes) -> tuple[str, str]:
    return "SHA-256", hashlib.sha256(content).hexdigest()


def git_sums(content: bytes) -> tuple[str, str]:
    return "git's SHA-1", hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    ("path", "match", "at", "summed"),
    [
        (SMALL, GET_SMALL, 3, git_sums),
        (LARGE, GET_LARGE, 0, sums),
        (LARGE, GET_LARGE, 199_999, sums),
    ],
)
def test_one_wrong_byte_is_found(saes, path, match, at, summed: Callable, times):
    saes.fault(match, "flip", after=at, times=times)
    if times == 1:
        assert fetched() == FILES
    else:
        (name, found), (_, right) = summed(flipped(FILES[path], at)), summed(FILES[path])
        commit = saes.repository(REPO).branches["main"]
        assert complaint() == (
            f"{REPO} at {commit}: {path}: came damaged twice: {name} is {found}, the hub says "
            f"{right}; nothing of it was kept, run again, and if it stays so tell those who look "
            "after the repository or the network"
        )
        assert len(saes.asked(match)) == 2
        assert_cache_is_true()
        assert fetched() == FILES
    assert_cache_is_true(2)


@pytest.mark.parametrize("where", ["named", "shared"])
@pytest.mark.parametrize("damage", ["one bit", "cut short", "empty", "longer"])
def test_what_the_cache_has_is_checked_too(saes, where, damage):
    saes.xet = where == "shared"  # the file lies in the cache once for all repositories then
    assert fetched() == FILES
    n_asked = len(saes.requests)
    (path,) = cache().glob(f"models--*/snapshots/*/{LARGE}")
    changed = {
        "one bit": flipped(FILES[LARGE], 77_777),
        "cut short": FILES[LARGE][:99_999],
        "empty": b"",
        "longer": FILES[LARGE] + b"\0",
    }
    path.resolve().chmod(0o644)
    path.resolve().write_bytes(changed[damage])
    assert fetched() == FILES
    assert_cache_is_true(2)
    # Fetched anew is the one that was damaged.
    asked = [str(request) for request in saes.requests[n_asked:]]
    assert not any(re.search(GET_SMALL, request) for request in asked)
    assert sum(bool(re.search(f"{GET_LARGE}|{XET_BYTES}", request)) for request in asked) == 1


@pytest.mark.usefixtures("saes")
def test_a_link_that_leads_nowhere_is_fetched_anew():
    assert fetched() == FILES
    (path,) = cache().glob(f"models--*/snapshots/*/{LARGE}")
    path.resolve().unlink()
    assert fetched() == FILES
    assert_cache_is_true(2)


def test_a_second_repository_does_not_take_over_a_damaged_file(saes):
    saes.xet = True
    saes.repository("somebody/copy").commit(FILES)
    assert fetched() == FILES
    (path,) = cache().glob(f"models--*/snapshots/*/{LARGE}")
    path.resolve().chmod(0o644)
    path.resolve().write_bytes(flipped(FILES[LARGE], 5))
    assert fetched(repo="somebody/copy") == FILES
    assert fetched() == FILES
    assert_cache_is_true(4)


def test_a_pointer_is_not_the_file(saes):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    commit = saes.repository(REPO).commit({LARGE: pointer})
    assert complaint() == (
        f"{REPO} at {commit}: {LARGE}: is a Git LFS pointer, the file itself was never uploaded; "
        "name another revision, or tell those who look after the repository"
    )


def test_a_listing_in_pages(saes):
    saes.page = 1
    files = {f"{FOLDER}/{n}/cfg.json": b"%d" % n for n in range(5)}
    saes.repository(REPO).commit(files)
    commit = resolve("model", REPO, "main")
    assert list(list_files(commit, recursive=True)) == list(files)
    saes.fault("cursor=3", "status", status=503, times=1)
    assert list(list_files(commit, FOLDER, recursive=True)) == list(files)


# What is asked


def test_each_thing_is_asked_for_once_and_not_again(saes):
    assert fetched() == FILES
    assert [len(saes.asked(match)) for match in (COMMIT, LISTING, GET_SMALL, GET_LARGE)] == [1] * 4
    saes.requests.clear()
    assert fetched() == FILES
    # The names alone: what they mean now, and which files there are.
    assert len(saes.requests) == 2 and all(re.search("revision|tree", r) for r in saes.asked())


@pytest.mark.parametrize("xet", [False, True])
def test_the_token_is_for_the_hub_alone(saes, monkeypatch, caplog, xet):
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    saes.repository(REPO).access = "private"
    saes.xet = xet
    for match in (COMMIT, LISTING, ASK_LARGE, GET_LARGE, XET_BYTES):
        saes.fault(match, "reset", times=1)
    with caplog.at_level(logging.DEBUG):
        assert fetched() == FILES
        saes.fault(COMMIT, "status", status=500)
        assert MEMBER not in complaint()
    assert MEMBER not in caplog.text
    # Sent to the hub with each request, and nowhere else.
    for request in saes.requests:
        if request.host in saes.url:
            assert request.token == MEMBER
        else:
            assert request.token != MEMBER
    assert any(request.host not in saes.url for request in saes.requests)
    written = [path for path in Path(os.environ["HF_HOME"]).rglob("*") if path.is_file()]
    assert not any(MEMBER.encode() in path.read_bytes() for path in written)


@pytest.mark.parametrize("match", [COMMIT, LISTING, GET_SMALL])
def test_the_token_does_not_follow_to_another_host(saes, monkeypatch, match):
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    (path,) = {str(r).split()[1] for r in asked_by(saes, match)}
    saes.fault(match, "status", status=307, headers={"Location": saes.elsewhere + path}, times=1)
    assert fetched() == FILES
    (followed,) = (r for r in saes.requests if r.host not in saes.url and r.path == path)
    assert followed.token == ""


def asked_by(saes: Hub, match: str) -> list:
    """Requests of a kind that a fetch makes, whose traces are removed."""
    assert fetched() == FILES
    found = [request for request in saes.requests if re.search(match, str(request))]
    saes.requests.clear()
    shutil.rmtree(cache())
    return found


def test_offline_nothing_is_asked(saes, monkeypatch):
    assert fetched() == FILES
    saes.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetched() == FILES
    (path,) = cache().glob(f"models--*/snapshots/*/{LARGE}")
    path.resolve().chmod(0o644)
    path.resolve().write_bytes(flipped(FILES[LARGE], 5))
    commit = saes.repository(REPO).branches["main"]
    (name, found), (_, right) = sums(flipped(FILES[LARGE], 5)), sums(FILES[LARGE])
    assert complaint() == (
        f"{REPO} at {commit}: {LARGE}: the hub's cache had it damaged ({name} is {found}, the hub "
        f"says {right}); unset HF_HUB_OFFLINE and run snakemake fetch"
    )
    assert_cache_is_true(1)
    assert saes.requests == []


# A process that ends

FETCH = f"""
import sys
sys.path.insert(0, sys.argv[1])
from sae_stitching.hub.client import fetch_file, list_files, resolve
commit = resolve("model", "{REPO}", "main")
for file in list_files(commit, "{FOLDER}").values():
    fetch_file(commit, file)
"""


@pytest.mark.parametrize("xet", [False, True])
def test_a_process_that_is_killed_midway_leaves_nothing_that_is_used(saes, xet):
    saes.xet = xet
    saes.fault(XET_BYTES if xet else GET_LARGE, "stall", after=100_000)
    with subprocess.Popen([sys.executable, "-c", FETCH, str(SCRIPTS)]) as process:
        for _ in range(600):
            if any(r.sent >= 100_000 for r in saes.requests):
                break
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    named = [path for path in cache().glob("*/snapshots/**/*") if path.is_file()]
    assert [path.name for path in named] == ["cfg.json"]
    saes.heal()
    assert fetched() == FILES
    assert_cache_is_true(2)


def test_two_processes_fetch_a_file_once(saes):
    saes.fault(GET_LARGE, "trickle", rate=400_000)
    command = [sys.executable, "-c", FETCH, str(SCRIPTS)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len(saes.asked(GET_LARGE)) == 1
    assert_cache_is_true(2)


@pytest.mark.filterwarnings("ignore:Not enough free disk space")
@pytest.mark.parametrize("xet", [False, True])
def test_a_full_disk_is_named(saes, small_disk, monkeypatch, xet):
    saes.xet = xet
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small_disk))
    commit = saes.repository(REPO).commit({SMALL: FILES[SMALL], LARGE: bytes(3_000_000)})
    assert complaint() == (
        f"{REPO} at {commit}: {LARGE}: the hub's cache {small_disk} cannot be written (No space "
        "left on device); make room or set HF_HOME to another folder, then run again"
    )
    left = [path.name for path in small_disk.rglob("*") if path.stat().st_size > 100_000]
    assert left == []
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert fetched()[LARGE] == bytes(3_000_000)


def test_a_cache_that_cannot_be_written_is_named(saes, small_disk, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small_disk))
    (small_disk / "models--others").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    commit = saes.repository(REPO).branches["main"]
    assert complaint() == (
        f"{REPO} at {commit}: {SMALL}: the hub's cache {small_disk} cannot be written (Read-only "
        "file system); make room or set HF_HOME to another folder, then run again"
    )
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert fetched() == FILES
    # What others have put there is read where it cannot be written.
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert fetched() == FILES


@pytest.mark.usefixtures("saes")
def test_a_damaged_file_in_a_cache_that_cannot_be_written(small_disk, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(small_disk))
    assert fetched() == FILES
    (path,) = small_disk.glob(f"models--*/snapshots/*/{LARGE}")
    path.resolve().write_bytes(flipped(FILES[LARGE], 5))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert complaint() == (
        f"{path}: is damaged and cannot be removed (Read-only file system); have it removed, or "
        "set HF_HOME to another folder, then run again"
    )
