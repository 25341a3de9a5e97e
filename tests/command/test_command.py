"""The command sae-stitching: the registry searched, and studies written."""

import shutil
import subprocess
import sys

import pytest
import yaml
from helpers.checkout import ROOT
from helpers.registry import registry
from sae_stitching.command import main as command
from sae_stitching.config import by_name
from sae_stitching.config.study import read_study


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command over the stand-in registry; what it prints, or how it complains."""
    for module in (command, by_name):
        monkeypatch.setattr(module, "read_registry", lambda *_: registry())

    def run(*arguments: str) -> str:
        try:
            command.main(arguments)
        except SystemExit as end:
            return str(end.code)
        return capsys.readouterr().out

    return run


class TestSaes:
    def test_places_with_what_each_release_has_there(self, run):
        said = run("saes", "gemma-2", "--widths", "2+", "--release", "res")
        lines = said.splitlines()
        assert lines[0] == "gemma-2-2b  blocks.12.hook_resid_post  4 widths"
        assert lines[1] == "  gemma-scope-2b-pt-res"
        assert (
            lines[2] == "       16,384  layer_12/width_16k/average_l0_22 and 2 more  L0 22, 41, 82"
        )
        assert "    1,048,576  layer_12/width_1m/average_l0_26 and 1 more  L0 26, 58" in lines
        assert lines[-1] == "1 place, 11 SAEs"

    def test_what_cannot_be_read_is_shown_on_request(self, run):
        said = run("saes", "--release", "transcoders")
        assert said.startswith("error: nothing like that is in SAELens's registry")
        said = run("saes", "--release", "transcoders", "--all")
        assert "    cannot be read: is a transcoder, which reads at one place" in said

    def test_yaml_is_that_of_a_config(self, run):
        said = run("saes", "gemma-2", "--hook", "blocks.12", "--yaml", "--l0", "50")
        assert said.startswith("# gemma-2-2b, blocks.12.hook_resid_post\n")
        assert [entry["sae_id"].partition("/")[2] for entry in yaml.safe_load(said)["saes"]] == [
            "width_16k/average_l0_41", "width_32k/average_l0_40", "width_65k/canonical",
            "width_1m/average_l0_58",
        ]  # fmt: skip
        # Those that were not taken are there too, to be taken in place of them.
        assert (
            "  # - {release: gemma-scope-2b-pt-res, sae_id: layer_12/width_16k/average_l0_22}"
            in said
        )

    def test_yaml_of_saes_without_an_l0(self, run):
        said = run("saes", "pythia", "--yaml", "--l0", "50")
        assert len(yaml.safe_load(said)["saes"]) == 2


class TestInit:
    SAES = "gemma-scope-2b-pt-res-canonical:layer_12/width_*/canonical"

    def test_the_config_is_a_study(self, run, tmp_path):
        file = tmp_path / "my-gemma.yaml"
        assert "snakemake --cores all --configfile" in run("init", str(file), self.SAES)
        study = read_study(ROOT, [file], [])
        assert study["study"] == "my-gemma"
        assert study["model"]["name"] == "gemma-2-2b"
        assert [sae["d_sae"] for sae in study["saes"]] == [16384, 32768, 65536]

    def test_centred_weights_are_written_out(self, run, tmp_path):
        file = tmp_path / "gpt2.yaml"
        run("init", str(file), "gpt2-small-res-jb-feature-splitting:blocks.8.*")
        assert yaml.safe_load(file.read_text())["model"]["center_writing_weights"] is True
        assert len(read_study(ROOT, [file], [])["saes"]) == 8

    def test_two_saes_of_one_width_get_names(self, run, tmp_path):
        file = tmp_path / "l0.yaml"
        names = [f"gemma-scope-2b-pt-res:layer_12/width_16k/average_l0_{n}" for n in (22, 41)]
        run("init", str(file), *names, self.SAES.replace("*", "32k"))
        saes = read_study(ROOT, [file], [])["saes"]
        assert [sae["name"] for sae in saes] == ["16384-l0-22", "16384-l0-41", "32768"]

    @pytest.mark.parametrize("name", ["123", "on", "1e3", "2026-11-27"])
    def test_a_name_that_yaml_would_read_as_something_else(self, run, tmp_path, name):
        file = tmp_path / f"{name}.yaml"
        run("init", str(file), self.SAES)
        assert read_study(ROOT, [file], [])["study"] == name

    def test_nothing_is_overwritten(self, run, tmp_path):
        file = tmp_path / "there.yaml"
        file.write_text("mine\n")
        assert (
            run("init", str(file), self.SAES)
            == f"error: {file}: is there already; name another file"
        )
        assert file.read_text() == "mine\n"

    @pytest.mark.parametrize(
        ("names", "complaint"),
        [
            (["gpt2-small-res-jb:blocks.8.hook_resid_pre"], "a study compares two SAEs or more"),
            (["gpt2-small-res-jb"], "write RELEASE:SAE_ID, such as gpt2-small-res-jb:layer_12"),
            (["gpt2-small-res-jb:blocks.*"], "is 12 SAEs at several places"),
            (["gpt2:x"], "no release of SAELens 6.54.12 is called gpt2"),
            (["temporal-sae-gemma-2-2b:blocks.12.hook_resid_post"], "is a temporal SAE"),
            (
                ["gpt2-small-res-jb:blocks.8.hook_resid_pre",
                 "gpt2-small-res-jb:blocks.9.hook_resid_pre"],
                "blocks.9.hook_resid_pre reads blocks.9.hook_resid_pre, but gpt2-small-res-jb "
                "blocks.8.hook_resid_pre reads blocks.8.hook_resid_pre; name SAEs of one place",
            ),
        ],
    )  # fmt: skip
    def test_complaints(self, run, tmp_path, names, complaint):
        said = run("init", str(tmp_path / "new.yaml"), *names)
        assert said.startswith("error: ") and complaint in said
        assert not (tmp_path / "new.yaml").exists()

    def test_a_folder_that_is_not_there(self, run, tmp_path):
        said = run("init", str(tmp_path / "no" / "new.yaml"), self.SAES)
        assert said.endswith("cannot be written (No such file or directory)")

    def test_a_name_that_no_study_can_have(self, run, tmp_path):
        assert "is no name for a study" in run("init", str(tmp_path / "a b.yaml"), self.SAES)


def test_it_is_a_module_too():
    command = [sys.executable, "-m", "sae_stitching", "--help"]
    run = subprocess.run(
        command, cwd=ROOT / "workflow_scripts", capture_output=True, text=True, check=False
    )
    assert run.returncode == 0 and "init" in run.stdout


def test_it_runs_from_the_checkout_whatever_the_folder(tmp_path):
    checkout = tmp_path / "a checkout"
    (checkout / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "bin" / "sae-stitching", checkout / "bin")
    (checkout / "workflow_scripts").symlink_to(ROOT / "workflow_scripts")

    def run() -> subprocess.CompletedProcess[str]:
        command = [checkout / "bin" / "sae-stitching", "--help"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run().returncode == 1
    assert run().stderr.startswith(f"error: there is no environment in {checkout}/.venv; 'make ")
    (checkout / ".venv").symlink_to(sys.prefix)
    assert run().returncode == 0 and "init" in run().stdout
