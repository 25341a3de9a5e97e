"""The language model up to a hook, against plain transformers."""

import json
import logging
import subprocess
import sys

import pytest
import torch
from helpers.architectures import (
    ARCHITECTURES,
    CONTEXT,
    D_HEADS,
    D_MODEL,
    D_VOCAB,
    N_LAYERS,
    make_model,
)
from sae_stitching.activations import language_model
from sae_stitching.activations.language_model import LanguageModel, model_facts, parse_hook
from sae_stitching.base.errors import StudyError
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

# Submodules of a transformers block, by hook: (module, whether its input or its output).
_LLAMA = {
    "hook_resid_mid": ("post_attention_layernorm", "input"),
    "hook_attn_out": ("self_attn", "output"),
    "hook_mlp_out": ("mlp", "output"),
    "attn.hook_z": ("self_attn.o_proj", "input"),
}
# What Gemma adds to the residual stream has been normalised once more.
_GEMMA = {
    **_LLAMA,
    "hook_resid_mid": ("pre_feedforward_layernorm", "input"),
    "hook_attn_out": ("post_attention_layernorm", "output"),
    "hook_mlp_out": ("post_feedforward_layernorm", "output"),
}
REFERENCE = {
    "gpt2": {
        "hook_resid_mid": ("ln_2", "input"),
        "hook_attn_out": ("attn", "output"),
        "hook_mlp_out": ("mlp", "output"),
        "attn.hook_z": ("attn.c_proj", "input"),
    },
    # Attention and MLP side by side, and no place between them.
    "gpt_neox": {
        "hook_attn_out": ("attention", "output"),
        "hook_mlp_out": ("mlp", "output"),
        "attn.hook_z": ("attention.dense", "input"),
    },
    **dict.fromkeys(("llama", "qwen2", "qwen3"), _LLAMA),
    **dict.fromkeys(("gemma2", "gemma3_text", "gemma3"), _GEMMA),
}
BLOCKS = {
    **dict.fromkeys(ARCHITECTURES, "model.layers"),
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "gemma3": "model.language_model.layers",
}
EMBEDDINGS = {
    **dict.fromkeys(ARCHITECTURES, "model.embed_tokens"),
    "gpt2": "transformer.wte",
    "gpt_neox": "gpt_neox.embed_in",
    "gemma3": "model.language_model.embed_tokens",
}
BETWEEN = ["hook_resid_pre", "hook_resid_post"]
# At layers where they are computed alike, and where something may go wrong.
HOOKS = [
    (architecture, hook)
    for architecture in ARCHITECTURES
    for hook in [
        "hook_embed",
        *(f"blocks.{layer}.{point}" for point in BETWEEN for layer in (0, 1, N_LAYERS - 1)),
        *(f"blocks.{layer}.{point}" for point in REFERENCE[architecture] for layer in (0, 2)),
    ]
]
# Those that transformers' own model gives.
PLAIN = [
    "hook_embed",
    "blocks.1.hook_resid_pre",
    "blocks.1.hook_resid_post",
    "blocks.1.attn.hook_z",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: make_model(name, root / name) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 256, (3, CONTEXT), generator=torch.Generator().manual_seed(0))


def reference(folder, architecture, tokens, hook, replace=None):
    """Compute a hook's activations with transformers alone, and what the model says after it.

    With ``replace`` the model goes on with what it makes of them.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    found = []

    def hooked(name, side, change):
        module = model.get_submodule(name)

        def before(_, args, kwargs):
            value = args[0] if args else kwargs["hidden_states"]
            changed = change(value)
            if args:
                return (changed, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": changed}

        def after(_, __, output):
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            return change(output)

        if side == "input":
            module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            module.register_forward_hook(after)

    def at(activations):
        found.append(activations)
        return activations if replace is None else replace(activations)

    if hook == "hook_embed":
        hooked(EMBEDDINGS[architecture], "output", at)
    else:
        _, layer, point = hook.split(".", 2)
        sides = {
            "hook_resid_pre": ("", "input"),
            "hook_resid_post": ("", "output"),
            **REFERENCE[architecture],
        }
        block = f"{BLOCKS[architecture]}.{layer}"
        name, side = sides[point]
        if point == "hook_resid_mid" and replace is not None:
            # There is no module between the two branches: attention is made to write what turns
            # the stream into the new one.
            entered = []
            hooked(block, "input", lambda x: entered.append(x) or x)
            name, side = sides["hook_attn_out"]
            hooked(f"{block}.{name}", side, lambda x: at(entered[-1] + x) - entered[-1])
        else:
            hooked(f"{block}.{name}".rstrip("."), side, at)
    with torch.inference_mode():
        result = model(tokens, output_hidden_states=True)
    if replace is None and hook.endswith("hook_resid_pre"):
        torch.testing.assert_close(found[0], result.hidden_states[int(layer)])
    # The last one is normalised.
    if replace is None and hook.endswith("hook_resid_post") and int(layer) < N_LAYERS - 1:
        torch.testing.assert_close(found[0], result.hidden_states[int(layer) + 1])
    return found[0], result.logits


def loss(logits, tokens):
    return cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize(("architecture", "hook"), HOOKS)
def test_hook_matches_transformers(folders, tokens, architecture, hook):
    folder = folders[architecture]
    model = LanguageModel(folder, hook, dtype="float32")
    width = D_HEADS[architecture] if hook.endswith("hook_z") else D_MODEL
    assert (model.n_layers, model.d_model, model.context) == (N_LAYERS, width, CONTEXT)
    assert model.d_vocab == D_VOCAB
    first, again = model(tokens), model(tokens)
    expected, logits = reference(folder, architecture, tokens, hook)
    assert first.shape == (*tokens.shape, width)
    torch.testing.assert_close(first, expected)
    assert torch.equal(first, again)
    assert first.dtype == torch.float32
    # What the model goes on with is what is put there.
    clean = loss(logits, tokens)
    torch.testing.assert_close(loss(model.logits(tokens), tokens), clean)
    torch.testing.assert_close(loss(model.logits(tokens, lambda x: x), tokens), clean)
    _, logits = reference(folder, architecture, tokens, hook, torch.zeros_like)
    zero = loss(logits, tokens)
    torch.testing.assert_close(loss(model.logits(tokens, torch.zeros_like), tokens), zero)
    assert abs(zero - clean) > 1e-3


def test_no_place_between_attention_and_mlp_that_stand_side_by_side(folders):
    with pytest.raises(StudyError, match=r"model\.hook: .* has no blocks\.1\.hook_resid_mid"):
        LanguageModel(folders["gpt_neox"], "blocks.1.hook_resid_mid", dtype="float32")


def test_gemma_scales_its_embedding(folders, tokens):
    found = LanguageModel(folders["gemma2"], "hook_embed", dtype="float32")(tokens)
    held = load_file(f"{folders['gemma2']}/model.safetensors")["model.embed_tokens.weight"]
    torch.testing.assert_close(found, held[tokens] * D_MODEL**0.5)


@pytest.mark.parametrize(
    "point", ["hook_resid_pre", "attn.hook_z", "hook_resid_mid", "hook_resid_post"]
)
def test_nothing_runs_past_the_hook(folders, tokens, point):
    model = LanguageModel(folders["gpt2"], f"blocks.1.{point}", dtype="float32")
    ran = []
    loaded = model._run.args[0]
    for name, module in getattr(loaded, "original_model", loaded).named_modules():
        # TransformerLens has put its own modules in the place of the original ones.
        name = name.replace("._original_component", "")
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    model(tokens)
    last = {
        "hook_resid_pre": ".0.",
        "attn.hook_z": ".1.attn.c_attn",
        "hook_resid_mid": ".1.attn",
        "hook_resid_post": ".1.",
    }[point]
    assert any(last in name for name in ran)
    assert not any(".2." in name or "ln_f" in name or "lm_head" in name for name in ran)
    if point != "hook_resid_post":
        assert not any(".1.mlp" in name for name in ran)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("hook", PLAIN)
def test_transformers_and_transformer_lens_agree(folders, tokens, architecture, hook, monkeypatch):
    plain = LanguageModel(folders[architecture], hook, dtype="float32")
    monkeypatch.setattr(language_model, "_load_plain", lambda *_: None)
    bridge = LanguageModel(folders[architecture], hook, dtype="float32")
    assert plain._run.func is language_model._run_plain
    assert bridge._run.func is language_model._run_bridge
    for fact in ("n_layers", "d_model", "d_vocab", "context"):
        assert getattr(plain, fact) == getattr(bridge, fact)
    torch.testing.assert_close(plain(tokens), bridge(tokens))
    torch.testing.assert_close(plain.logits(tokens), bridge.logits(tokens))
    halved = plain.logits(tokens, lambda activations: activations / 2)
    torch.testing.assert_close(halved, bridge.logits(tokens, lambda activations: activations / 2))
    assert not torch.allclose(halved, plain.logits(tokens))


def test_bfloat16(folders, tokens):
    activations = LanguageModel(folders["llama"], "blocks.1.hook_resid_post", "bfloat16")(tokens)
    exact = LanguageModel(folders["llama"], "blocks.1.hook_resid_post", dtype="float32")(tokens)
    assert activations.dtype == torch.bfloat16
    error = (activations.float() - exact).norm() / exact.norm()
    assert error < 0.03


@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_resid_mid", "hook_resid_post"])
def test_centering_takes_out_the_mean(folders, tokens, point):
    hook = f"blocks.{N_LAYERS - 1}.{point}"
    plain = LanguageModel(folders["gpt2"], hook, dtype="float32")(tokens)
    centred = LanguageModel(folders["gpt2"], hook, dtype="float32", center_writing_weights=True)(
        tokens
    )
    assert plain.mean(-1).abs().max() > 1e-3
    assert centred.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(centred, plain - plain.mean(-1, keepdim=True), atol=1e-5, rtol=1e-5)


def test_centering_leaves_heads_as_they_are(folders, tokens):
    hook = "blocks.1.attn.hook_z"
    plain, centred = (
        LanguageModel(folders["gpt2"], hook, dtype="float32", center_writing_weights=centre)
        for centre in (False, True)
    )
    torch.testing.assert_close(plain(tokens), centred(tokens), atol=1e-5, rtol=1e-5)
    zero = [model.logits(tokens, torch.zeros_like) for model in (plain, centred)]
    torch.testing.assert_close(*(loss(logits, tokens) for logits in zero))


def test_centering_needs_layer_norm(folders):
    with pytest.raises(StudyError, match=r"center_writing_weights: .* normalises by RMS"):
        LanguageModel(folders["llama"], "blocks.1.hook_resid_pre", center_writing_weights=True)


class TestParseHook:
    def test_parts(self):
        assert parse_hook("blocks.10.hook_resid_pre") == (10, "hook_resid_pre")
        assert parse_hook("blocks.3.attn.hook_z") == (3, "attn.hook_z")
        assert parse_hook("hook_embed") == (0, "hook_embed")

    @pytest.mark.parametrize(
        "hook",
        ["", "blocks.1", "blocks.-1.hook_resid_pre", "blocks.01.hook_mlp_out", "hook_embed\n",
         "hook_pos_embed", "blocks.1.hook_embed", "blocks.1.hook_z", "attn.hook_z",
         "blocks.1.attn.hook_q", "blocks.1.attn", "blocks.x.hook_resid_pre",
         "blocks.1.hook_resid_pre\n"],
    )  # fmt: skip
    def test_unsupported(self, hook):
        with pytest.raises(StudyError, match=r"model\.hook: .*blocks\.<layer>\.hook_resid_mid"):
            parse_hook(hook)

    def test_import_is_quick(self):
        code = (
            "import sys, sae_stitching.activations.language_model as m\n"
            "m.parse_hook('blocks.1.hook_resid_pre')\n"
            "assert not {'torch', 'transformers', 'transformer_lens'} & set(sys.modules)"
        )
        subprocess.run(
            [sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)}
        )


class TestModelFacts:
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_folder(self, folders, architecture):
        expected = {"n_layers": N_LAYERS, "d_model": D_MODEL, "context": CONTEXT}
        assert model_facts(folders[architecture]) == expected
        assert model_facts(folders[architecture], "blocks.1.hook_mlp_out") == expected
        heads = {**expected, "d_model": D_HEADS[architecture]}
        assert model_facts(folders[architecture], "blocks.1.attn.hook_z") == heads

    def test_nested(self, tmp_path):
        text = {"num_hidden_layers": 4, "hidden_size": 8, "max_position_embeddings": 16}
        config = {"model_type": "gemma3", "text_config": text}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert model_facts(str(tmp_path)) == {"n_layers": 4, "d_model": 8, "context": 16}
        # How wide a head is, it does not say, and Gemma 3's are not 4.
        config = {**config, "text_config": {**text, "num_attention_heads": 2}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert model_facts(str(tmp_path), "blocks.1.attn.hook_z") == {"n_layers": 4, "context": 16}

    def test_partly_known(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"n_layer": 4}))
        assert model_facts(str(tmp_path)) == {"n_layers": 4}

    @pytest.mark.parametrize("content", ["{", "[]"])
    def test_damaged(self, tmp_path, content):
        (tmp_path / "config.json").write_text(content)
        assert model_facts(str(tmp_path)) == {}

    @pytest.mark.parametrize(
        "name", ["nobody/no-such-model", "no-such-model", "/no/such/folder", ""]
    )
    def test_unknown(self, name):
        assert model_facts(name) == {}


@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_mlp_out"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loading_a_whole_model_warns_of_nothing(folders, architecture, point):
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("transformers").addHandler(handler)
    try:
        LanguageModel(folders[architecture], f"blocks.1.{point}", dtype="float32")
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert said == []


@pytest.fixture
def copied(folders, tmp_path):
    """Copy the Llama, to be damaged."""
    import shutil

    return shutil.copytree(folders["llama"], tmp_path / "model")


class TestErrors:
    def test_layer_beyond_the_model(self, folders):
        with pytest.raises(
            StudyError, match=r"model\.hook: .* beyond the model, which has 3 layers"
        ):
            LanguageModel(folders["gpt2"], "blocks.3.hook_resid_pre")

    def test_context_too_long(self, folders):
        model = LanguageModel(folders["gpt2"], "blocks.1.hook_resid_pre")
        with pytest.raises(StudyError, match=r"tokens\.context: 25, .* at most 24"):
            model(torch.zeros(1, CONTEXT + 1, dtype=torch.long))

    def test_unknown_token(self, folders):
        model = LanguageModel(folders["gpt2"], "blocks.1.hook_resid_pre")
        with pytest.raises(StudyError, match=r"token 257, .* knows 257"):
            model(torch.full((1, 4), 257))

    def test_unknown_dtype(self, folders):
        with pytest.raises(StudyError, match=r"model\.dtype: 'float64'"):
            LanguageModel(folders["gpt2"], "blocks.1.hook_resid_pre", dtype="float64")

    def test_missing_folder(self, tmp_path):
        with pytest.raises(StudyError, match="nothing: no such folder"):
            LanguageModel(str(tmp_path / "nothing"), "blocks.1.hook_resid_pre")

    def test_missing_weights_file(self, copied):
        (copied / "model.safetensors").unlink()
        with pytest.raises(StudyError, match=r"cannot be loaded .*model\.safetensors") as error:
            LanguageModel(str(copied), "blocks.1.hook_resid_pre")
        assert "\n" not in str(error.value)

    def test_missing_tensor(self, copied):
        weights = load_file(copied / "model.safetensors")
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(StudyError, match=r"lacks weights: model\.layers\.1\.mlp\.up_proj"):
            LanguageModel(str(copied), "blocks.1.hook_resid_pre")

    def test_what_the_log_says_is_missing_is_what_transformers_counts(self, copied):
        weights = load_file(copied / "model.safetensors")
        gone = {
            f"model.layers.{i}.{part}.weight"
            for i, part in [(0, "mlp.up_proj"), (2, "input_layernorm")]
        }
        kept = {name: weight for name, weight in weights.items() if name not in gone}
        save_file(kept, copied / "model.safetensors", metadata={"format": "pt"})
        with language_model._load_report() as report:
            _, counted = AutoModelForCausalLM.from_pretrained(copied, output_loading_info=True)
        read = {key for key in language_model._missing_weights(report) if key != "lm_head.weight"}
        assert read == gone == set(counted["missing_keys"]) - {"lm_head.weight"}

    def test_missing_tokenizer(self, copied):
        for path in copied.glob("tokenizer*"):
            path.unlink()
        with pytest.raises(StudyError, match="no tokenizer found in that folder"):
            LanguageModel(str(copied), "blocks.1.hook_resid_mid")
        # transformers' own model needs none.
        LanguageModel(str(copied), "blocks.1.hook_resid_pre")

    def test_missing_config(self, copied):
        (copied / "config.json").unlink()
        with pytest.raises(StudyError, match=r"cannot be loaded by transformers"):
            LanguageModel(str(copied), "blocks.1.hook_resid_pre")


def test_a_gpu_is_asked_for_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match=r"^activations\.device: cuda, but PyTorch sees no CUDA"):
        LanguageModel("model", "blocks.0.hook_resid_pre", device="cuda")


def test_nothing_is_installed_for_a_model_of_images(tmp_path, monkeypatch):
    # TransformerLens has pip install torchvision for such a model, and PyTorch anew with it.
    started = []
    for name in ("check_call", "run", "Popen"):
        monkeypatch.setattr(subprocess, name, lambda *command, **_: started.append(command))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    path = make_model("gemma3", tmp_path / "gemma3")
    language_model._load_bridge(path, "float32", "cpu")
    assert started == []
