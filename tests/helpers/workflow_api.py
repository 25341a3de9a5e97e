"""The workflow as Snakemake reads it, in this process: its rules, and the jobs that it would do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from helpers.checkout import ROOT
from snakemake.api import SnakemakeApi
from snakemake.jobs import Job
from snakemake.resources import Resources
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    RerunTrigger,
    ResourceSettings,
)
from snakemake.workflow import Workflow

PROFILE = yaml.safe_load((ROOT / "profiles/default/profile.yaml").read_text(encoding="utf-8"))
TRIGGERS = frozenset(RerunTrigger.parse_choices_set(PROFILE["rerun-triggers"]))


@contextmanager
def read(
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    preset: str = "tiny",
    targets: set[str] | None = None,
) -> Iterator[Workflow]:
    """The workflow of a preset in a folder, with `config` over it in a second file.

    With targets (none for the default one) its jobs are known too. Rules' functions hold as long as
    no other workflow is read.
    """
    files = [ROOT / "presets" / f"{preset}.yaml"]
    if config is not None:
        files.append(folder.with_name(f"{folder.name}.override.yaml"))
        files[-1].write_text(yaml.safe_dump(config))
    given = PROFILE.get("default-resources", [])
    resources = Resources.parse(given, allow_expressions=True, defaults="bare")
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        found = api.workflow(
            resource_settings=ResourceSettings(cores=1, default_resources=resources),
            config_settings=ConfigSettings(configfiles=files),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        workflow = found._workflow
        if targets is None:
            assert workflow.rules  # by which the Snakefile is read
        else:
            found.dag(DAGSettings(targets=targets, rerun_triggers=TRIGGERS))
            workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
            workflow._build_dag()
        yield workflow


def stale(folder: Path, config: dict[str, Any] | None = None) -> set[str]:
    """Jobs that a run would do, as their logs are called."""
    with read(folder, config, targets=set()) as workflow:
        dag = workflow.dag
        return {log_name(job) for job in dag.jobs if job.output and dag.reason(job)}


def log_name(job: Job) -> str:
    """What a job's log is called, without its folder."""
    return "/".join(Path(job.log[0]).with_suffix("").parts[3:])


def of_jobs(workflow: Workflow, what: Callable[[Job], Any]) -> dict[str, Any]:
    """Something of a job of every rule that has any."""
    return {job.rule.name: what(job) for job in workflow.dag.jobs}
