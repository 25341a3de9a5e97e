"""The register of figures and tables, and what hangs on it."""

import runpy
from pathlib import Path

import pytest
from sae_stitching.tables.register import CONDITIONS, RESULTS, as_markdown
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """The workflow of the tiny preset, read and not run."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        yield api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[ROOT / "presets" / "tiny.yaml"]),
            snakefile=ROOT / "Snakefile",
            workdir=tmp_path_factory.mktemp("study"),
        )._workflow


def test_names_are_told_apart():
    names = [result.name for result in RESULTS]
    assert len(set(names)) == len(names) > 25


def test_sections_are_in_order():
    sections = [result.section for result in RESULTS]
    assert sections == sorted(sections)


def test_every_result_has_a_caption_and_every_caption_a_result():
    expected = {"workflow"}
    for result in RESULTS:
        expected |= {f"figures/{result.name}"} if result.figure else set()
        expected |= {f"tables/{result.name}"} if result.table else set()
        expected |= set() if result.figure or result.table else {result.name}
    folder = ROOT / "report"
    captions = {
        str(path.relative_to(folder).with_suffix("")): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.rst")
    }
    assert captions.keys() == expected
    assert all(text.strip() for text in captions.values())


def test_a_rule_of_the_name_makes_it(workflow):
    made = {
        str(file): rule.name for rule in workflow.rules for file in rule.output
    }  # without wildcards in those of results
    for result in RESULTS:
        files = [f"figures/{result.name}.png"] if result.figure and not result.each else []
        files += [f"tables/{result.name}.csv"] if result.table else []
        files += [] if files or result.each else [f"report/{result.name}.html"]
        for file in files:
            assert made[f"results/tiny/{file}"] == result.made_by
        assert result.made_by in made.values() or result.when


def test_the_workflow_knows_which_studies_have_what(workflow):
    assert workflow.globals["has"].keys() == CONDITIONS.keys()
    assert {result.when for result in RESULTS} - {""} == CONDITIONS.keys()


def test_the_list_in_the_docs_is_the_register():
    docs = runpy.run_path(str(ROOT / "docs" / "results.py"))
    found = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert as_markdown() in found
    assert found == docs["page"](), "run: python docs/results.py"
