"""Every step at the paper's largest size: time, memory, and how they grow.

    python benchmarks/scale.py all --out scale.jsonl    make bench-scale
    python benchmarks/scale.py insertions --share 8     one step at an eighth of the size

Full size is the paper's largest pair, 98,304 latents against 49,152 at d_model 768, on a million
eval tokens with about 44 active latents each. At 1/8 both dictionaries and the number of tokens are
an eighth. The dictionaries are synthetic, but not without structure: decoder directions lie in
families of cosine 0.36, and 60 % of the larger's are a direction of the smaller with noise.

Each step runs in a process of its own, as a job of the workflow does it: it reads and writes the
same files on as many threads as its rule has. Given are the time on the clock, the time of the
processor (all threads; the one to go by where the machine has other work), and the peak of the
resident memory. Encoding is timed on a part of the tokens, and insertion by brute force, decoding
anew for each latent, on a few latents and tokens; their full times are worked out from that.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

import job  # noqa: F401, sets how memory is allocated and how threads wait, as for every rule
import numpy as np
import torch
from sae_stitching.activations.shard_file import Shard
from sae_stitching.activations.shards import ActivationShards, create_activations
from sae_stitching.base.record import create_record, write_record
from sae_stitching.matching.decoder_similarity import load_similarity, write_similarity
from sae_stitching.matching.subgraphs import connected_subgraphs, load_subgraphs
from sae_stitching.saes.encoding import Codes, encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate
from sae_stitching.saes.sae import SAE, fingerprint, load_decoder, read_sae, save_sae
from sae_stitching.sparse.codes import SparseCodes, SparsePattern
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.swaps import swap_effects
from sae_stitching.stitching.threshold import threshold_curve
from sae_stitching.stitching.transitions import transition

D_SMALL, D_LARGE, D_MODEL, N_TOKENS, L0 = 49152, 98304, 768, 1_000_000, 44
CONTEXT = 127  # tokens of a sequence, the first left out
THETA, FLOOR = 0.7, 0.3
ORIGIN = {"study": "scale", "provenance": {}}


class Files:
    """Where a size's files are, by the names that the library asks for."""

    def __init__(self, folder: Path, share: int) -> None:
        self.share = share
        self.small, self.large = folder / "small.h5", folder / "large.h5"
        self.codes_small, self.codes_large = folder / "codes_small.h5", folder / "codes_large.h5"
        self.activations = [folder / "activations.h5"]
        self.part = [folder / "part.h5"]
        self.similarity, self.subgraphs = folder / "similarity.h5", folder / "subgraphs.h5"
        self.result = folder / "result.h5"


# The data


def make(files: Files) -> dict[str, float]:
    """Write two SAEs, codes of both, and activations that the larger one reconstructs well."""
    generator = torch.Generator().manual_seed(0)
    d_small, d_large, n_tokens = (n // files.share for n in (D_SMALL, D_LARGE, N_TOKENS))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def unit(rows: torch.Tensor) -> torch.Tensor:
        return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))

    families = unit(normal(d_small // 10, D_MODEL))

    def directions(n: int) -> torch.Tensor:
        family = torch.arange(n) % len(families)
        return unit(unit(normal(n, D_MODEL)).mul_(0.8).add_(families[family], alpha=0.6))

    W_small, W_large = directions(d_small), directions(d_large)
    partner = torch.arange(d_large) % d_small
    near = torch.rand(d_large, generator=generator) < 0.6
    noise = 0.3 + torch.rand(int(near.sum()), 1, generator=generator)
    W_large[near] = unit(W_small[partner[near]] + noise * unit(normal(len(noise), D_MODEL)))
    b_dec = 0.1 * normal(2, D_MODEL)

    def tokens(n: int) -> tuple[SparseCodes, SparseCodes, torch.Tensor]:
        # Some latents fire often and most seldom.
        latents = (torch.rand(n, L0, generator=generator).pow_(2) * d_large).long()
        values = 0.5 + 2.0 * torch.rand(n, L0, generator=generator)
        strangers = torch.randint(0, d_small, latents.shape, generator=generator)
        theirs = torch.where(near[latents], partner[latents], strangers)
        codes = _sparse(latents, values, d_large)
        x = codes.matmul(W_large) + b_dec[1] + 0.05 * normal(n, D_MODEL)
        return _sparse(theirs, 0.9 * values, d_small), codes, x

    saes = {}
    for name, W_dec, b in (("small", W_small, b_dec[0]), ("large", W_large, b_dec[1])):
        # With a bias for which encoding finds about as many active latents as the codes have.
        pre = (tokens(512)[2] - b) @ W_dec.T
        b_enc = -pre.topk(L0, dim=1).values[:, -1].median().expand(len(W_dec)).clone()
        saes[name] = SAE(W_dec.T.contiguous(), W_dec, b_enc, b, "relu", hook="hook")
        save_sae(saes[name], getattr(files, name), **ORIGIN)
    with (
        _activations(files.activations[0], n_tokens) as activations,
        _codes(files.codes_small, saes["small"]) as add_small,
        _codes(files.codes_large, saes["large"]) as add_large,
    ):
        for first in range(0, n_tokens, 8192):
            codes_small, codes_large, x = tokens(min(8192, n_tokens - first))
            add_small(codes_small)
            add_large(codes_large)
            activations[first : first + len(x)] = x.numpy()
    _shorten(files)
    return {}


def _sparse(latents: torch.Tensor, values: torch.Tensor, d_sae: int) -> SparseCodes:
    latents, order = latents.sort(1)
    values = values.gather(1, order)
    kept = torch.ones_like(latents, dtype=torch.bool)
    kept[:, 1:] = latents[:, 1:] != latents[:, :-1]
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)])
    return SparseCodes(SparsePattern(indptr, latents[kept], d_sae), values[kept])


@contextmanager
def _activations(path: Path, n_tokens: int) -> Iterator[np.ndarray]:
    with create_record(Shard, path, **ORIGIN) as file:
        token = np.arange(n_tokens, dtype=np.int32)
        file["sequence"], file["position"] = token // CONTEXT, token % CONTEXT + 1
        file.attrs.update({"hook": "hook", "model": "synthetic", "d_model": D_MODEL})
        file.attrs.update({"split": "eval", "shard": 0, "n_shards": 1, "context": CONTEXT})
        yield create_activations(file, n_tokens, D_MODEL, "float16")


@contextmanager
def _codes(path: Path, sae: SAE) -> Iterator[Callable[[SparseCodes], None]]:
    with create_record(Codes, path, **ORIGIN) as file:
        file.attrs["d_sae"], file.attrs["sae_fingerprint"] = sae.d_sae, fingerprint(sae)
        growing = {"chunks": (1 << 16,), "maxshape": (None,), "shape": (0,)}
        indices = file.create_dataset("indices", dtype=np.int32, **growing)
        values = file.create_dataset("values", dtype=np.float32, **growing)
        indptr = [np.zeros(1, dtype=np.int64)]

        def add(codes: SparseCodes) -> None:
            end = len(indices) + len(codes)
            indptr.append(codes.pattern.indptr[1:].numpy() + len(indices))
            for dataset, data in ((indices, codes.pattern.indices), (values, codes.values)):
                dataset.resize((end,))
                dataset[end - len(codes) :] = data.numpy()

        yield add
        file["indptr"] = np.concatenate(indptr)


def _shorten(files: Files) -> None:
    # The first tokens alone, for encoding.
    block = next(ActivationShards(files.activations).blocks(4096))
    with _activations(files.part[0], len(block.activations)) as activations:
        activations[...] = block.activations.numpy()


# The steps


def similarity(files: Files) -> dict[str, float]:
    """Compare the decoders, and measure the rate of plain products before and after."""
    rate = matmul_rate()
    small, large = load_decoder(files.small), load_decoder(files.large)
    start = time.process_time()
    write_similarity(small, large, files.similarity, floor=FLOOR, full_matrix_mb=0, **ORIGIN)
    seconds = time.process_time() - start
    flops = 2.0 * large.d_sae * small.d_sae * D_MODEL
    rate = max(rate, matmul_rate())
    dictionaries = 4e-6 * (large.d_sae + small.d_sae) * D_MODEL
    return {
        "gflops": flops / seconds / 1e9,
        "matmul_gflops": rate,
        "of_matmul": flops / seconds / 1e9 / rate,
        "mb_above_dictionaries": peak_mb() - dictionaries,
        "edges": len(load_similarity(files.similarity).edge_cosine),
    }


def matmul_rate() -> float:
    """GFLOP a second of processor time of a float32 product, the best of several."""
    a, b = torch.randn(4096, D_MODEL), torch.randn(4096, D_MODEL)
    out = torch.empty(len(a), len(b))
    seconds = []
    for _ in range(8):
        start = time.process_time()
        torch.mm(a, b.T, out=out)
        seconds.append(time.process_time() - start)
    return 2.0 * len(a) * len(b) * D_MODEL / min(seconds) / 1e9


def subgraphs(files: Files) -> dict[str, float]:
    """Connected subgraphs at θ, and at the floor, where there are most edges."""
    found = load_similarity(files.similarity)
    start = time.process_time()
    at_floor = connected_subgraphs(found, FLOOR)
    seconds = time.process_time() - start
    at_theta = connected_subgraphs(found, THETA)
    write_record(at_theta, files.subgraphs, **ORIGIN)
    return {
        "edges": len(found.edge_cosine),
        "cpu_at_floor": seconds,
        "components_at_floor": at_floor.n_components,
        "components": at_theta.n_components,
    }


def encode(files: Files) -> dict[str, float]:
    """Encode a part of the tokens with the larger SAE."""
    rate = matmul_rate()
    sae = read_sae(files.large)
    start = time.process_time()
    encode_shards(sae, files.part, files.result, **ORIGIN)
    seconds = time.process_time() - start
    with open_codes(files.result, sae) as codes:
        n, l0 = codes.n_tokens, len(codes) / codes.n_tokens
    return {
        "l0": l0,
        "of_matmul": 2.0 * n * sae.d_sae * D_MODEL / seconds / 1e9 / rate,
        "cpu_of_all_tokens": seconds * (N_TOKENS // files.share) / n,
    }


def evaluation(files: Files) -> dict[str, float]:
    """Evaluate the larger SAE."""
    sae = load_decoder(files.large, double=True)
    with open_codes(files.codes_large, sae) as codes:
        return {"l0": evaluate(sae, ActivationShards(files.activations), codes)["l0"]}


def decode(files: Files) -> dict[str, float]:
    """Decode both codes once, the yardstick of the stitching; and insert by brute force."""
    seconds, brute = 0.0, []
    with open_pair(files) as pair:
        W_small, W_large = pair.small.W_dec, pair.large.W_dec
        entries = 0
        for number, block in enumerate(pair.blocks()):
            codes = block.codes_small.double(), block.codes_large.double()
            start = time.process_time()
            x_hat = codes[0].matmul(W_small)
            x_hat = codes[1].matmul(W_large)
            seconds += time.process_time() - start
            entries += sum(map(len, codes))
            if number == 0:
                dense = block.codes_large
                for latent in dense.pattern.indices[:3].tolist():
                    start = time.process_time()
                    f = torch.zeros(len(block.x), dtype=torch.float64)
                    mine = dense.pattern.indices == latent
                    f[dense.pattern.rows[mine]] = dense.values[mine].double()
                    x_hat = codes[0].matmul(W_small) + pair.small.b_dec
                    x_hat += f[:, None] * W_large[latent]
                    (block.x - x_hat).square_().sum()
                    brute.append((time.process_time() - start) / len(block.x))
        per_latent = min(brute) * pair.n_tokens
    return {
        "entries": entries,
        "cpu_of_products": seconds,
        "brute_per_latent": per_latent,
        "brute_hours": per_latent * len(W_large) / 3600,
    }


def insertions(files: Files) -> dict[str, float]:
    """Insert every latent of the larger SAE alone."""
    found = load_similarity(files.similarity)
    with open_pair(files) as pair:
        effects = insertion_effects(pair, found)
    write_record(effects, files.result, **ORIGIN)
    return {"mse_small": effects.mse_small, "mse_large": effects.mse_large}


def swaps(files: Files) -> dict[str, float]:
    """Swap every connected subgraph alone."""
    found = load_subgraphs(files.subgraphs)
    with open_pair(files) as pair:
        effects = swap_effects(pair, found)
    write_record(effects, files.result, **ORIGIN)
    return {"components": found.n_components}


def threshold(files: Files) -> dict[str, float]:
    """Insert all latents below θ, for every θ."""
    found = load_similarity(files.similarity)
    with open_pair(files) as pair:
        curve = threshold_curve(pair, found)
    write_record(curve, files.result, **ORIGIN)
    return {"points": len(curve.theta)}


def transition_step(files: Files) -> dict[str, float]:
    """Walk from the smaller SAE to the larger."""
    found = load_subgraphs(files.subgraphs)
    with open_pair(files) as pair:
        step = transition(pair, found)
    write_record(step, files.result, **ORIGIN)
    return {"operations": len(step.kind) - 1}


STEPS: dict[str, tuple[Callable[[Files], dict[str, float]], int]] = {
    "make": (make, 2),
    "similarity": (similarity, 2),
    "subgraphs": (subgraphs, 1),
    "encode": (encode, 1),
    "evaluate": (evaluation, 1),
    "decode": (decode, 1),
    "insertions": (insertions, 1),
    "swaps": (swaps, 1),
    "threshold": (threshold, 1),
    "transition_step": (transition_step, 1),
}


# Measuring


def peak_mb() -> float:
    """Greatest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 * 1.048576


def measure(args: argparse.Namespace) -> None:
    """One step at one size, as JSON on the standard output."""
    step, threads = STEPS[args.step]
    torch.set_num_threads(threads)
    logging.basicConfig(level=logging.WARNING)
    start, cpu = time.perf_counter(), time.process_time()
    found = step(Files(Path(args.folder), args.share))
    row = {
        "step": args.step,
        "share": args.share,
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak_mb": peak_mb(),
        **found,
    }
    print(json.dumps(row), flush=True)


def everything(args: argparse.Namespace) -> None:
    """All steps at all sizes, each in a process of its own."""
    rows = []
    for share in args.share_list:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            for step, (_, threads) in STEPS.items():
                command = [sys.executable, __file__, step, "--share", str(share)]
                environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
                done = subprocess.run(
                    [*command, "--folder", folder],
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                    check=True,
                )
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print(rows[-1], file=sys.stderr, flush=True)
                if args.out:
                    with open(args.out, "a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    report(rows)


def report(rows: list[dict[str, Any]]) -> None:
    """Processor time and peak memory of every step by size, and what follows from them."""
    shares = sorted({int(row["share"]) for row in rows}, reverse=True)
    by = {(row["step"], row["share"]): row for row in rows}
    sizes = ["full" if share == 1 else f"1/{share}" for share in shares]
    print("| step | " + " | ".join(f"{size}: s, MB" for size in sizes) + " | exponent of growth |")
    print("|---" * (len(sizes) + 2) + "|")
    for step in STEPS:
        cells, points = [], []
        for share in shares:
            row = by.get((step, share))
            cells.append(f"{row['cpu']:,.0f}, {row['peak_mb']:,.0f}" if row else "")
            if row:
                points.append((np.log(1 / share), np.log(row["cpu"])))
        power = f"{np.polyfit(*zip(*points, strict=True), 1)[0]:.2f}" if len(points) > 1 else ""
        print(f"| {step} | " + " | ".join(cells) + f" | {power} |")
    print()
    for share, size in zip(shares, sizes, strict=True):
        print(f"{size}:")
        for key, unit in (
            (("similarity", "matmul_gflops"), "GFLOP per processor second of a plain product"),
            (("similarity", "of_matmul"), "of that in the similarity, maxima and edges included"),
            (("similarity", "mb_above_dictionaries"), "MB above both decoders in the similarity"),
            (("similarity", "edges"), "edges"),
            (("subgraphs", "cpu_at_floor"), "s for the subgraphs of all these edges"),
            (("encode", "of_matmul"), "of the product's rate in encoding"),
            (("encode", "cpu_of_all_tokens"), "s to encode all tokens with the larger SAE"),
            (("decode", "cpu_of_products"), "s for one decode of both codes, in float64"),
            (("decode", "brute_hours"), "hours for the insertions by brute force"),
        ):
            if (row := by.get((key[0], share))) and key[1] in row:
                print(f"  {row[key[1]]:,.2f} {unit}")
        if (once := by.get(("decode", share))) and (row := by.get(("insertions", share))):
            print(f"  {row['cpu'] / once['cpu_of_products']:.1f} decodes for all insertions")


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("all", "report", *STEPS))
    parser.add_argument("--share", type=int, default=1, help="the size is 1/SHARE of the full")
    parser.add_argument(
        "--shares", dest="share_list", type=int, nargs="+", default=[8, 4, 2, 1], help="for all"
    )
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the files go")
    parser.add_argument("--out", help="append the measurements to this JSON-lines file")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    if arguments.step == "all":
        everything(arguments)
    elif arguments.step == "report":
        report([json.loads(line) for line in Path(arguments.out).read_text().splitlines()])
    else:
        measure(arguments)
