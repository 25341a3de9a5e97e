"""A package index in a folder, with one wheel of one file: what pip fetches in tests."""

import hashlib
import os
import zipfile

import pytest

CONTENT = b"some data\n" * 1000
MEMBER = "pinned_data/data.bin"


def write_wheel(folder, name, version, members):
    """Write a wheel that holds `members` by their paths."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in members.items():
            wheel.writestr(path, content)
        wheel.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def environment(folder):
    """Environment in which pip finds what lies in `folder`, and nothing else."""
    return {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Serve pip one wheel from a local folder, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_wheel(folder, "pinned_data", "1.0", {MEMBER: CONTENT})
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
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
