"""Caching activations beside the bare Hugging Face model cut at the same layer.

    python benchmarks/caching.py <model folder>     make bench-caching

Both read the same sequences in turns, several rounds of each, on the same threads. Ours is a whole
shard: the model in TransformerLens up to the hook, the checks, the conversion to float16 and the
HDF5 file. The bare model's layers beyond the hook are cut off, and its activations are thrown away.
The time of the processor is the one to go by where the machine has other work.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow_scripts"))

import job  # noqa: F401, sets how memory is allocated and how threads wait, as for every rule
import numpy as np
import torch
from sae_stitching.activations import cache_shard
from sae_stitching.language_model import LanguageModel
from sae_stitching.store import write_hdf5
from transformers import AutoModelForCausalLM

ORIGIN = {"study": "caching", "provenance": {}}


def main() -> None:
    """Alternate between the two, and print tokens a second and the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="folder that save_pretrained wrote")
    parser.add_argument("--layer", type=int, default=10)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    ours = LanguageModel(args.model, f"blocks.{args.layer}.hook_resid_pre")
    bare = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16).model.eval()
    bare.layers = bare.layers[: args.layer]
    bare.norm = torch.nn.Identity()
    generator = np.random.default_rng(0)
    tokens = generator.integers(10, 10_000, (args.sequences, args.context), dtype=np.int32)

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "tokens.h5")
        with write_hdf5(corpus, format="tokens", **ORIGIN) as file:
            file["eval/tokens"] = tokens

        def run_ours() -> None:
            cache_shard(
                corpus,
                "eval",
                0,
                1,
                ours,
                Path(folder, "0000.h5"),
                model_name="model",
                batch_size=args.batch_size,
                dtype="float16",
                skip_first_position=True,
                **ORIGIN,
            )

        def run_bare() -> None:
            with torch.inference_mode():
                for first in range(0, len(tokens), args.batch_size):
                    batch = torch.from_numpy(
                        tokens[first : first + args.batch_size].astype("int64")
                    )
                    bare(batch, use_cache=False)

        runs: dict[str, Callable[[], None]] = {"bare model": run_bare, "caching": run_ours}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for number in range(args.rounds + 1):
            for name, run in runs.items():
                clock, cpu = time.perf_counter(), time.process_time()
                run()
                seconds = time.perf_counter() - clock, time.process_time() - cpu
                if number:  # the first round warms up
                    found[name].append(seconds)
    medians = {
        name: [statistics.median(times) for times in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    print("| | tokens/s | tokens per processor second |\n|---|---|---|")
    for name, (clock, cpu) in medians.items():
        print(f"| {name} | {tokens.size / clock:,.0f} | {tokens.size / cpu:,.0f} |")
    ratios = [a / b for a, b in zip(medians["bare model"], medians["caching"], strict=True)]
    print(f"| caching ÷ bare | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
