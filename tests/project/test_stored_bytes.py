"""What every file of a study is, byte for byte: a change here is a new format version."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from sae_stitching.activations.cache import cache_shard
from sae_stitching.base.record import write_record
from sae_stitching.explorer.passages import Passages
from sae_stitching.matching.activation_similarity import ActivationSimilarity
from sae_stitching.matching.decoder_similarity import write_similarity
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.saes.encoding import encode_shards
from sae_stitching.saes.sae import SAE, save_sae
from sae_stitching.stitching.insertions import Insertions
from sae_stitching.stitching.random_insertion import RandomInsertion
from sae_stitching.stitching.roc import NoveltyROC
from sae_stitching.stitching.selection_orders import ORDERS, InsertionOrder, Selection
from sae_stitching.stitching.stitched import save_stitched
from sae_stitching.stitching.swaps import Swaps
from sae_stitching.stitching.threshold import ThresholdCurve
from sae_stitching.stitching.transition_orders import TransitionOrders
from sae_stitching.stitching.transitions import Transition, gather_transition
from sae_stitching.text import tokens
from sae_stitching.text.text_file import write_text

ORIGIN = {"study": "bytes", "provenance": {"rule": "a", "config": {"seed": 0}}}
HDF5 = "2.0.0"

#: The first digits of the SHA-256 of each file.
DIGESTS = {
    "activation_similarity": "dfeb32f48ce734d0",
    "activations": "11a42fad0e2e288d",
    "codes": "b363ed67a58cdb33",
    "insertions": "b6498c7ce372cbd2",
    "passages": "648e7716a5fea816",
    "random_insertion": "e123e14cd0eed892",
    "roc": "d006fd27ba4a84ce",
    "sae_jumprelu": "0aff3b0d417c34b7",
    "sae_stitched": "68287040e07ad595",
    "sae_topk": "eacdf56b9dfa1f09",
    "selection": "23db67f7e2b85331",
    "similarity": "38b14da033742d56",
    "similarity_matrix": "78356b32206d4cda",
    "step_2--4": "60b47176582afc9c",
    "step_4--6": "62e13e662d7c7ffa",
    "subgraphs": "15fdef06774ccb07",
    "swaps": "ef6af4d5316b0dcb",
    "text": "73cec625dd628ebf",
    "threshold": "dbb7252cd10fe40b",
    "tokens": "ea971b658b851f7b",
    "transition": "26ed8f5982233673",
    "transition_orders": "aaf916ee8a5b12ce",
    "transition_step": "60b47176582afc9c",
}


def floats(*shape: int) -> np.ndarray:
    """Numbers that are as they are in any precision."""
    return (np.arange(np.prod(shape)).reshape(shape) - 3) / 4


def sae(d_sae: int, architecture: str, **more) -> SAE:
    W_dec = torch.cat([torch.eye(4), torch.tensor([[0.0, 3.0, 0.0, 4.0], [2.0, 0.0, 0.0, 0.0]])])
    W = W_dec[:d_sae]
    return SAE(
        W.T.contiguous(), W, torch.zeros(d_sae), torch.ones(4), architecture, hook="a", **more
    )


def transition(n: int) -> Transition:
    kind = (np.arange(n) > 0).astype(np.int8)
    return Transition(np.arange(n), floats(n), floats(n), kind, 0.5, 2.0, 77)


def walk(n: int) -> InsertionOrder:
    return InsertionOrder(np.arange(n)[::-1].copy(), floats(n + 1), floats(n + 1))


RECORDS = {
    "passages": Passages(
        sequence=np.arange(6, dtype=np.int32).reshape(3, 2),
        position=np.arange(6, dtype=np.int32).reshape(3, 2),
        activation=floats(3, 2).astype(np.float32),
        window=floats(3, 2, 5).astype(np.float32),
        n_active=np.arange(3),
        n_tokens=40,
        before=2,
    ),
    "activation_similarity": ActivationSimilarity(
        large=np.arange(3, dtype=np.int32),
        small=np.arange(3, dtype=np.int32),
        decoder_cosine=floats(3).astype(np.float32),
        activation_cosine=np.array([0.5, np.nan, 0.25]),
    ),
    "subgraphs": Subgraphs(np.array([0, -1], np.int32), np.array([0, 0, -1], np.int32), 0.7, 1),
    "insertions": Insertions(
        floats(5), floats(5), np.arange(5), floats(5).astype(np.float32), 1.5, 1.25, 99
    ),
    "swaps": Swaps(floats(3), floats(3), floats(3), np.arange(3), np.arange(3) + 1, 1.5, 3.25, 99),
    "threshold": ThresholdCurve(
        np.float32([0.25, 0.5, 0.75]), np.arange(3), np.array([3.0, 1.0, 2.0]), floats(3)
    ),
    "roc": NoveltyROC(floats(4), floats(4), floats(4), 0.75, 0.5, float("nan"), 0.6, 3, 2, 1),
    "random_insertion": RandomInsertion(floats(2, 4), floats(2, 3)),
    "transition_step": transition(5),
    "transition_orders": TransitionOrders(
        np.arange(4, dtype=np.int8), floats(4), floats(4), floats(2, 4)
    ),
    "selection": Selection({order: walk(n) for n, order in enumerate(ORDERS, 3)}, 0.7, 2, 3, 500),
}


class Tokenizer:
    bos_token_id = eos_token_id = 9

    def __call__(self, batch, **_):
        return {"input_ids": [[ord(letter) for letter in text] for text in batch]}


class Model:
    hook, d_model = "a", 4

    def __call__(self, sequences):
        return sequences[..., None].float() / torch.tensor([1.0, 2.0, 4.0, 8.0])


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for name, value in RECORDS.items():
        write_record(value, folder / f"{name}.h5", **ORIGIN)
    steps = {}
    for n, name in ((5, "2--4"), (3, "4--6")):
        steps[name] = folder / f"step_{name}.h5"
        write_record(transition(n), steps[name], **ORIGIN)
    gather_transition(steps, folder / "transition.h5", **ORIGIN)

    small, large = sae(2, "topk", k=1), sae(6, "jumprelu", threshold=torch.full((6,), 0.5))
    save_sae(small, folder / "sae_topk.h5", **ORIGIN)
    save_sae(large, folder / "sae_jumprelu.h5", **ORIGIN)
    origins = {"source": np.array(["2", "δ"] * 3), "latent": np.arange(6)}
    save_stitched(SimpleNamespace(sae=large, **origins), folder / "sae_stitched.h5", **ORIGIN)
    for name, megabytes in (("similarity", 0), ("similarity_matrix", 1)):
        sizes = {"floor": 0.3, "full_matrix_mb": megabytes}
        write_similarity(small, large, folder / f"{name}.h5", **sizes, **ORIGIN)

    documents = ["abcdefgh", "ijkl", "mnopqrstuvw", "xyzä"]
    write_text(documents, folder / "text.h5", **ORIGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "load_tokenizer", lambda _: Tokenizer())
        sizes = {"context": 4, "eval_fraction": 0.4}
        tokens.write_tokens(documents, "", folder / "tokens.h5", name="t", **sizes, **ORIGIN)
    settings = {"model_name": "m", "batch_size": 2, "dtype": "float16", "skip_first_position": True}
    paths = folder / "tokens.h5", folder / "activations.h5"
    cache_shard(paths[0], "eval", 0, 1, Model(), paths[1], **settings, **ORIGIN)
    encode_shards(large, [paths[1]], folder / "codes.h5", **ORIGIN)
    return folder


@pytest.mark.skipif(
    h5py.version.hdf5_version != HDF5,
    reason=f"HDF5 {h5py.version.hdf5_version} may lay files out otherwise than {HDF5} does",
)
def test_the_bytes_are_those_of_the_format(written):
    found = {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(written.glob("*.h5"))
    }
    assert found == DIGESTS
