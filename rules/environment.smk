# What jobs find around them: this checkout's code, and nothing that somebody set for something else.

import json
import os
import runpy
import shlex
import sys
from pathlib import Path

from snakemake_interface_executor_plugins.settings import ExecMode

# Jobs on a cluster read this file too, but they are no runs of their own.
is_driver = workflow.exec_mode == ExecMode.DEFAULT

_scripts = Path(workflow.basedir) / "workflow_scripts"
own_code = runpy.run_path(str(_scripts / "own_code.py"))["OwnCode"](
    _scripts, Path(".snakemake/code").absolute()
)
try:
    own_code.install()
except ImportError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)

# Hashes of what the rules' scripts run, when the run began: a job that finds its code changed since
# is refused, as its result would be known by the wrong hash. Jobs of a cluster inherit them.
_inherited = "SAE_STITCHING_CODE"
if is_driver or _inherited not in os.environ:
    code = {script.stem: own_code.hash(script.stem) for script in _scripts.glob("*.py")}
    os.environ[_inherited] = json.dumps(code)
else:
    code = json.loads(os.environ[_inherited])

# Snakemake puts the paths of the scripts and of Python into format strings and command lines as they
# are, and on Python's path folders are parted by colons. What that cannot be is said at once.
for _what, _path, _cannot in (
    ("the checkout's folder", str(_scripts.parent.resolve()), f"{{}}{os.pathsep}"),
    ("Python, as it was started,", sys.executable, " \t\n{}'\"\\$`*?[]()<>|&;#!~"),
):
    if _found := sorted(set(_path) & set(_cannot)):
        print(
            f"error: {_path!r}: {_what} has {_found[0]!r} in its path, which Snakemake's jobs cannot "
            "have; move it to a folder of another name",
            file=sys.stderr,
        )
        sys.exit(1)

# Scripts find their job.py before anything else of that name. Snakemake puts their folder at the end
# of the path, and conda's activation leaves nothing of the variable as it is in this process.
_first = shlex.quote(str(_scripts.resolve()))
shell.prefix(f"export PYTHONPATH={_first}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; ")

# What somebody has set for a notebook or to find a bug is not for jobs.
for _name in (
    "MATPLOTLIBRC",
    "MPLBACKEND",
    "NUMBA_DISABLE_JIT",
    "NVIDIA_TF32_OVERRIDE",
    "PYTHONINSPECT",
    "PYTHONOPTIMIZE",
    "PYTHONWARNINGS",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
):
    os.environ.pop(_name, None)
