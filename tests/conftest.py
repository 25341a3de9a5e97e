"""The order in which files of tests are begun."""

from pathlib import Path

import pytest

# Files that run studies from nothing. With two processes (make test) one takes the longest of them
# at once, and the other begins with the quick files; the rest of the long ones come last.
LONGEST = "test_workflow.py"
LONG = ("test_presets.py", "test_faults.py", "test_explorer_page.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        name = Path(str(item.fspath)).name
        return -1 if name == LONGEST else 1 + LONG.index(name) if name in LONG else 0

    items.sort(key=place)
