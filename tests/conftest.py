"""The order in which files of tests are begun, and their threads."""

import os
from pathlib import Path

import pytest

# Tests and the jobs of the workflow share the cores: threads that wait must sleep, as in job.py,
# and what is computed in the tests themselves is too small for more than one. To be said before
# torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Runs of the workflow in folders of their own need not each compile the same functions.
os.environ.setdefault(
    "NUMBA_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "numba")
)

# Files that run studies from nothing. With two processes (make test) one takes the longest of them
# at once, and the other begins with the quick files; the rest of the long ones come last.
LONGEST = "test_workflow.py"
LONG = ("test_presets.py", "test_faults.py", "test_explorer_page.py")


def pytest_configure() -> None:
    import torch

    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = item.path.name
        return -1 if name == LONGEST else int(name in LONG)

    items.sort(key=place)
