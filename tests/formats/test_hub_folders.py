"""Models, SAEs and texts of the hub, fetched as a study needs them and read without it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import stand_ins
from helpers.loopback_hub import EXPIRED, MEMBER, STRANGER, Hub
from helpers.stand_ins import GEMMA, GEMMA_SAES, GPT2, GPT2_SAES, PRESETS, TEXT
from huggingface_hub import constants, snapshot_download
from sae_stitching.activations.language_model import LanguageModel, model_facts
from sae_stitching.base.errors import StudyError
from sae_stitching.formats import find_local
from sae_stitching.formats.hub_folders import fetch_model, fetch_sae
from sae_stitching.formats.pretrained import load_sae
from sae_stitching.hub.client import Commit, resolve
from sae_stitching.text.hub_dataset import hub_documents
from sae_stitching.text.tokens import load_tokenizer

pytestmark = pytest.mark.usefixtures("waits")

READ = {
    GPT2: {"config.json", "generation_config.json", "merges.txt", "model.safetensors",
           "tokenizer.json", "tokenizer_config.json", "vocab.json"},
    GEMMA: {"config.json", "generation_config.json", "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
            "model.safetensors.index.json", "special_tokens_map.json", "tokenizer.json",
            "tokenizer.model", "tokenizer_config.json"},
}  # fmt: skip


@pytest.fixture
def filled(hub, monkeypatch) -> Hub:
    stand_ins.fill(hub)
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    return hub


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


# Models


@pytest.mark.parametrize("xet", [False, True])
@pytest.mark.parametrize("name", ["gpt2", GPT2, "gpt2-small", GEMMA])
def test_of_a_model_what_is_read_is_fetched(filled, tmp_path, name, xet):
    filled.xet = xet
    repo = name if "/" in name else GPT2
    fetch_model(resolve("model", name, "main"), tmp_path / "model")
    assert names(tmp_path / "model") == READ[repo]
    files = stand_ins.gemma() if repo == GEMMA else stand_ins.gpt2()
    for path in READ[repo]:
        assert (tmp_path / "model" / path).read_bytes() == files[path]
    # Each file once, and none that nobody reads.
    contents = filled.asked("GET (/-/cdn|/-/xet/xorbs|/api/resolve-cache)/")
    assert len(contents) == len(set(contents)) == len(READ[repo])


def test_a_fetched_model_runs_without_a_hub(filled, tmp_path):
    fetch_model(resolve("model", "gpt2", "main"), tmp_path / "model")
    filled.requests.clear()
    tokens = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))
    with filled.off():
        # transformers' own model, and TransformerLens's.
        for point, centred in (("hook_resid_pre", False), ("hook_resid_pre", True)):
            model = LanguageModel(
                str(tmp_path / "model"),
                f"blocks.8.{point}",
                dtype="float32",
                center_writing_weights=centred,
            )
            assert model(tokens).shape == (2, 16, stand_ins.D_MODEL)
    assert filled.requests == []
    facts = {"n_layers": 9, "d_model": stand_ins.D_MODEL, "context": stand_ins.CONTEXT}
    assert model_facts(str(tmp_path / "model")) == facts


def test_a_model_of_another_commit_takes_the_folder(filled, tmp_path):
    fetch_model(resolve("model", GPT2, "main"), tmp_path / "model")
    files = stand_ins.gpt2() | {"generation_config.json": b'{"top_k": 3}'}
    del files["merges.txt"]
    commit = filled.repository(GPT2).commit(files)
    filled.requests.clear()
    found = resolve("model", GPT2, "main")
    assert found.commit == commit
    fetch_model(found, tmp_path / "model")
    assert names(tmp_path / "model") == READ[GPT2] - {"merges.txt"}
    assert (tmp_path / "model" / "generation_config.json").read_bytes() == b'{"top_k": 3}'
    # What both have is fetched once.
    assert filled.asked("GET /-/cdn/") == []


WRONG_MODELS = {
    "no model": ({"README.md": b"SAEs"}, "{commit}: holds no config.json, so no model of "
        "transformers; name one"),
    "no weights": ({"config.json": b"{}", "tf_model.h5": b"x"}, "{commit}: holds no weights that "
        "transformers reads (model.safetensors, pytorch_model.bin, or an index of them); name "
        "another repository"),
    "no index": ({"config.json": b"{}", "model.safetensors.index.json": b"[]"},
        "{commit}: model.safetensors.index.json: is no index of weights (list indices must be "
        "integers or slices, not str)"),
    "a shard that is not there": (
        {"config.json": b"{}", "model.safetensors.index.json": json.dumps(
            {"weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode()},
        "{commit}: model.safetensors.index.json: names model-00001-of-00002.safetensors, which is "
        "not there; name another revision"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_MODELS)
def test_what_is_no_model(hub, tmp_path, case):
    files, says = WRONG_MODELS[case]
    hub.repository(GPT2).commit(files)
    commit = resolve("model", GPT2, "main")
    with pytest.raises(StudyError) as caught:
        fetch_model(commit, tmp_path / "model")
    assert str(caught.value) == says.format(commit=commit)
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_last_shard_does_not_come_is_no_folder(filled, tmp_path, waits):
    filled.fault("HEAD .*model-00003", "status", status=503)
    commit = resolve("model", GEMMA, "main")
    with pytest.raises(StudyError, match=f"^{commit}: model-00003-of-00003.safetensors: the hub"):
        fetch_model(commit, tmp_path / "model")
    assert list(tmp_path.iterdir()) == [] and waits
    filled.heal()
    filled.requests.clear()
    fetch_model(commit, tmp_path / "model")
    # What had come is not fetched again.
    assert len(filled.asked("GET /-/cdn/")) < len(READ[GEMMA])
    assert names(tmp_path / "model") == READ[GEMMA]


@pytest.mark.usefixtures("filled")
def test_what_a_folder_links_to_may_go(tmp_path):
    commit = resolve("model", "gpt2", "main")
    fetch_model(commit, tmp_path / "model")
    link = tmp_path / "model" / "tokenizer.json"
    link.resolve().unlink()
    with pytest.raises(StudyError) as caught:
        load_tokenizer(str(tmp_path / "model"))
    assert str(caught.value) == (
        f"{link}: the file that it links to is gone; fetch it again: hf download {GPT2} "
        f"tokenizer.json --revision {commit.commit}"
    )
    remedy = str(caught.value).partition("fetch it again: hf ")[2].split()
    hf = [sys.executable, "-m", "huggingface_hub.cli.hf", *remedy]
    subprocess.run(hf, check=True, capture_output=True)
    load_tokenizer(str(tmp_path / "model"))


@pytest.mark.parametrize("repo", [GPT2, GEMMA])
def test_the_tokenizer_is_that_of_the_repository(filled, tmp_path, repo):
    fetch_model(resolve("model", repo, "main"), tmp_path / "model")
    with filled.off():
        tokenizer = load_tokenizer(str(tmp_path / "model"))
    assert type(tokenizer).__name__ == {GPT2: "GPT2Tokenizer", GEMMA: "GemmaTokenizer"}[repo]
    assert tokenizer.decode(tokenizer("An é of it.", add_special_tokens=False)["input_ids"]) == (
        "An é of it."
    )


# SAEs


@pytest.mark.parametrize("preset", ["gpt2-small-pretrained", "gemma-2-2b"])
@pytest.mark.parametrize("format", ["auto", "its own"])
def test_the_presets_saes_are_fetched_and_read(filled, tmp_path, preset, format):
    repo = GEMMA_SAES if preset == "gemma-2-2b" else GPT2_SAES
    for sae in PRESETS[preset]["saes"][:2]:
        source = sae["pretrained"]
        commit = resolve("model", source["repo"], source["revision"])
        assert commit.repo == repo
        folder = tmp_path / sae["name"]
        wanted = format if format == "auto" else source["format"]
        fetch_sae(commit, source["path"], wanted, folder)
        layout = find_local(str(folder / repo / source["path"]))
        assert layout.format == source["format"]
        read = load_sae(layout.weights, format=layout.format)
        for name, tensor in stand_ins.sae_weights(preset, sae["name"]).items():
            np.testing.assert_array_equal(getattr(read, name).numpy(), tensor)
    assert not filled.asked("README|sparsity")


def test_a_path_of_nothing_is_named(filled, tmp_path):
    commit = resolve("model", GPT2_SAES, "main")
    with pytest.raises(StudyError) as caught:
        fetch_sae(commit, "blocks.8.hook_resid_pre_769", "auto", tmp_path / "769")
    assert str(caught.value) == (
        f"{commit}: blocks.8.hook_resid_pre_769: there is no sae_weights.safetensors or params.npz "
        "or ae.pt or sae.safetensors or params.safetensors or checkpoints/final.safetensors; name "
        "the folder of an SAE, or its file of weights"
    )
    # Nothing of it is remembered: the file may be uploaded.
    files = stand_ins.sae_files("gpt2-small-pretrained", "768")
    moved = {path.replace("_768", "_769"): content for path, content in files.items()}
    filled.repository(GPT2_SAES).commit(moved)
    newer = resolve("model", GPT2_SAES, "main")
    fetch_sae(newer, "blocks.8.hook_resid_pre_769", "auto", tmp_path / "769")
    assert len(names(tmp_path / "769")) == 2


# Texts


def text(**changes: object) -> dict[str, object]:
    spec = {"path": TEXT, "name": None, "split": "train", "column": "text", **changes}
    return {"source": "dataset", "dataset": spec}


def dataset(hub: Hub) -> Commit:
    return resolve("dataset", TEXT, hub.repository(TEXT, "datasets").branches["main"])


@pytest.mark.parametrize("xet", [False, True])
def test_documents_of_a_dataset_are_those_of_its_files(filled, xet):
    filled.xet = xet
    files = stand_ins.openwebtext()
    documents = list(hub_documents(dataset(filled), text()))
    assert documents == [t for t in stand_ins.texts(files) if t.strip()]
    contents = filled.asked("GET (/-/cdn|/-/xet/xorbs|/api/resolve-cache)/")
    assert len(contents) == len(set(contents)) == len(files)


def test_of_a_dataset_as_much_is_fetched_as_is_read(filled):
    documents = hub_documents(dataset(filled), text())
    assert next(documents) == stand_ins.texts(stand_ins.openwebtext())[0]
    assert len(filled.asked("GET /-/cdn/")) == 1


def test_a_later_file_that_does_not_come(filled, waits):
    filled.fault("HEAD .*train-00001", "reset")
    documents = hub_documents(dataset(filled), text())
    first = stand_ins.texts(
        {k: v for k, v in stand_ins.openwebtext().items() if "train-00000" in k}
    )
    read = []
    with pytest.raises(StudyError) as caught:
        read.extend(documents)
    assert str(caught.value) == (
        f"{dataset(filled)}: plain_text/train-00001-of-00003.parquet: the hub {filled.url} does "
        "not give it (ReadError: [Errno 104] Connection reset by peer, 3 times); run again when "
        "it is well and can be reached"
    )
    assert len(waits) == 2 and len(first) > 0


WRONG_TEXTS = {
    "split": ({"split": "test"}, "text.dataset.split: {commit} has no split 'test'; it has train"),
    "column": ({"column": "body"}, "text.dataset.column: {commit} has no column 'body'; it "
        "has text"),
    "name": ({"name": "xl"}, "text.dataset: {commit} (name 'xl') cannot be opened (BuilderConfig "
        "'xl' not found. Available: ['plain_text'])"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_TEXTS)
def test_what_a_dataset_has_not(filled, case):
    changes, says = WRONG_TEXTS[case]
    with pytest.raises(StudyError) as caught:
        list(hub_documents(dataset(filled), text(**changes)))
    assert str(caught.value) == says.format(commit=dataset(filled))


TEXT_COMMIT, TEXT_LISTING = f"/api/datasets/{TEXT}/revision/", f"/api/datasets/{TEXT}/tree/"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("match", [TEXT_COMMIT, TEXT_LISTING, "GET /api/resolve-cache/datasets/"])
def test_a_dataset_on_a_hub_that_is_unwell(filled, waits, match, status):
    filled.fault(match, "status", status=status, times=2)
    commit = resolve("dataset", TEXT, "main")
    assert next(hub_documents(commit, text()))
    assert waits == [1.0, 2.0]
    filled.fault(match, "status", status=status)
    if match == TEXT_COMMIT:
        with pytest.raises(
            StudyError, match=rf"^{TEXT} at main: the hub .* \(HTTP {status} .*, 3 t"
        ):
            resolve("dataset", TEXT, "main")
    elif match == TEXT_LISTING:
        with pytest.raises(StudyError, match=rf"^{commit}: the hub .* \(HTTP {status} .*, 3 times"):
            next(hub_documents(commit, text()))
    else:  # is there already
        assert next(hub_documents(commit, text()))


@pytest.mark.parametrize(
    ("access", "token", "says"),
    [
        ("gated", "", "{commit}: is gated (HTTP 401); accept its terms at {hub}/datasets/{repo} "
            "and log in (hf auth login, or HF_TOKEN)"),
        ("gated", STRANGER, "{commit}: the account of your token is not let in (HTTP 403); ask "
            "for access at {hub}/datasets/{repo}"),
        ("private", STRANGER, "{commit}: the hub has no such repository, or it is private (HTTP "
            "404); correct the name, or use the token of an account that may read it"),
        ("public", EXPIRED, "{commit}: the hub does not accept your token (HTTP 401), which may "
            "have expired; renew it (hf auth login, or HF_TOKEN)"),
    ],
)  # fmt: skip
def test_a_dataset_that_may_not_be_read(filled, monkeypatch, access, token, says):
    commit = dataset(filled)
    filled.repository(TEXT, "datasets").access = access
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(StudyError) as caught:
        next(hub_documents(commit, text()))
    assert str(caught.value) == says.format(commit=commit, hub=filled.url, repo=TEXT)
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    assert next(hub_documents(commit, text()))


# Offline


def test_offline_a_part_is_not_taken_for_the_whole(filled, monkeypatch):
    commit = dataset(filled)
    assert next(hub_documents(commit, text()))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StudyError) as caught:
        list(hub_documents(commit, text()))
    assert str(caught.value) == (
        f"{commit}: the list of its files is not in the hub's cache, and HF_HUB_OFFLINE is set; "
        "unset it and run snakemake fetch, where there is a network"
    )


def test_offline_a_copied_cache_will_do(filled, monkeypatch):
    commit = dataset(filled)
    snapshot_download(TEXT, repo_type="dataset", revision=commit.commit)
    filled.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    files = stand_ins.openwebtext()
    assert list(hub_documents(commit, text())) == [t for t in stand_ins.texts(files) if t.strip()]
    assert filled.requests == []


@pytest.mark.usefixtures("filled")
def test_offline_what_is_not_here_is_not_said_to_be_nowhere(tmp_path, monkeypatch):
    commit = resolve("model", GPT2_SAES, "main")
    fetch_sae(commit, "blocks.8.hook_resid_pre_768", "auto", tmp_path / "768")
    fetch_model(resolve("model", GEMMA, "main"), tmp_path / "model")
    (shard,) = Path(constants.HF_HUB_CACHE).glob("models--google*/snapshots/*/model-00002*")
    shard.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    absent = (
        "is not in the hub's cache, and HF_HUB_OFFLINE is set; unset it and run snakemake fetch, "
        "where there is a network"
    )
    fetch_sae(commit, "blocks.8.hook_resid_pre_768", "auto", tmp_path / "again")
    with pytest.raises(StudyError) as caught:
        fetch_sae(commit, "blocks.8.hook_resid_pre_1536", "auto", tmp_path / "1536")
    assert str(caught.value) == f"{commit}: what is wanted of it {absent}"
    model = resolve("model", GEMMA, "main")
    with pytest.raises(StudyError) as caught:
        fetch_model(model, tmp_path / "gemma")
    assert str(caught.value) == f"{model}: what is wanted of it {absent}"
    with pytest.raises(StudyError) as caught:
        resolve("model", GPT2, "main")
    assert str(caught.value) == f"{GPT2}: which commit main is, {absent}"
    assert {path.name for path in tmp_path.iterdir()} == {"768", "model", "again"}
