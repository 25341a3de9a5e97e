"""What every rule declares, as Snakemake itself reads it and has it in its jobs."""

from pathlib import Path
from typing import Any

import pytest
from helpers.checkout import ROOT, SCRIPTS
from helpers.tiny import LIST
from helpers.workflow_api import of_jobs, read
from own_code import OwnCode
from snakemake.jobs import Job

# What is no script of a rule.
SHARED = {"job", "own_code", "check_command_line"}
OWN = OwnCode(SCRIPTS)
SCRIPTED = sorted({path.stem for path in SCRIPTS.glob("*.py")} - SHARED)
# What is fetched is fixed by a checksum or a commit, whatever the code.
FETCHING = {"fetch_source", "fetch_model", "fetch_sae", "fetch_text", "resolve_commit"}

# Studies that have a job of every rule among them, and what is asked of them: two seeds and two
# ages of an SAE, JumpReLU SAEs, two architectures, and a model, SAEs and a text of a hub.
SEEDS_AND_AGES: dict[str, Any] = {
    "saes": [
        *LIST,
        {**LIST[0], "name": "32-b", "seed": 1},
        {**LIST[0], "name": "32-young", "steps": 100},
        {**LIST[1], "name": "64-young", "steps": 100},
    ]
}
JUMPRELU: dict[str, Any] = {
    "saes": [{**sae, "architecture": "jumprelu"} for sae in LIST],
    "stitched": [],
}
TWO_ARCHITECTURES: dict[str, Any] = {
    "saes": [
        *LIST[:2],
        *({**sae, "name": f"{sae['d_sae']}-relu", "architecture": "relu"} for sae in LIST[:2]),
    ],
    "stitched": [],
}
STUDIES: list[tuple[str, dict[str, Any] | None, set[str]]] = [
    ("tiny", SEEDS_AND_AGES, {"all", "export"}),
    ("tiny", JUMPRELU, {"all"}),
    ("quick", None, {"all"}),
    ("tiny", TWO_ARCHITECTURES, {"all"}),
    ("gpt2-small-pretrained", None, {"all", "resolve", "fetch"}),
    ("gemma-2-2b", None, {"all"}),
]


def declared(job: Job) -> dict[str, Any]:
    """What a job has; its memory and time at the first three attempts."""
    rule = job.rule
    found = {"norun": rule.norun, "script": rule.script, "output": list(job.output)}
    found |= {"log": list(job.log), "benchmark": job.benchmark, "conda": rule.conda_env}
    found |= {"message": job.message, "job": job.params.get("job")}
    for attempt in (1, 2, 3):
        resources = rule.expand_resources(job.wildcards, job.input, attempt)
        for name in ("mem_mb", "runtime"):
            found.setdefault(name, []).append(resources.get(name))
    return found


@pytest.fixture(scope="module")
def rules(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """What a job of each rule has."""
    found: dict[str, dict[str, Any]] = {}
    for preset, config, targets in STUDIES:
        folder = tmp_path_factory.mktemp("study") / preset
        folder.mkdir()
        with read(folder, config, preset=preset, targets=targets) as workflow:
            found = of_jobs(workflow, declared) | found
            # Rules without a script only name others' files, and some do so for one target alone.
            everything = {rule.name for rule in workflow.rules if not rule.norun}
    assert everything <= found.keys(), f"no job of {sorted(everything - found.keys())} is looked at"
    return found


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_rule_declares_what_every_rule_needs(rules, name):
    rule = rules[name]
    assert rule["output"] and rule["message"]
    # Rule, script, log and benchmark file carry the same name.
    assert Path(rule["script"]).name == f"{name}.py"
    (log,) = rule["log"]
    for path, kind in ((log, "logs"), (rule["benchmark"], "benchmarks")):
        results, study, folder, *below = Path(path).with_suffix("").parts
        assert (results, folder, below[0]) == ("results", kind, name) and study
    assert (ROOT / "rules" / rule["conda"]).is_file()
    # More memory and time at every attempt.
    for resource in ("mem_mb", "runtime"):
        first, second, third = rule[resource]
        assert 0 < first < second < third


@pytest.mark.parametrize("name", sorted(set(SCRIPTED) - FETCHING))
def test_the_code_among_the_params_is_that_of_the_rules_own_script(rules, name):
    assert rules[name]["job"]["code"] == OWN.hash(name)


def test_each_script_belongs_to_a_rule_and_each_other_rule_runs_nothing(rules):
    # Figures 18 and 19 are 4 and 5 with a parameter, and run their scripts.
    scripts = {Path(rule["script"]).stem for rule in rules.values() if rule["script"]}
    assert scripts == set(SCRIPTED)
    for rule in rules.values():
        assert rule["norun"] == (rule["script"] is None)
        assert rule["script"] or not (rule["output"] or rule["log"] or rule["benchmark"])
