"""SAEs in files of other libraries beside trained ones."""

import json
import re
from dataclasses import replace

import torch
from helpers.checkout import ROOT
from helpers.runs import Run
from helpers.tiny import CONTEXT, LIST, TINY
from sae_stitching.formats.saelens import export_saelens
from sae_stitching.saes.sae import SAE, read_sae

HUB = {"repo": "somebody/saes", "revision": "0123456789abcdef" * 2 + "01234567"}


def test_an_exported_sae_can_be_imported_beside_trained_ones(spare):
    exported = "results/tiny/export/64"
    status, said = spare.snakemake("--cores", "1", f"{exported}/cfg.json")
    assert status == 0, said
    names = {path.name for path in (spare.folder / exported).iterdir()}
    assert names == {"cfg.json", "sae_weights.safetensors"}
    settings = json.loads((spare.folder / exported / "cfg.json").read_text())
    assert settings["architecture"] == "topk" and settings["metadata"]["context_size"] == CONTEXT

    back = {"name": "64-back", "d_sae": 64, "pretrained": {"path": exported}}
    wrong = {"name": "wrong", "d_sae": 65, "pretrained": {"path": exported}}
    config = {"saes": [*LIST, back, wrong], "stitching": {"pairs": [[64, "64-back"]]}}
    config["stitching"]["transition"] = []
    target = "results/tiny/evaluation/64-back.json"
    status, said = spare.snakemake("--cores", "1", target, config=config)
    assert status == 0, said
    assert "Train SAE" not in said and "Cache" not in said
    imported, trained = (read_sae(spare.results / f"saes/{sae}.h5") for sae in ("64-back", "64"))
    assert (imported.hook, imported.model) == (trained.hook, trained.model)
    assert torch.equal(imported.W_enc, trained.W_enc)
    rows = [
        json.loads((spare.results / f"evaluation/{sae}.json").read_text())
        for sae in ("64-back", "64")
    ]
    assert [row.pop("sae") for row in rows] == ["64-back", "64"]
    assert rows[0] == rows[1]

    target = "results/tiny/saes/wrong.h5"
    status, said = spare.snakemake("--cores", "1", target, config=config)
    assert status == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error in ")]
    assert line == (
        f"error in import_sae: {exported}/sae_weights.safetensors: has 64 latents, not the 65 of "
        "d_sae; correct d_sae (log: results/tiny/logs/import_sae/wrong.log)"
    )


def test_a_file_that_contradicts_the_study_is_refused_and_can_be_trusted_against(tmp_path):
    # The rule needs nothing but the files: no model runs.
    d_model = TINY["sources"][TINY["model"]["name"]]["d_model"]
    W_dec = torch.eye(64, d_model)
    sae = SAE(W_dec.T, W_dec, torch.zeros(64), torch.zeros(d_model), "relu")
    sae = replace(sae, hook=TINY["model"]["hook"], model=TINY["model"]["name"])
    kwargs = {"center_writing_weights": True}
    export_saelens(sae, tmp_path / "centred", model_from_pretrained_kwargs=kwargs)

    def run(trust: list[str]) -> tuple[int, str]:
        entry = {"d_sae": 64, "pretrained": {"path": "centred", "trust": trust}}
        config = {"saes": [{"d_sae": 32}, entry], "stitched": []}
        target = "results/tiny/saes/64.h5"
        return Run(ROOT, tmp_path).snakemake("--cores", "1", target, config=config)

    complaint = (
        "centred/cfg.json: metadata.model_from_pretrained_kwargs.center_writing_weights is true, "
        "but model.center_writing_weights is false"
    )
    status, said = run([])
    assert status == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error in ")]
    assert line == (
        f"error in import_sae: {complaint}; change model.center_writing_weights, or, if the study "
        "is right, add center_writing_weights to the SAE's pretrained.trust (log: "
        "results/tiny/logs/import_sae/64.log)"
    )
    status, said = run(["center_writing_weights"])
    assert status == 0, said
    trusted = f"{complaint}; trusted, since pretrained.trust has center_writing_weights"
    assert trusted in said.splitlines()
    log = (tmp_path / "results/tiny/logs/import_sae/64.log").read_text()
    assert f"WARNING sae_stitching.formats.agreement: {trusted}" in log


def test_pretrained_saes_alone_need_no_training_activations(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    saes = [{"d_sae": size, "pretrained": {**HUB, "path": str(size)}} for size in (32, 64)]
    # Without files or a connection: what is to be done follows from the config alone.
    status, said = Run(ROOT, folder).snakemake(
        "--dry-run", "all", "export", config={"saes": saes, "stitched": []}
    )
    assert status == 0, said
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said[said.index("Job stats:") :], re.MULTILINE))
    assert (counts["import_sae"], counts["export_sae"]) == ("2", "2")
    assert "train_sae" not in counts
    assert counts["cache_activations"] == "1" and "activations/train" not in said
