"""The order in which files of tests are begun, their threads, and their hub."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

pytest.register_assert_rewrite("helpers")

from helpers.loopback_hub import MEMBER, STRANGER, Hub, running  # noqa: E402, the line above is first

pytest_plugins = ["helpers.hub_patience", "helpers.package_index", "helpers.small_disk"]

# Tests and the jobs of the workflow share the cores: threads that wait must sleep, as in job.py,
# and what is computed in the tests themselves is too small for more than one. To be said before
# torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Runs of the workflow in folders of their own need not each compile the same functions.
os.environ.setdefault(
    "NUMBA_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "numba")
)

# Files that are begun first, the costliest before the others: with two processes (make test) what
# is left in the end is short. The very first makes the run that most tests of the workflow share.
FIRST = (
    "workflow/test_results.py",
    "workflow/test_presets.py",
    "workflow/test_stale.py",
    "workflow/test_hub_workflow.py",
    "workflow/test_own_code.py",
    "workflow/test_places.py",
    "workflow/test_pretrained.py",
    "workflow/test_interrupted.py",
    "config/test_config_reach.py",
    "saes/test_resume.py",
    "explorer/test_page.py",
)
# What make test-quick leaves out, beside single tests that are marked so where they stand.
SLOW = (
    "workflow",
    "project",
    "hub",
    "formats/test_hub_folders.py",
    "explorer/test_page.py",
    "activations/test_language_model.py",
    "text/test_hub_dataset.py",
    "text/test_sources.py",
    "tables/test_degenerate.py",
)


def pytest_configure() -> None:
    import torch

    torch.set_num_threads(1)


def pytest_unconfigure() -> None:
    _STACK.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = [Path(__file__).parent / name for name in SLOW]
    for item in items:
        if any(path in (item.path, *item.path.parents) for path in slow):
            item.add_marker(pytest.mark.slow)
    places = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
    assert all(path.exists() for path in (*slow, *places)), "a file above has another name"
    items.sort(key=lambda item: places.get(item.path, len(places)))


# The hub of all tests, and of the workflows that they run, is on this machine, and its client's
# cache and token are not this machine's. The client's libraries read this when they are loaded.

_STACK = ExitStack()


def _isolated_hub(stack: ExitStack) -> Hub:
    for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))]:
        del os.environ[name]
    hub = stack.enter_context(running())
    os.environ["HF_ENDPOINT"] = hub.url
    os.environ["HF_HOME"] = stack.enter_context(TemporaryDirectory(prefix="hub-"))
    # Also where there is a proxy.
    os.environ["NO_PROXY"] = f"127.0.0.1,localhost,{os.environ.get('NO_PROXY', '')}"
    # What is only waiting is short, also where it is not the study's code that waits.
    os.environ["HF_XET_CLIENT_RETRY_BASE_DELAY"] = "10ms"
    os.environ["HF_XET_CLIENT_RETRY_MAX_ATTEMPTS"] = "2"
    os.environ["HF_XET_CLIENT_READ_TIMEOUT"] = "700ms"
    return hub


_HUB = _isolated_hub(_STACK)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Give the hub, empty, of which its client has nothing yet."""
    from huggingface_hub import _tree_cache
    from huggingface_hub.utils import _xet

    hub = _HUB
    hub.clear()
    home = Path(os.environ["HF_HOME"])
    for path in home.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # What a new process would not know either.
    _xet.XET_CONNECTION_INFO_CACHE.clear()
    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    yield hub
    hub.heal()
    assert hub.errors == []
    # The token is for the hub alone: not for the hosts that it sends its client to.
    assert [
        r for r in hub.requests if r.token in (MEMBER, STRANGER) and r.host not in hub.url
    ] == []
    hub.clear()
