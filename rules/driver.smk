# Starting a run where an earlier one was killed, or where another one is going on.
#
# Snakemake's own locks outlive a run that was killed, and a run that ends removes those of all
# others in its folder. The lock here is the kernel's: it is held for as long as the process lives,
# and nobody has to remove it.

import fcntl
import json
import os
from base64 import urlsafe_b64encode
from types import SimpleNamespace

import h5py
from snakemake_interface_executor_plugins.settings import ExecMode

_state = Path(".snakemake")
# Jobs on a cluster read this file too, but they are no runs of their own.
_is_driver = workflow.exec_mode == ExecMode.DEFAULT


def _try_lock():
    """File that holds the study's lock, None where another run holds it.

    File systems without such locks raise OSError.
    """
    _state.mkdir(exist_ok=True)
    file = open(_state / f"{study['study']}.lock", "a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _drop_stale_locks():
    """Remove the locks of Snakemake that name results of this study, which nobody works on."""
    for lock in (_state / "locks").glob("*.lock"):
        if f"{results}/" in lock.read_text():
            lock.unlink(missing_ok=True)


def _record(kind, path):
    """Where Snakemake keeps what it knows of a result."""
    name = urlsafe_b64encode(path.encode()).decode()
    size = os.pathconf(_state, "PC_NAME_MAX") - 1
    *parts, last = [name[i : i + size] for i in range(0, len(name), size)]
    return _state.joinpath(kind, *(f"@{part}" for part in parts), last)


def _is_current(path):
    """Whether a file holds what its job would write now, going by its provenance."""
    if path.parent.name == "saes":  # beside an SAE lies the curve of its training
        path = path.with_name(f"{path.stem}.h5")
    jobs = {
        "train_sae": rules.train_sae.params.job,
        "cache_activations": rules.cache_activations.params.job,
    }
    try:
        with h5py.File(path) as file:
            found = json.loads(file.attrs["provenance"])
        names = SimpleNamespace(sae=path.stem, split=path.parent.name)
        expected = jobs[found["rule"]](names)
    except (OSError, KeyError, ValueError):
        return False
    # Through JSON, as the provenance went.
    return {**found["config"], "code": found["code"]} == json.loads(
        json.dumps(expected)
    )


def _distrust_unrecorded():
    """See to it that results whose making Snakemake has not recorded are made again.

    Jobs of a cluster go on when the run that sent them was killed. Snakemake takes what they
    leave as done, and would not notice that the config has changed meanwhile. Activations and
    SAEs say themselves what they were made with and are kept where it is still the same.
    """
    for path in sorted(Path(results).rglob("*")):
        parts = path.relative_to(results).parts
        if not path.is_file() or parts[0] in ("logs", "benchmarks", "model"):
            continue
        if any(part.startswith(".") for part in parts):
            continue
        marker = _record("incomplete", str(path))
        if not (
            _record("metadata", str(path)).exists()
            or marker.exists()
            or _is_current(path)
        ):
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text('{"external_jobid": null}')


_held = []  # the lock of this run, for as long as it lives

if _is_driver:
    try:
        if _lock := _try_lock():
            _drop_stale_locks()
            _distrust_unrecorded()
            # Whether jobs will run is not known yet; a dry run keeps nobody out.
            _lock.close()
    except OSError as error:
        print(f"note: {_state} cannot be locked ({error.strerror})", file=sys.stderr)


onstart:
    if _is_driver:
        try:
            _held.append(_try_lock())
        except OSError:
            _held.append("a file system without locks")
        if _held == [None]:
            print(
                f"error: another run of the study {study['study']} is under way in this folder; "
                "wait for its end or stop it",
                file=sys.stderr,
            )
            sys.exit(1)
