# Starting a run where an earlier one was killed, or where another one is going on.
#
# Snakemake's own locks outlive a run that was killed, and a run that ends removes those of all
# others in its folder. The lock here is the kernel's: it is held for as long as the process lives,
# and nobody has to remove it.

import fcntl

_state = Path(".snakemake")


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


_held = []  # the lock of this run, for as long as it lives

if is_driver:
    try:
        if _lock := _try_lock():
            _drop_stale_locks()
            # Whether jobs will run is not known yet; a dry run keeps nobody out.
            _lock.close()
    except OSError as error:
        print(f"note: {_state} cannot be locked ({error.strerror})", file=sys.stderr)


onstart:
    if is_driver:
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
