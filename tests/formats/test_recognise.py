"""Files that are no SAE of a format that is read: what they are is said, and never guessed."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from helpers.sae_files import (
    CFG,
    D_MODEL,
    D_SAE,
    JUMPRELU,
    LINEAR,
    SPARSIFY,
    STANDARD,
    dictionary_case,
    dictionary_folder,
    saelens_folder,
    sparsify_folder,
    weights,
)
from sae_stitching.base.errors import StudyError
from sae_stitching.formats import find, find_local, recognise
from sae_stitching.formats.pretrained import load_sae
from safetensors.torch import save, save_file

FORMATS = (
    "saelens, gemma-scope, dictionary-learning, sparsify, gemma-scope-2, qwen-scope, llama-scope, "
    "llama-scope-r1-distill, connor-rob, goodfire, deepseek-r1, openai, apollo"
)
UNREAD = f", which is not read; name an SAE of {FORMATS}"
NOTHING = (
    "there is no sae_weights.safetensors or params.npz or ae.pt or sae.safetensors or "
    "params.safetensors or checkpoints/final.safetensors; name the folder of an SAE, or its file "
    "of weights"
)
CROSSCODER = "a crosscoder or a cross-layer transcoder (its matrices have three dimensions)"


def complaint(path: Path, read: Callable[[str], Any] = find_local) -> str:
    with pytest.raises(StudyError) as caught:
        read(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ").replace(f"{path}/", "")


def lower(tensors: dict[str, torch.Tensor], **more: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**{name.replace("W_", "w_"): tensor for name, tensor in tensors.items()}, **more}


# Other libraries' files of weights, under names that they have


AFFINE = {"affine_skip_connection": torch.zeros(D_MODEL, D_MODEL)}
LINEARS = {**LINEAR, "encoder.bias": (D_SAE,), "decoder.bias": (D_MODEL,)}
OPENAI = {
    **LINEAR,
    "pre_bias": (D_MODEL,),
    "latent_bias": (D_SAE,),
    "stats_last_nonzero": (D_SAE,),
}
GOODFIRE = {
    "encoder_linear.weight": (D_SAE, D_MODEL),
    "encoder_linear.bias": (D_SAE,),
    "decoder_linear.weight": (D_MODEL, D_SAE),
    "decoder_linear.bias": (D_MODEL,),
}
CROSS = {"W_enc": (2, D_MODEL, D_SAE), "W_dec": (D_SAE, 2, D_MODEL), "b_enc": (D_SAE,)}
TURNED = {**STANDARD, "W_enc": (D_SAE, D_MODEL), "W_dec": (D_MODEL, D_SAE)}
E2E = {"saes.blocks-6-hook_resid_pre.encoder.0.weight": (D_SAE, D_MODEL)}
SAFETENSORS: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "layer_7_width_16k.safetensors": (
        lower(weights(**JUMPRELU), **AFFINE),
        "one of Gemma Scope 2's transcoders",
    ),
    "crosscoder.safetensors": (weights(**CROSS), CROSSCODER),
    "skip.safetensors": (
        weights(**STANDARD, W_skip=(D_MODEL, D_MODEL)),
        "a transcoder with a skip connection",
    ),
    "W_enc_3.safetensors": (weights(W_enc_3=(4, 4)), "a layer of a cross-layer transcoder"),
    "layer_7.safetensors": (
        weights(**{**STANDARD, "W_enc": (D_SAE, D_MODEL)}),
        "one of circuit-tracer's transcoders",
    ),
    "latest_ckpt.safetensors": (
        weights(D=(4, 4), b=(4,), **{"attn_layers.0.q.weight": (4, 4)}),
        "a temporal SAE",
    ),
    "model.safetensors": (
        weights(**{"model.layers.0.mlp.down_proj.weight": (4, 4)}),
        "a language model",
    ),
    "gpt2.safetensors": (weights(**{"lm_head.weight": (4, 4)}), "a language model"),
    "sae-00001-of-00002.safetensors": (
        weights(part=(4, 4)),
        "a shard of a file in several parts; join them",
    ),
}
PYTORCH: dict[str, tuple[Any, str]] = {
    "pytorch_model.bin": (weights(**{"lm_head.weight": (4, 4)}), "a language model"),
    "sae.pt": (weights(**STANDARD, W_skip=(4, 4)), "a transcoder with a skip connection"),
}
# Files of formats that are read, by names that they have: tensors, what else is there, the format.
NAMED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "params.safetensors": (lower(weights(**JUMPRELU)), [], "gemma-scope-2"),
    "any.safetensors": (lower(weights(**JUMPRELU)), [], "gemma-scope-2"),
    "lm_saes.safetensors": (
        weights(**LINEARS, log_jumprelu_threshold=(D_SAE,)),
        ["config.json"],
        "llama-scope-r1-distill",
    ),
    "6.pt": (weights(**OPENAI), [], "openai"),
    "openai.pt": (
        {**weights(**OPENAI), "activation": "TopK", "activation_state_dict": {"k": 3}},
        [],
        "openai",
    ),
    "Llama-3.3-70B-Instruct-SAE-l50.pt": (weights(**GOODFIRE), [], "goodfire"),
    "Llama-3.1-8B-Instruct-SAE-l19.pth": (weights(**GOODFIRE), [], "goodfire"),
    # Not the other's, for all its name.
    "DeepSeek-R1-SAE-l37.pt": (weights(**GOODFIRE), [], "goodfire"),
    "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt": (weights(**LINEARS), [], "deepseek-r1"),
    "Llama-3.2-1B-Instruct-SAE-l9.pt": (weights(**LINEARS), [], "deepseek-r1"),
    "layer3.sae.pt": (weights(**TURNED), [], "qwen-scope"),
    "gpt2-small_L3.pt": (weights(**STANDARD), ["gpt2-small_L3_cfg.json"], "connor-rob"),
    "samples_400000.pt": (weights(**E2E), ["final_config.yaml"], "apollo"),
}


def sentence(what: str) -> str:
    return f"is {what}{'' if '; ' in what else UNREAD}"


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_of_others(tmp_path, name):
    tensors, what = SAFETENSORS[name]
    save_file(tensors, tmp_path / name)
    assert complaint(tmp_path / name) == sentence(what)
    # In a folder that holds nothing else.
    assert complaint(tmp_path) == f"holds {name}, which {sentence(what)}"
    # And where somebody gave it a name that is read.
    (tmp_path / name).rename(tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps(CFG))
    if name not in ("sae-00001-of-00002.safetensors", "layer_7.safetensors"):  # its name tells it
        assert complaint(tmp_path, load_sae) == (
            f"sae_weights.safetensors: {sentence(what)}".replace(f"{tmp_path}/", "")
        )


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", PYTORCH)
def test_pytorch_files_of_others(tmp_path, name, legacy):
    state, what = PYTORCH[name]
    path = tmp_path / name
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    assert complaint(path) == sentence(what)
    if path.suffix != ".bin":
        assert complaint(tmp_path) == f"holds {name}, which {sentence(what)}"
    tensors, _, _ = dictionary_case("AutoEncoder")
    folder = dictionary_folder(tmp_path / "named", "AutoEncoder", tensors)
    path.rename(folder / "ae.pt")
    assert complaint(folder, load_sae) == f"ae.pt: {sentence(what)}"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", NAMED)
def test_tensors_and_settings_tell_the_format(tmp_path, name, legacy):
    state, beside, format = NAMED[name]
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    for other in beside:
        (tmp_path / other).write_text("{}")
    layout = find_local(str(path))
    assert (layout.format, layout.weights) == (format, str(path))
    assert [layout.settings] == ([str(tmp_path / other) for other in beside] or [None])
    if name == "params.safetensors":  # which is called so in every folder
        assert find_local(str(tmp_path)) == layout
    else:
        assert complaint(tmp_path) == f"holds files of {format}, such as {name}; name one"
    # Where somebody gave it a name that another format has.
    if path.suffix == ".safetensors":
        folder = saelens_folder(tmp_path / "named", CFG, weights(**STANDARD))
        path.rename(folder / "sae_weights.safetensors")
        said = f"is of {format}, not of saelens; name that format"
        assert complaint(folder, load_sae) == f"sae_weights.safetensors: {said}"
    elif format not in ("qwen-scope", "connor-rob", "deepseek-r1"):  # whose tensors tell nothing
        tensors, _, _ = dictionary_case("AutoEncoder")
        folder = dictionary_folder(tmp_path / "named", "AutoEncoder", tensors)
        path.rename(folder / "ae.pt")
        said = f"is of {format}, not of dictionary-learning; name that format"
        assert complaint(folder, load_sae) == f"ae.pt: {said}"


def test_a_checkpoint_of_saev(tmp_path):
    buffer = io.BytesIO()
    torch.save(weights(**STANDARD), buffer)
    header = json.dumps({"schema": 5, "cfg": {}}).encode() + b"\n"
    (tmp_path / "sae.pt").write_bytes(header + buffer.getvalue())
    assert complaint(tmp_path / "sae.pt") == sentence("of saev")


def test_llama_scope(tmp_path):
    # Its own layout: settings in the SAE's folder, weights in one below.
    folder = tmp_path / "Llama3_1-8B-Base-L15R-8x"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "hyperparams.json").write_text("{}")
    file, pruned = (folder / "checkpoints" / f"{n}.safetensors" for n in ("final", "pruned"))
    save_file(weights(**LINEARS), file)
    for path in (folder, file):
        layout = find_local(str(path))
        assert (layout.format, layout.weights) == ("llama-scope", str(file))
        assert layout.settings == str(folder / "hyperparams.json")
    file.rename(pruned)
    layout = find_local(str(pruned))
    assert (layout.format, layout.settings) == ("llama-scope", str(folder / "hyperparams.json"))
    assert complaint(folder) == NOTHING
    pruned.rename(file)
    (folder / "hyperparams.json").unlink()
    assert complaint(file) == (
        f"{folder}/hyperparams.json: no such file, but llama-scope has it beside "
        "final.safetensors; get it too"
    )
    assert complaint(folder) == NOTHING


def test_settings_tell_weights_of_one_name_apart(tmp_path):
    tensors = weights(**LINEARS, log_jumprelu_threshold=(D_SAE,))
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert find_local(str(tmp_path)).format == "llama-scope-r1-distill"
    # Others have a config.json too, for the hub to count.
    (tmp_path / "cfg.json").write_text(json.dumps(CFG))
    assert find_local(str(tmp_path)).format == "saelens"


# Files that are not what their names say


def archive(kind: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as zipped:
            zipped.writestr("sae/cfg.json", content)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tarred:
            member = tarfile.TarInfo("sae/cfg.json")
            member.size = len(content)
            tarred.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 37758464\n"
BYTES: dict[str, tuple[bytes, str]] = {
    "Git LFS": (
        LFS,
        "a pointer of Git LFS, not the file that it stands for; fetch that with git lfs pull",
    ),
    "a page": (
        b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>",
        "a web page, not the file that was asked for; get it again",
    ),
    "an error of a store": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "a web page, not the file that was asked for; get it again",
    ),
    "an error as JSON": (b'{"error": "Repository not found"}', "JSON"),
    "gzip": (gzip.compress(b"x"), "compressed by gzip; unpack it"),
    "bzip2": (b"BZh91AY&SY", "compressed by bzip2; unpack it"),
    "xz": (b"\xfd7zXZ\x00", "compressed by xz; unpack it"),
    "Zstandard": (b"\x28\xb5\x2f\xfd\x00", "compressed by Zstandard; unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    "zip": (archive("zip", b"{}"), "a zip archive; unpack it"),
    "tar": (archive("tar", b"{}"), "a tar archive; unpack it"),
    "nothing": (b"", "empty; get it again"),
    "GGUF": (b"GGUF\x03\x00\x00\x00", "a language model in GGUF"),
    "an array": (b"\x93NUMPY\x01\x00", "one array of NumPy"),
}
FOLDERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "saelens": (
        lambda path: saelens_folder(path, CFG, weights(**STANDARD)),
        "sae_weights.safetensors",
    ),
    "sparsify": (lambda path: sparsify_folder(path, weights(**SPARSIFY)), "sae.safetensors"),
    "dictionary-learning": (
        lambda path: dictionary_folder(path, "AutoEncoder", dictionary_case("AutoEncoder")[0]),
        "ae.pt",
    ),
}


@pytest.mark.parametrize("format", FOLDERS)
@pytest.mark.parametrize("case", BYTES)
def test_something_else_under_a_name_that_is_read(tmp_path, case, format):
    make, name = FOLDERS[format]
    folder = make(tmp_path / "sae")
    content, what = BYTES[case]
    (folder / name).write_bytes(content)
    assert complaint(folder, load_sae) == f"{name}: {sentence(what)}"
    # Under another name it is told before anything runs.
    other = folder / f"other{Path(name).suffix}"
    (folder / name).rename(other)
    assert complaint(other) == sentence(what)


@pytest.mark.parametrize("case", ["Git LFS", "a page", "gzip", "nothing"])
def test_settings_that_are_something_else(tmp_path, case):
    folder = saelens_folder(tmp_path, CFG, weights(**STANDARD))
    content, what = BYTES[case]
    (folder / "cfg.json").write_bytes(content)
    assert complaint(folder, load_sae) == f"cfg.json: {sentence(what)}"


def test_containers_of_tensors_under_each_others_names(tmp_path):
    tensors = weights(**STANDARD)
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    arrays = io.BytesIO()
    np.savez(arrays, **{name: tensor.numpy() for name, tensor in tensors.items()})
    contents = {
        "a PyTorch file": buffer.getvalue(),
        "an npz file": arrays.getvalue(),
        "a safetensors file": save(tensors),
    }
    dictionary = dictionary_folder(tmp_path / "d", "AutoEncoder", dictionary_case("AutoEncoder")[0])
    of = {
        saelens_folder(tmp_path / "s", CFG, tensors) / "sae_weights.safetensors": (
            "a safetensors file"
        ),
        dictionary / "ae.pt": "a PyTorch file",
        tmp_path / "params.npz": "an npz file",
    }
    for path, own in of.items():
        for what, content in contents.items():
            path.write_bytes(content)
            if what != own:
                assert complaint(path, load_sae) == sentence(what)


def test_an_hdf5_file_is_named(tmp_path):
    with h5py.File(tmp_path / "768.h5", "w") as file:
        file["W_dec"] = np.zeros((2, 2))
    assert complaint(tmp_path / "768.h5") == sentence("an HDF5 file")


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "sae.txt").write_text("hello")
    assert complaint(tmp_path / "sae.txt") == (
        "is no .npz, .pt or .safetensors file; name the folder of an SAE, or its file of weights"
    )


def test_arrays_that_are_not_gemma_scopes(tmp_path):
    np.savez(tmp_path / "params.npz", arr_0=np.zeros(3))
    assert complaint(tmp_path / "params.npz", load_sae) == (
        "tensor b_dec is missing; the file has arr_0"
    )


# Layouts


@pytest.mark.parametrize(
    ("there", "path", "message"),
    [
        (["hyperparams.json"], "", NOTHING),
        (["conf.yaml"], "", "holds conf.yaml, of a temporal SAE" + UNREAD),
        (
            ["model.safetensors.index.json"],
            "",
            "holds model.safetensors.index.json, a file in several parts" + UNREAD,
        ),
        (
            ["wandb-config.yaml"],
            "",
            "holds wandb-config.yaml, of circuit-tracer's transcoders" + UNREAD,
        ),
        (["a.pt"], "/a.pt", "its name does not tell whose format it is; name the format"),
        (
            ["a.safetensors"],
            "/a.safetensors",
            "its name does not tell whose format it is; name the format",
        ),
        (
            ["sae_weights.safetensors"],
            "",
            "cfg.json: no such file, but saelens has it beside sae_weights.safetensors; get it too",
        ),
    ],
)
def test_layouts_in_a_repository(there, path, message):
    # Where nothing of a file is known but its name.
    with pytest.raises(StudyError) as caught:
        find(f"sae{path}", "auto", {f"sae/{name}" for name in there}.__contains__)
    said = str(caught.value).removeprefix(f"sae{path}: ").removeprefix("sae/")
    assert said == message


@pytest.mark.parametrize(
    ("there", "path", "layout"),
    [
        (["params.safetensors"], "", ("gemma-scope-2", "params.safetensors", None, None)),
        (
            ["params.safetensors", "config.json"],
            "/params.safetensors",
            ("gemma-scope-2", "params.safetensors", "config.json", None),
        ),
        (
            ["sae_weights.safetensors", "config.json"],
            "",
            ("llama-scope-r1-distill", "sae_weights.safetensors", "config.json", None),
        ),
        (
            ["checkpoints/final.safetensors", "hyperparams.json"],
            "",
            ("llama-scope", "checkpoints/final.safetensors", "hyperparams.json", None),
        ),
        (["layer0.sae.pt"], "/layer0.sae.pt", ("qwen-scope", "layer0.sae.pt", None, None)),
        (
            ["run_1.pt", "run_1_cfg.json", "config.json"],
            "/run_1.pt",
            ("connor-rob", "run_1.pt", "run_1_cfg.json", None),
        ),
        (
            ["autoencoders/8.pt"],
            "/autoencoders/8.pt",
            ("openai", "autoencoders/8.pt", None, None),
        ),
        (
            ["layers.5/seed1/cfg.json", "layers.5/seed1/sae.safetensors", "config.json"],
            "/layers.5/seed1",
            (
                "sparsify",
                "layers.5/seed1/sae.safetensors",
                "layers.5/seed1/cfg.json",
                "config.json",
            ),
        ),
    ],
)
@pytest.mark.parametrize("format", ["auto", "its own"])
def test_files_of_an_sae_in_a_repository(there, path, layout, format):
    format = format if format == "auto" else layout[0]
    found = find(f"sae{path}", format, {f"sae/{name}" for name in there}.__contains__)
    name, *files = layout
    named = [file and f"sae/{file}" for file in files]
    assert [found.format, found.weights, found.settings, found.run] == [name, *named]


def test_a_folder_of_many_is_no_file():
    with pytest.raises(StudyError) as caught:
        find("saes", "qwen-scope", {"saes/layer0.sae.pt"}.__contains__)
    said = "saes: is no file of qwen-scope, which has many in a folder; name one"
    assert str(caught.value) == said


def test_a_folder_may_have_the_name_of_a_file(tmp_path):
    for name in ("run.pt", "l0_41.npz", "v1.safetensors"):
        folder = saelens_folder(tmp_path / name, CFG, weights(**STANDARD))
        assert load_sae(folder).d_sae == D_SAE
    (tmp_path / "empty.pt").mkdir()
    assert complaint(tmp_path / "empty.pt") == NOTHING


def test_a_folder_of_folders(tmp_path):
    for name in ("layers.3", "layers.7"):
        sparsify_folder(tmp_path / name, weights(**SPARSIFY))
    assert complaint(tmp_path) == ("holds SAEs in folders of their own, such as layers.3; name one")


def test_tensors_tell_whose_a_file_of_any_name_is(tmp_path):
    folder = saelens_folder(tmp_path / "a", CFG, weights(**STANDARD))
    (folder / "sae_weights.safetensors").rename(folder / "best.safetensors")
    assert find_local(str(folder / "best.safetensors")).format == "saelens"
    folder = sparsify_folder(tmp_path / "b", weights(**SPARSIFY))
    (folder / "sae.safetensors").rename(folder / "best.safetensors")
    assert find_local(str(folder / "best.safetensors")).format == "sparsify"
    # A name of somebody else's is no proof either way: Gemma Scope's npz has the same tensors.
    arrays = {name: tensor.numpy() for name, tensor in lower(weights(**JUMPRELU)).items()}
    np.savez(tmp_path / "mine.npz", **arrays)
    assert load_sae(tmp_path / "mine.npz").d_sae == D_SAE


def test_nothing_of_a_pickle_is_run(tmp_path):
    class Code:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    for legacy in (False, True):
        torch.save({"bias": Code()}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
        assert recognise.foreign(tmp_path / "x.pt") == ""
        assert not (tmp_path / "ran").exists()
