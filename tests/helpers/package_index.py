"""A package index in a folder, with one wheel of one file: what pip fetches in tests."""

import hashlib
import os
import zipfile

import pytest

CONTENT = b"some data\n" * 1000
MEMBER = "pinned_data/data.bin"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Serve pip one wheel from a local folder, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "pinned_data-1.0.dist-info"
    with zipfile.ZipFile(folder / "pinned_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: pinned-data\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def pinned(**changes):
    source = {
        "kind": "mediawiki-dump",
        "package": "pinned-data",
        "version": "1.0",
        "member": MEMBER,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    return {**source, **changes}
