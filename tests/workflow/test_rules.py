"""What every rule declares, read by Snakemake itself."""

import re

import pytest
from helpers.checkout import ROOT, SCRIPTS


def rule_bodies() -> dict[str, str]:
    text = "\n".join(
        path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    )
    return dict(re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE))


@pytest.mark.parametrize("rule", sorted(rule_bodies()))
def test_rules_declare_what_every_rule_needs(rule):
    body = rule_bodies()[rule]
    declared = dict(re.findall(r"^    (\w+):((?:\n        .*| .*)+)", body, re.MULTILINE))
    if "script" not in declared:
        assert set(declared) <= {"input", "localrule", "default_target"}
        return
    needed = {"output", "log", "benchmark", "conda", "threads", "resources", "params", "message"}
    assert needed <= set(declared)
    assert "mem_mb=" in declared["resources"] and "runtime=" in declared["resources"]
    assert f'script:\n        "../{SCRIPTS}/{rule}.py"' in body
    assert (ROOT / SCRIPTS / f"{rule}.py").is_file()
    assert re.search(rf'"{{results}}/logs/{rule}[/.]', declared["log"])
    assert re.search(rf'"{{results}}/benchmarks/{rule}[/.]', declared["benchmark"])
    (environment,) = re.findall('"../(envs/.*)"', declared["conda"])
    assert (ROOT / environment).is_file()
    assert "job=" in declared["params"]
    # The hash of the code among the params must be that of the rule's own script.
    assert set(re.findall(r'job\(\s*"(\w+)"', declared["params"])) <= {rule}


def test_each_script_belongs_to_a_rule():
    scripts = {path.stem for path in (ROOT / SCRIPTS).glob("*.py")}
    scripts -= {"job", "own_code", "check_command_line"}
    bodies = rule_bodies()
    assert scripts == {rule for rule, body in bodies.items() if "script:" in body}
    # What is fetched is fixed by a checksum or a commit, whatever the code.
    fetching = {"fetch_source", "fetch_model", "fetch_sae", "fetch_text", "resolve_commit"}
    for rule in scripts - fetching:
        assert f'job(\n            "{rule}"' in bodies[rule] or f'job("{rule}"' in bodies[rule]
