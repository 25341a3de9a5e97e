"""What files tell of an SAE against what the study says: refused, warned of, or the same.

The files are those of test_formats.py; each case changes what they say and nothing else.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.sae_files import (
    CFG,
    D_MODEL,
    D_SAE,
    HOOK,
    OLD_CFG,
    SPARSIFY,
    STANDARD,
    dictionary_case,
    dictionary_folder,
    saelens_folder,
    sparsify_folder,
    weights,
)
from sae_stitching.base.errors import StudyError
from sae_stitching.formats import agreement, find_local, places
from sae_stitching.formats.agreement import Activations
from sae_stitching.formats.pretrained import fitted, read_files
from sae_stitching.saes.sae import SAE

STUDY: dict[str, Any] = {
    "hook": HOOK,
    "model": "gpt2",
    "dtype": "float32",
    "context": 128,
}
OTHERWISE = "or, if the study is right, add {} to the SAE's pretrained.trust"


def take(path: Path | str, name: str | None = None, trust: list[str] | None = None, **study: Any):
    """Import an SAE as the rule does."""
    sae, told = read_files(find_local(str(path)), name)
    return fitted(
        sae,
        told,
        str(path),
        d_sae=D_SAE,
        d_model=D_MODEL,
        study=Activations(**{**STUDY, **study}),
        trust=trust or [],
    )


def refused(path: Path | str, *arguments: Any, **study: Any) -> str:
    with pytest.raises(StudyError) as caught:
        take(path, *arguments, **study)
    return str(caught.value).replace(f"{path}/", "")


def saelens(folder: Path, **metadata: Any) -> Path:
    cfg = {**CFG, "metadata": {**CFG["metadata"], **metadata}}
    return saelens_folder(folder / "sae", cfg, weights(**STANDARD))


def old_saelens(folder: Path, **changes: Any) -> Path:
    return saelens_folder(folder / "sae", {**OLD_CFG, **changes}, weights(**STANDARD))


def dictionary(folder: Path, buffer: dict[str, Any] | None = None, **trainer: Any) -> Path:
    kind = trainer.get("dict_class", "AutoEncoder")
    tensors, _, _ = dictionary_case(kind)
    trainer = {"lm_name": "gpt2", "submodule_name": "resid_post_layer_7", **trainer}
    path = dictionary_folder(folder / "sae", kind, tensors, **trainer)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "buffer": buffer or {}}))
    return path


def sparsified(folder: Path, name: str, run: dict[str, Any] | None = None, **changes: Any) -> Path:
    (folder / name).mkdir(parents=True)
    if run is not None:
        whole = {"sae": {"k": 3}, "hookpoints": ["layers.7"], **run}
        (folder / "config.json").write_text(json.dumps(whole))
    return sparsify_folder(folder / name, weights(**SPARSIFY), **changes)


# SAELens, from version 6


KWARGS = "model_from_pretrained_kwargs"
CENTRED = "cfg.json: metadata.model_from_pretrained_kwargs.center_writing_weights"
HEADS = "blocks.8.attn.hook_z"
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "centred": (
        {KWARGS: {"center_writing_weights": True}},
        {},
        f"{CENTRED} is true, but model.center_writing_weights is false; change "
        f"model.center_writing_weights, {OTHERWISE.format('center_writing_weights')}",
    ),
    "not centred": (
        {KWARGS: {"center_writing_weights": False}},
        {"center_writing_weights": True},
        f"{CENTRED} is false, but model.center_writing_weights is true; change "
        f"model.center_writing_weights, {OTHERWISE.format('center_writing_weights')}",
    ),
    "not centred by default": (
        {KWARGS: {}},
        {"center_writing_weights": True},
        f"{CENTRED} (SAELens' default) is false, but model.center_writing_weights is true; change "
        f"model.center_writing_weights, {OTHERWISE.format('center_writing_weights')}",
    ),
    "a checkpoint": (
        {KWARGS: {"checkpoint_value": 3000}},
        {},
        "cfg.json: metadata.model_from_pretrained_kwargs.checkpoint_value is 'step3000', but "
        f"model.revision is not set; set model.revision, {OTHERWISE.format('revision')}",
    ),
    "a revision": (
        {KWARGS: {"revision": "step3000"}},
        {"revision": "step4000"},
        "cfg.json: metadata.model_from_pretrained_kwargs.revision is 'step3000', but "
        f"model.revision is step4000; set model.revision, {OTHERWISE.format('revision')}",
    ),
    "another model": (
        {"model_name": "pythia-70m-deduped"},
        {},
        "cfg.json: metadata.model_name is 'pythia-70m-deduped', but model.name is gpt2; name "
        f"another SAE, {OTHERWISE.format('model')}",
    ),
    "another place": (
        {"hook_name": "blocks.8.hook_resid_post"},
        {},
        "cfg.json: metadata.hook_name is 'blocks.8.hook_resid_post', but model.hook is "
        f"blocks.8.hook_resid_pre; correct model.hook, name another SAE, "
        f"{OTHERWISE.format('hook')}",
    ),
    "a place that cannot be cached": (
        {"hook_name": "blocks.8.attn.hook_z"},
        {},
        "cfg.json: metadata.hook_name is 'blocks.8.attn.hook_z', but model.hook is "
        f"blocks.8.hook_resid_pre; correct model.hook, name another SAE, "
        f"{OTHERWISE.format('hook')}",
    ),
    "Hugging Face's name": (
        {"hook_name": "transformer.h.8.mlp", "model_class_name": "AutoModelForCausalLM"},
        {},
        "cfg.json: metadata.hook_name is 'transformer.h.8.mlp' (blocks.8.hook_mlp_out), but "
        "model.hook is blocks.8.hook_resid_pre; correct model.hook, name another SAE, "
        f"{OTHERWISE.format('hook')}",
    ),
    "a place that is not understood": (
        {"hook_name": "stem.8.residual"},
        {},
        "cfg.json: metadata.hook_name is 'stem.8.residual', which is not understood as a place in "
        "the model, and model.hook is blocks.8.hook_resid_pre; correct model.hook, name another "
        f"SAE, {OTHERWISE.format('hook')}",
    ),
    "heads without the bias of their values": (
        {"hook_name": HEADS, KWARGS: {"fold_value_biases": True}},
        {"hook": HEADS},
        "cfg.json: metadata.model_from_pretrained_kwargs.fold_value_biases is true, so that the "
        "SAE was trained on heads without the bias of their values, which the study's heads have; "
        "name another SAE, unless the model's values have no bias, "
        f"{OTHERWISE.format('fold_value_biases')}",
    ),
    "a head": (
        {"hook_head_index": 3},
        {},
        "cfg.json: metadata.hook_head_index is 3: it reads one attention head, and model.hook no "
        f"head; correct model.hook, name another SAE, {OTHERWISE.format('hook')}",
    ),
    "another layer beside the place": (
        {"hook_layer": 7},
        {},
        "cfg.json: metadata.hook_name is 'blocks.8.hook_resid_pre', but cfg.json: "
        f"metadata.hook_layer is 7; correct model.hook, name another SAE, "
        f"{OTHERWISE.format('hook')}",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_study_contradicts_is_refused_unless_trusted(tmp_path, caplog, case):
    metadata, study, message = REFUSED[case]
    folder = saelens(tmp_path, **metadata)
    assert refused(folder, **study) == message
    topic = message.removesuffix(" to the SAE's pretrained.trust").rpartition(" ")[2]
    others = [other for other in agreement.TRUSTED if other != topic]
    assert refused(folder, None, others, **study) == message
    assert not caplog.text
    sae = take(folder, trust=[topic], **study)
    assert (sae.hook, sae.model) == (study.get("hook", HOOK), "gpt2")
    complaint = message.partition("; ")[0]
    assert f"{complaint}; trusted, since pretrained.trust has {topic}" in caplog.text.replace(
        f"{folder}/", ""
    )


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as the study": ({}, {}),
    "centred": (
        {KWARGS: {"center_writing_weights": True, "fold_ln": False}},
        {"center_writing_weights": True},
    ),
    "what leaves the block before": ({"hook_name": "blocks.7.hook_resid_post"}, {}),
    "Hugging Face's name": ({"hook_name": "transformer.h.7"}, {}),
    "the second name": ({"hook_name": None, "hf_hook_name": "transformer.h.7.output"}, {}),
    "its layer": ({"hook_layer": 8}, {}),
    "no head": ({"hook_head_index": None}, {}),
    "the model's other name": ({"model_name": "openai-community/gpt2"}, {}),
    "names of one Llama": (
        {"model_name": "meta-llama/Llama-3.1-8B"},
        {"model": "meta-llama/Meta-Llama-3.1-8B"},
    ),
    "TransformerLens' short name": (
        {"model_name": "pythia-70m"},
        {"model": "EleutherAI/pythia-70m"},
    ),
    "a checkpoint": ({KWARGS: {"checkpoint_value": 7}}, {"revision": "step7"}),
    "the usual branch": ({KWARGS: {"revision": "main"}}, {"revision": "0" * 40}),
    "its precision": ({KWARGS: {"dtype": "torch.float32"}}, {}),
    "longer sequences": ({"context_size": 1024, "prepend_bos": True}, {}),
    "all positions": ({"seqpos_slice": [None]}, {}),
    "all but BOS": ({"seqpos_slice": [1, None], "exclude_special_tokens": True}, {}),
}


@pytest.mark.parametrize("case", SAME)
def test_what_agrees_is_not_spoken_of(tmp_path, caplog, case):
    caplog.set_level(logging.INFO)
    metadata, study = SAME[case]
    take(saelens(tmp_path, **metadata), **study)
    assert not caplog.text


WARNED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no BOS": (
        {"prepend_bos": False},
        {},
        "cfg.json: metadata.prepend_bos is false, but the study's sequences begin with BOS",
    ),
    "shorter sequences": (
        {"context_size": 64},
        {},
        "cfg.json: metadata.context_size is 64, but tokens.context is 128: the SAE has seen no "
        "position beyond its own",
    ),
    "fewer positions": (
        {"seqpos_slice": [5, 100]},
        {},
        "cfg.json: metadata.seqpos_slice leaves out positions before 5, but "
        "activations.skip_first_position is true",
    ),
    "positions that end": (
        {"seqpos_slice": [5, 100]},
        {},
        "cfg.json: metadata.seqpos_slice ends at position 100, but tokens.context is 128",
    ),
    "no special tokens": (
        {"exclude_special_tokens": True},
        {"skip_first_position": False},
        "cfg.json: metadata.exclude_special_tokens leaves out positions before 1, but "
        "activations.skip_first_position is false",
    ),
    "another precision": (
        {KWARGS: {"torch_dtype": "bfloat16"}},
        {},
        "cfg.json: metadata.model_from_pretrained_kwargs.torch_dtype is 'bfloat16', but "
        "model.dtype is float32",
    ),
    "another way to load the model": (
        {KWARGS: {"rotate_basis": True}},
        {},
        "cfg.json: metadata.model_from_pretrained_kwargs.rotate_basis is True, which is not "
        "understood; see that the SAE does not need it",
    ),
    "another class of model": (
        {"model_class_name": "HookedMamba"},
        {},
        "cfg.json: metadata.model_class_name is 'HookedMamba', which is not understood; see that "
        "the SAE does not need it",
    ),
    "a setting of the future": (
        {"preprocessing": "pca"},
        {},
        "cfg.json: metadata.preprocessing is 'pca', which is not understood; see that the SAE does "
        "not need it",
    ),
    "no number": (
        {"context_size": "long"},
        {},
        "cfg.json: metadata.context_size is 'long', which is not understood; see that the SAE does "
        "not need it",
    ),
    "strange positions": (
        {"seqpos_slice": [0, 10, 2]},
        {},
        "cfg.json: metadata.seqpos_slice is [0, 10, 2], which is not understood; see that the SAE "
        "does not need it",
    ),
    "a folder's model": (
        {"model_name": "pythia-70m"},
        {"model": "models/mine", "published": False},
        "cfg.json: metadata.model_name is 'pythia-70m'; that the study's model, models/mine, is "
        "the same is not known",
    ),
    "no place": (
        {"hook_name": None},
        {},
        "sae does not say its hook; taken for blocks.8.hook_resid_pre",
    ),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_may_be_harmless_is_warned_of(tmp_path, caplog, case):
    metadata, study, message = WARNED[case]
    folder = saelens(tmp_path, **metadata)
    take(folder, **study)
    said = [record.getMessage().replace(f"{tmp_path}/", "") for record in caplog.records]
    assert message in [line.replace("sae/cfg", "cfg") for line in said]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_settings_that_no_version_has_are_warned_of(tmp_path, caplog):
    folder = saelens_folder(tmp_path / "sae", CFG, weights(**STANDARD), input_rotation=2, other={})
    take(folder)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{folder}/cfg.json: input_rotation is 2, which is not understood; see that the SAE does "
        "not need it"
    )


def test_a_transcoder_of_saelens_is_refused(tmp_path):
    folder = saelens(tmp_path, hook_name_out="blocks.8.hook_mlp_out")
    assert refused(folder) == (
        "cfg.json: metadata.hook_name_out is 'blocks.8.hook_mlp_out', so that this is a "
        "transcoder; only SAEs can be imported"
    )


# Before version 6


def test_older_settings_speak_under_their_own_names(tmp_path, caplog):
    folder = old_saelens(tmp_path)
    take(folder)
    assert not caplog.text
    old_saelens(tmp_path, hook_point_layer=7, context_size=32, input_rotation=2)
    assert refused(folder).startswith(
        "cfg.json: hook_point is 'blocks.8.hook_resid_pre', but cfg.json: hook_point_layer is 7; "
    )
    caplog.clear()
    old_saelens(tmp_path, context_size=32, input_rotation=2)
    take(folder)
    said = [record.getMessage().replace(f"{folder}/", "") for record in caplog.records]
    assert said == [
        "cfg.json: context_size is 32, but tokens.context is 128: the SAE has seen no position "
        "beyond its own",
        "cfg.json: input_rotation is 2, which is not understood; see that the SAE does not need it",
    ]


def test_metadata_without_a_version_still_speaks(tmp_path):
    # SAELens reads it as older than 6 and forgets the metadata.
    metadata = {"hook_name": "blocks.3.hook_resid_pre", "model_name": "gpt2-small"}
    cfg = {key: value for key, value in CFG.items() if key != "metadata"}
    folder = saelens_folder(tmp_path / "sae", cfg, weights(**STANDARD), metadata=metadata)
    assert refused(folder).startswith(
        "cfg.json: metadata.hook_name is 'blocks.3.hook_resid_pre', but model.hook is "
    )


def test_what_stands_beside_the_metadata_speaks_too(tmp_path):
    metadata = {key: value for key, value in CFG["metadata"].items() if key != "hook_name"}
    changes = {"metadata": metadata, "hook_name": "blocks.3.hook_resid_pre"}
    folder = saelens_folder(tmp_path / "sae", CFG, weights(**STANDARD), **changes)
    assert refused(folder).startswith("cfg.json: hook_name is 'blocks.3.hook_resid_pre', but ")


REGISTERED = "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8"


@pytest.mark.parametrize("place", [REGISTERED, f"models--{REGISTERED.replace('/', '--')}"])
def test_what_saelens_corrects_in_a_published_file_holds(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    folder = old_saelens(tmp_path / place)
    assert refused(folder) == (
        "cfg.json: SAELens' model_from_pretrained_kwargs for this repository"
        ".center_writing_weights is true, but model.center_writing_weights is false; change "
        f"model.center_writing_weights, {OTHERWISE.format('center_writing_weights')}"
    )
    take(folder, center_writing_weights=True)
    (tmp_path / "copy").mkdir()
    elsewhere = old_saelens(tmp_path / "copy")
    take(elsewhere)
    with pytest.raises(StudyError, match="SAELens' model_from_pretrained_kwargs"):
        take(elsewhere, f"{REGISTERED}/768/sae_weights.safetensors")


def test_a_norm_of_each_token_that_saelens_knows_of_is_set(tmp_path):
    folder = old_saelens(tmp_path)
    name = "JoshEngels/Mistral-7B-Residual-Stream-SAEs/8/sae_weights.safetensors"
    sae, _ = read_files(find_local(str(folder)), name)
    assert sae.normalize == "constant_norm_rescale"
    sae, _ = read_files(find_local(str(folder)))
    assert sae.normalize is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"activation_fn": "topk", "activation_fn_kwargs": {"k": 3, "signed": True}},
            "cfg.json: activation_fn_kwargs.signed is True, which is unknown for topk; only k of "
            "topk can be imported",
        ),
        (
            {"activation_fn_kwargs": {"slope": 0.1}},
            "cfg.json: activation_fn_kwargs.slope is 0.1, which is unknown for relu; only k of "
            "topk can be imported",
        ),
    ],
)
def test_an_activation_function_with_more_than_k_is_refused(tmp_path, options, message):
    assert refused(old_saelens(tmp_path, **options)) == message


# dictionary_learning


SUBMODULE = "config.json: trainer.submodule_name"


@pytest.mark.parametrize(
    "trainer",
    [
        {},
        {"submodule_name": "model.layers.7", "layer": 7},
        {"submodule_name": "model.layers[7].output[0]"},
        {"submodule_name": "gpt_neox.layers.7"},
        {"submodule_name": "resid_pre_layer_8", "layer": 8},
        {"submodule_name": None, "layer": 7},  # the library's own meaning: what leaves the block
        {"norm_factor": 3.1, "group_fractions": [0.5, 0.5], "group_weights": None},
    ],
)
def test_a_dictionary_of_the_studys_place(tmp_path, caplog, trainer):
    take(dictionary(tmp_path, **trainer))
    assert not caplog.text


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            {"submodule_name": "model.layers.5", "layer": 5},
            f"{SUBMODULE} is 'model.layers.5' (blocks.5.hook_resid_post), but model.hook is {HOOK}",
        ),
        (
            {"submodule_name": "attn_layer_7"},
            f"{SUBMODULE} is 'attn_layer_7' (blocks.7.hook_attn_out), but model.hook is {HOOK}",
        ),
        (
            {"submodule_name": "resid_post_layer_7", "layer": 6},
            f"{SUBMODULE} is 'resid_post_layer_7', but config.json: trainer.layer is 6",
        ),
        (
            {"submodule_name": None, "layer": 8},
            "config.json: trainer.layer is 'layer_8' (blocks.8.hook_resid_post), but model.hook is "
            f"{HOOK}",
        ),
        (
            {"submodule_name": "second_residual"},
            f"{SUBMODULE} is 'second_residual', which is not understood as a place in the model, "
            f"and model.hook is {HOOK}",
        ),
        (
            {"lm_name": "EleutherAI/pythia-70m-deduped"},
            "config.json: trainer.lm_name is 'EleutherAI/pythia-70m-deduped', but model.name is "
            "gpt2",
        ),
    ],
)
def test_a_dictionary_of_something_else_is_refused(tmp_path, trainer, message):
    assert refused(dictionary(tmp_path, **trainer)).partition("; ")[0] == message


def test_a_dictionary_of_what_goes_into_a_module(tmp_path):
    trainer = {"submodule_name": "transformer.h.8", "layer": 8}
    folder = dictionary(tmp_path, {"io": "in"}, **trainer)
    take(folder)
    dictionary(tmp_path, {"io": "in"}, submodule_name="transformer.h.8.mlp", layer=8)
    assert "'transformer.h.8.mlp.input' (blocks.8.ln2.hook_normalized)" in refused(folder)
    dictionary(tmp_path, {"io": "in"})
    assert "'resid_post_layer_7.input', which is not understood" in refused(folder)
    dictionary(tmp_path, {"io": "in_and_out"})
    assert refused(folder) == (
        "config.json: buffer.io is 'in_and_out', so that this is a transcoder; only SAEs can be "
        "imported"
    )


def test_a_dictionary_of_other_sequences_or_with_new_settings(tmp_path, caplog):
    folder = dictionary(tmp_path, {"ctx_len": 64, "remove_bos": True, "whiten": True}, tilt=0.5)
    take(folder, skip_first_position=False)
    said = [record.getMessage().replace(f"{folder}/", "") for record in caplog.records]
    need = "which is not understood; see that the SAE does not need it"
    assert said == [
        "config.json: buffer.ctx_len is 64, but tokens.context is 128: the SAE has seen no "
        "position beyond its own",
        "config.json: buffer.remove_bos leaves out positions before 1, but "
        "activations.skip_first_position is false",
        f"config.json: trainer.tilt is 0.5, {need}",
        f"config.json: buffer.whiten is True, {need}",
    ]


@pytest.mark.parametrize("kind", ["AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_a_dictionary_whose_files_have_two_k(tmp_path, kind):
    # The library refuses it too.
    folder = dictionary(tmp_path, dict_class=kind, k=4)
    assert refused(folder) == "ae.pt: k is 3, but config.json says trainer.k is 4"


# sparsify


@pytest.mark.parametrize("name", ["layers.7", "h.7", "transformer.h.7", "layers.7/seed1", "mine"])
def test_a_sparse_coder_of_the_studys_place(tmp_path, caplog, name):
    take(sparsified(tmp_path, name))
    said = f"{tmp_path / name} does not say its hook; taken for {HOOK}"
    assert caplog.messages == ([said] if name == "mine" else [])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt_neox.layers.5.attention", " (blocks.5.hook_attn_out), but model.hook is"),
        ("layers.8", " (blocks.8.hook_resid_post), but model.hook is"),
        ("embed_tokens", " (hook_embed), but model.hook is"),
        ("layers.7.router", ", which is not understood as a place in the model, and model.hook is"),
    ],
)
def test_a_sparse_coder_of_another_place_is_refused(tmp_path, name, said):
    folder = sparsified(tmp_path, name)
    assert refused(folder).partition("; ")[0] == (
        f"sae.safetensors: the folder's name is '{name}'{said} {HOOK}"
    )


def test_the_run_of_a_sparse_coder_speaks_too(tmp_path, caplog):
    folder = sparsified(tmp_path, "layers.7", {"model": "gpt2", "ctx_len": 128, "revision": None})
    take(folder)
    assert not caplog.text
    run = {"model": "gpt2", "ctx_len": 32, "load_in_8bit": True}
    folder = sparsified(tmp_path / "short", "layers.7/seed0", run)
    take(folder)
    said = [message.replace(f"{tmp_path}/short/", "") for message in caplog.messages]
    assert said == [
        "config.json: ctx_len is 32, but tokens.context is 128: the SAE has seen no position "
        "beyond its own",
        "config.json: load_in_8bit is True, which is not understood; see that the SAE does not "
        "need it",
    ]
    folder = sparsified(tmp_path / "other", "layers.7", {"model": "EleutherAI/pythia-160m"})
    assert "config.json: model is 'EleutherAI/pythia-160m', but model.name is gpt2" in refused(
        folder
    )
    folder = sparsified(tmp_path / "trans", "layers.7", {"transcode": True})
    assert refused(folder).endswith("config.json: transcode is True; only False can be imported")


@pytest.mark.parametrize("key", ["signed", "skip_connection", "transcode"])
def test_what_a_sparse_coder_cannot_be(tmp_path, key):
    folder = sparsified(tmp_path, "layers.7", **{key: True})
    assert refused(folder) == f"cfg.json: {key} is True; only False can be imported"


def test_a_setting_of_sparsify_that_is_new(tmp_path, caplog):
    folder = sparsified(tmp_path, "layers.7", multi_topk=True, rotate=True)
    take(folder)
    assert caplog.messages == [
        f"{folder}/cfg.json: rotate is True, which is not understood; see that the SAE does not "
        "need it"
    ]


# Gemma Scope, whose files tell nothing but by their path


GEMMA: dict[str, Any] = {"hook": "blocks.7.hook_resid_post", "model": "google/gemma-2-2b"}


def gemma_scope(folder: Path, shape: tuple[int, int] = (D_MODEL, D_SAE)) -> Path:
    d_model, d_sae = shape
    shapes = {"W_enc": shape, "W_dec": shape[::-1], "b_enc": (d_sae,), "b_dec": (d_model,)}
    arrays = {name: np.ones(size, np.float32) for name, size in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "params.npz", **arrays, threshold=np.ones(d_sae, np.float32))
    return folder


PATH = "google/gemma-scope-2b-pt-res/layer_7/width_16k/average_l0_41/params.npz"


def test_a_path_on_the_hub_tells_the_place_and_the_model(tmp_path, caplog):
    folder = gemma_scope(tmp_path / "sae")
    take(folder, PATH, **GEMMA, context=1024)
    assert not caplog.text
    take(folder, PATH, **{**GEMMA, "hook": "blocks.8.hook_resid_pre"}, context=2048)
    assert caplog.messages == [
        "the context of Gemma Scope's training is 1024, but tokens.context is 2048: the SAE has "
        "seen no position beyond its own"
    ]
    caplog.clear()
    take(folder, **GEMMA)
    assert caplog.messages == [f"{folder} does not say its hook; taken for {GEMMA['hook']}"]


@pytest.mark.parametrize(
    ("path", "study", "message"),
    [
        (
            PATH,
            {"hook": "blocks.8.hook_resid_post"},
            f"{PATH}: the path is 'blocks.7.hook_resid_post', but model.hook is "
            "blocks.8.hook_resid_post",
        ),
        (
            PATH.replace("-res", "-att"),
            {},
            f"{PATH.replace('-res', '-att')}: the path is 'blocks.7.attn.hook_z', but model.hook "
            "is blocks.7.hook_resid_post",
        ),
        (
            PATH.replace("2b-pt", "9b-it"),
            {},
            f"{PATH.replace('2b-pt', '9b-it')}: the path is 'google/gemma-2-9b-it', but model.name "
            "is google/gemma-2-2b",
        ),
        (
            PATH.replace("-res", "-transcoders"),
            {},
            f"{PATH.replace('-res', '-transcoders')}: is one of Gemma Scope's transcoders, no SAE",
        ),
    ],
)
def test_another_path_on_the_hub_is_refused(tmp_path, path, study, message):
    folder = gemma_scope(tmp_path / "sae")
    assert refused(folder, path, **{**GEMMA, **study}).partition("; ")[0] == message


def test_saes_of_embeddings_are_of_the_embedding_alone(tmp_path, caplog):
    embedding = {**GEMMA, "hook": "hook_embed"}
    folder = gemma_scope(tmp_path / "sae")
    path = PATH.replace("layer_7/width_16k", "embedding/width_4k")
    take(folder, path, **embedding)
    assert not caplog.text
    elsewhere = "is 'hook_embed', but model.hook is blocks.7.hook_resid_post"
    assert refused(folder, path, **GEMMA).startswith(f"{path}: the path {elsewhere}")
    # Without its path, by its size: no other SAE of Gemma Scope is so small.
    _, told = read_files(find_local(str(gemma_scope(tmp_path / "mine", (2304, 4096)))), "mine")
    assert told.said["hook"].value == "hook_embed"
    assert told.said["hook"].where.endswith("params.npz: 4096 latents, as of embeddings alone")


# Names of places


PLACES = {
    # Hugging Face's
    "gpt_neox.layers.5": "blocks.5.hook_resid_post",
    "gpt_neox.layers.5.attention": "blocks.5.hook_attn_out",
    "gpt_neox.layers.5.attention.dense": "blocks.5.hook_attn_out",
    "gpt_neox.layers.5.input_layernorm": "blocks.5.ln1.hook_normalized",
    "gpt_neox.embed_in": "hook_embed",
    "model.layers.5": "blocks.5.hook_resid_post",
    "model.layers.5.mlp": "blocks.5.hook_mlp_out",
    "model.layers.5.mlp.down_proj": "blocks.5.hook_mlp_out",
    "model.layers.5.self_attn": "blocks.5.hook_attn_out",
    "model.layers.5.input_layernorm": "blocks.5.ln1.hook_normalized",
    "model.layers.5.post_attention_layernorm": "blocks.5.ln2.hook_normalized",
    "model.language_model.layers.5": "blocks.5.hook_resid_post",
    "model.decoder.layers.5": "blocks.5.hook_resid_post",
    "model.embed_tokens": "hook_embed",
    "model.norm": "ln_final.hook_normalized",
    "transformer.h.5": "blocks.5.hook_resid_post",
    "transformer.h.5.attn": "blocks.5.hook_attn_out",
    "transformer.h.5.ln_2": "blocks.5.ln2.hook_normalized",
    "transformer.wte": "hook_embed",
    # TransformerLens'
    "blocks.5.hook_resid_post": "blocks.5.hook_resid_post",
    "blocks.5.hook_mlp_out": "blocks.5.hook_mlp_out",
    "blocks.5.attn.hook_z": "blocks.5.attn.hook_z",
    "blocks.5.ln1.hook_normalized": "blocks.5.ln1.hook_normalized",
    "blocks.5.hook_out": "blocks.5.hook_resid_post",
    "blocks.5.mlp.hook_out": "blocks.5.hook_mlp_out",
    "hook_embed": "hook_embed",
    # nnsight's
    "model.layers[5].output[0]": "blocks.5.hook_resid_post",
    "model.layers[5].output": "blocks.5.hook_resid_post",
    "model.layers[5].input": "blocks.5.hook_resid_pre",
    "model.layers.5.inputs[0][0]": "blocks.5.hook_resid_pre",
    "model.layers[5].self_attn.o_proj.input": "blocks.5.attn.hook_z",
    "model.layers[5].post_attention_layernorm.input": "blocks.5.hook_resid_mid",
    # sparsify's folders
    "layers.5": "blocks.5.hook_resid_post",
    "layers_5": "blocks.5.hook_resid_post",
    "h.5.mlp": "blocks.5.hook_mlp_out",
    # dictionary_learning's
    "resid_post_layer_5": "blocks.5.hook_resid_post",
    "resid_out_layer5": "blocks.5.hook_resid_post",
    "attn_layer_5": "blocks.5.hook_attn_out",
    "attention_out_layer_5": "blocks.5.hook_attn_out",
    "mlp_out_layer_5": "blocks.5.hook_mlp_out",
    # Not understood
    "vision_tower.encoder.layers.5": "",
    "encoder.layer.5": "",
    "model.layers.5.router": "",
    "model.layers[5].output[1]": "",
    "residual": "",
    "": "",
}


@pytest.mark.parametrize("name", PLACES)
def test_names_of_places(name):
    assert places.hook(name) == PLACES[name]


def test_norms_after_attention_and_mlp_lie_between_a_module_and_its_hook():
    # Gemma 2: TransformerLens' hook is of what the norm gives.
    assert places.hook("model.layers.5.mlp", post_norms=True) == "blocks.5.mlp.hook_out"
    assert places.hook("resid_post_layer_5", post_norms=True) == "blocks.5.hook_resid_post"
    for name, point in (("post_attention", "attn"), ("post_feedforward", "mlp")):
        found = places.hook(f"model.layers.5.{name}_layernorm", post_norms=True)
        assert found == f"blocks.5.hook_{point}_out"


@pytest.mark.parametrize("config", [None, "gemma2", "llama"])
def test_whether_a_model_has_such_norms_shows_in_its_name_or_its_config(tmp_path, config):
    folder = dictionary(tmp_path, submodule_name="mlp_out_layer_5", layer=5, lm_name=None)
    model = {"model": "google/gemma-2-2b", "hook": "blocks.5.hook_mlp_out"}
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": config}))
        model |= {"model": str(tmp_path), "published": False}
    if config == "llama":
        take(folder, **model)
    else:
        assert "(blocks.5.mlp.hook_out), but model.hook is blocks.5.hook_mlp_out" in refused(
            folder, **model
        )


def test_what_leaves_a_block_is_what_enters_the_next():
    assert places.same("blocks.5.hook_resid_post", "blocks.6.hook_resid_pre")
    assert not places.same("blocks.5.hook_resid_post", "blocks.5.hook_resid_pre")


def test_an_sae_in_memory_keeps_the_name_that_nobody_understands(tmp_path):
    sae, _ = read_files(find_local(str(saelens(tmp_path, hook_name="stem.8"))))
    assert isinstance(sae, SAE) and sae.hook == "stem.8"
