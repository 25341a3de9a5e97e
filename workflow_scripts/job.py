"""What every script of the workflow does around its one call of the library."""

import ctypes
import json
import logging
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Threads that wait must sleep, not spin: on a machine with anything else to do, spinning made
# caching and training up to seven times slower. Has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Freed memory is kept for the next array. By default glibc gives large blocks back at once, and
# fetching them again page by page costs more than most operations on them. (-3 and -1 are
# M_MMAP_THRESHOLD and M_TRIM_THRESHOLD; other C libraries have no mallopt.)
if hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(-3, 1 << 30)
    libc.mallopt(-1, (1 << 31) - 1)

_HERE = Path(__file__).resolve().parent
# Tests call what is here in a process of their own kind.
_is_script = hasattr(sys.modules["__main__"], "snakemake")
_kept = Path(".snakemake/code").absolute() if _is_script else None
_own = runpy.run_path(str(_HERE / "own_code.py"))["OwnCode"](_HERE, _kept)

if _is_script:
    # From here on the library comes from the folder of this file alone, and rules/common.smk has
    # seen to it that this file does.
    try:
        _own.install()
    except ImportError as error:
        sys.exit(f"error: {error}")

    # The folder leaves the path again: its scripts have names, such as pairs, by which other
    # libraries look for each other. What is started from here does not inherit it either.
    _first, _, _others = os.environ.get("PYTHONPATH", "").partition(os.pathsep)
    if os.path.realpath(_first) == str(_HERE):
        os.environ["PYTHONPATH"] = _others
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) != str(_HERE)]

    # Compiled functions are kept in the working directory, as is Matplotlib's list of fonts where
    # it has no other place: the library's folder and the home may be closed to writing. Has to be
    # said before these are loaded.
    _compiled = os.environ.get("NUMBA_CACHE_DIR") or os.path.abspath(".snakemake/numba")
    os.environ["NUMBA_CACHE_DIR"] = f"{_compiled}/{_own.compiled_hash()[:16]}"
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ.setdefault("MPLCONFIGDIR", os.path.abspath(".snakemake/matplotlib"))

from sae_stitching.base.errors import StudyError, WriteError
from sae_stitching.base.provenance import package_versions


@contextmanager
def job(snakemake: Any, *, network: bool = False) -> Iterator[dict[str, Any]]:
    """Log to the rule's log and to the terminal, fix the threads, and word errors for people.

    Yields the `study` and `provenance` that every HDF5 file of the study carries; the latter names
    the commits of the hub that the rule has among its inputs. An error ends the script with one
    line on the terminal and status 1; its traceback goes to the log. Without `network`, no library
    asks the hub for anything: what a study takes from it is there. The block is the last of a
    script: the process ends with it.
    """
    if not network:
        # Before the hub's client and the datasets library are imported, which read it once.
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    file, terminal = logging.FileHandler(log, mode="w"), logging.StreamHandler(sys.stderr)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    terminal.setFormatter(logging.Formatter("%(message)s"))
    # A traceback is for the log; the terminal shows its last line alone.
    terminal.addFilter(lambda record: not record.exc_info)
    # Of other libraries only warnings are wanted, and Python's own warnings in the log alone.
    logging.basicConfig(level=logging.WARNING, handlers=[file, terminal], force=True)
    logging.getLogger("sae_stitching").setLevel(logging.INFO)
    logging.captureWarnings(True)
    terminal.addFilter(lambda record: record.name != "py.warnings")
    settings = dict(snakemake.params.job)
    code = settings.pop("code", None)
    provenance = {
        "rule": snakemake.rule,
        "config": settings,
        "code": code,
        "versions": package_versions(),
    }
    try:
        if _is_script:
            _verify(snakemake, code)
        if commits := snakemake.input.get("commits"):
            provenance["hub"] = [json.loads(Path(path).read_text("utf-8")) for path in commits]
        _fix_threads(settings.get("threads"))
        yield {"study": settings.get("study"), "provenance": provenance}
        if _is_script:
            # Some modules are imported only when they are needed.
            _verify(snakemake)
    except Exception as error:
        logging.getLogger("sae_stitching").error("%s failed", snakemake.rule, exc_info=error)
        said = str(error) if isinstance(error, StudyError) else f"{type(error).__name__}: {error}"
        print(f"error in {snakemake.rule}: {' '.join(said.split())} (log: {log})", file=sys.stderr)
        if isinstance(error, WriteError):
            _leave(1)
        sys.exit(1)
    if _is_script:
        _leave(0)


def _leave(status: int) -> None:
    """End the process as it is: to take torch apart first, as Python does, takes half a second."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _verify(snakemake: Any, code: str | None = None) -> None:
    if not _HERE.samefile(snakemake.scriptdir):
        raise StudyError(
            f"{_HERE} comes before {os.path.realpath(snakemake.scriptdir)}, whose scripts this run "
            "is of, on Python's path; take it off"
        )
    # A rule may be another one with other settings, and so run that one's script.
    _own.verify(Path(str(sys.modules["__main__"].__file__)).stem, code)


def _fix_threads(threads: int | None) -> None:
    # The order of sums, and so the last bits of a result, follow the number of threads: it is
    # the rule's, whatever --cores happens to be.
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
