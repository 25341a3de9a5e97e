"""What a file is that cannot be read as an SAE: another library's, or none at all.

Nothing of a file is run, and little of it is read: its first bytes, and the names of its tensors.
"""

import json
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

#: Shapes of the tensors of a file by their names; empty where the file does not tell them.
Tensors = dict[str, tuple[int, ...]]

# How files begin.
_BEGINNINGS = {
    b"version https://git-lfs": (
        "a pointer of Git LFS, not the file that it stands for; fetch that with git lfs pull"
    ),
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"BZh": "compressed by bzip2; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "one array of NumPy",
    b"GGUF": "a language model in GGUF",
}
_HTML = re.compile(rb"\s*<(!doctype html|html|head|\?xml|error)", re.IGNORECASE)
NPZ, PYTORCH, SAFETENSORS, PICKLE = (
    *("an npz file", "a PyTorch file", "a safetensors file", "a pickle of Python"),
)
#: Kinds of files that hold tensors.
CONTAINERS = (NPZ, PYTORCH, SAFETENSORS, PICKLE)
# Archives that hold arrays, by what a name in them ends in.
_ARCHIVES = {"data.pkl": PYTORCH, ".npy": NPZ}
# Formats that are read, by tensors that all are there.
_FORMATS = (
    (SAFETENSORS, "w_enc w_dec b_enc b_dec threshold", "gemma-scope-2"),
    (SAFETENSORS, "log_jumprelu_threshold encoder.weight", "llama-scope-r1-distill"),
    (SAFETENSORS, "W_enc", "saelens"),
    (SAFETENSORS, "W_dec", "sparsify"),
    (PYTORCH, "encoder_linear.weight decoder_linear.weight", "goodfire"),
    (PYTORCH, "pre_bias latent_bias encoder.weight", "openai"),
)
_LINEAR = {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}
_PLAIN = {"W_enc", "W_dec", "b_enc", "b_dec"}
# Of other libraries, by tensors that all are there.
_OTHERS = (
    (SAFETENSORS, "w_enc w_dec affine_skip_connection", "one of Gemma Scope 2's transcoders"),
    (None, "W_skip", "a transcoder with a skip connection"),
    (None, "lm_head.weight", "a language model"),
)
_OTHER_PATTERNS = {
    r"W_(enc|dec)_\d+": "a layer of a cross-layer transcoder",
    r"attn_layers\.\d+\..+": "a temporal SAE",
    r"(model|transformer|gpt_neox)\.(layers|h)\.\d+\..+": "a language model",
}
#: Tensors of Apollo's e2e_sae, by the place that the SAE reads, with hyphens in it for dots.
APOLLO = re.compile(r"(?:saes\.)?(?P<place>[\w-]+)\.(?P<part>encoder\.0|decoder)\.(?:weight|bias)")
_MATRICES = ("W_enc", "W_dec", "w_enc", "w_dec", "encoder.weight", "decoder.weight")


def kind(path: str | Path) -> str:
    """What kind of file this is, by how it begins; empty where that is not known."""
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        return "empty; get it again"
    for beginning, what in _BEGINNINGS.items():
        if start.startswith(beginning):
            return what
    if _HTML.match(start):
        return "a web page, not the file that was asked for; get it again"
    if start.startswith(b"PK\x03\x04"):
        return _archive(path)
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it"
    if start.startswith((b"{", b"[")):
        return _saev(path) or "JSON"
    if start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return PICKLE
    return SAFETENSORS if safetensors_header(path) else ""


def foreign(path: str | Path, expected: Collection[str] = CONTAINERS) -> str:
    """What a file is, if it is known but none that is read as an SAE; else empty.

    Parameters
    ----------
    path
    expected
        Kinds of files that it may be.
    """
    found = kind(path)
    library = _other_library(path, found, tensors(path)) if found in ("", *CONTAINERS) else ""
    return library or ("" if found in expected else found)


def format_of(path: str | Path) -> str:
    """The format, of those that are read, that the tensors of a file tell; else empty."""
    path = Path(path)
    container, found = kind(path), tensors(path)
    container = PYTORCH if container == PICKLE else container  # as PyTorch once wrote them
    for suited, names, format in _FORMATS:
        if suited == container and set(names.split()) <= found.keys():
            return format
    if container == SAFETENSORS and found.keys() >= {"encoder.weight", "decoder.weight"}:
        return "llama-scope" if (_above(path) / "hyperparams.json").is_file() else ""
    if container != PYTORCH:
        return ""
    if any(APOLLO.fullmatch(name) for name in found):
        return "apollo"
    settings = path.with_name(f"{path.stem}_cfg.json").is_file()
    if found.keys() >= _PLAIN and (settings or re.fullmatch(r"layer\d+\.sae\.pt", path.name)):
        return "connor-rob" if settings else "qwen-scope"
    # dictionary_learning has the same four, and settings beside them.
    alone = not path.with_name("config.json").is_file()
    return "deepseek-r1" if found.keys() >= _LINEAR and alone else ""


def _above(path: Path) -> Path:
    return path.absolute().parent.parent


def _other_library(path: str | Path, container: str, found: Tensors) -> str:
    if any(len(found.get(name, ())) == 3 for name in _MATRICES):
        return "a crosscoder or a cross-layer transcoder (its matrices have three dimensions)"
    for suited, names, what in _OTHERS:
        if suited in (None, container) and set(names.split()) <= found.keys():
            return what
    for pattern, what in _OTHER_PATTERNS.items():
        if any(re.fullmatch(pattern, name) for name in found):
            return what
    both = {found.get(name, ()) for name in ("W_enc", "W_dec")}
    if re.fullmatch(r"layer_\d+\.safetensors", Path(path).name) and len(both) == 1 and any(both):
        return "one of circuit-tracer's transcoders"
    if re.search(r"-\d{5}-of-\d{5}\.", Path(path).name):
        return "a shard of a file in several parts; join them"
    return ""


def tensors(path: str | Path) -> Tensors:
    """Names and, as far as the file tells them, shapes of a file's tensors."""
    try:
        if header := safetensors_header(path):
            return header
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _names(archive)
        with open(path, "rb") as file:
            return dict.fromkeys(_strings(file), ())
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return {}


def safetensors_header(path: str | Path) -> Tensors:
    """Shapes of the tensors of a safetensors file; empty where it is none."""
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= 100_000_000 or (header := file.read(length))[:1] != b"{":
            return {}
    try:
        entries = json.loads(header)
        return {n: tuple(e["shape"]) for n, e in entries.items() if n != "__metadata__"}
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return {}


def _archive(path: str | Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return ""  # damaged
    for end, what in _ARCHIVES.items():
        if any(name.endswith(end) for name in names):
            return what
    return "a zip archive; unpack it"


def _saev(path: str | Path) -> str:
    # One line of JSON before what torch.save wrote.
    with open(path, "rb") as file:
        header, after = file.readline(1 << 20), file.read(4)
    return "of saev" if after == b"PK\x03\x04" and b'"schema"' in header else ""


def _names(archive: zipfile.ZipFile) -> Tensors:
    found: Tensors = {}
    for name in archive.namelist():
        if name.endswith(".npy"):
            with archive.open(name) as file:
                read = np.lib.format.read_magic(file)
                shape = np.lib.format.read_array_header_1_0(file)[0] if read == (1, 0) else ()
                found[name.removesuffix(".npy")] = shape
        elif name.endswith("data.pkl"):
            with archive.open(name) as file:
                found |= dict.fromkeys(_strings(file), ())
    return found


def _strings(file: IO[bytes]) -> list[str]:
    """Text in the first pickles of a file, which are not run; names of tensors are among it."""
    found: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of text that Python would not write so
            # PyTorch once wrote several pickles one after the other.
            for _ in range(5):
                operations = islice(pickletools.genops(file), 1_000_000)
                found += [argument for _, argument, _ in operations if isinstance(argument, str)]
    except Exception:  # damage shows in many ways, and so does the end
        pass
    return found
