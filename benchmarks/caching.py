"""Caching activations beside the bare Hugging Face model cut at the same layer, and SAELens.

    make bench-caching
    python benchmarks/caching.py <model folder> [--peers <python with SAELens>]

All read the same sequences, several rounds of each, on the same threads, in bfloat16 where the
machine has instructions for it and in float32 elsewhere. Ours is a whole shard: the model up to the
hook, the checks, the conversion to float16 and the HDF5 file. The bare model's layers beyond the
hook are cut off, and its activations are thrown away. Ours and the bare model take turns. SAELens's
CacheActivationsRunner needs an environment of its own, and runs there: it reads tokens and writes
its data set, not shuffled, also in float16. The time of the processor is the one to go by where the
machine has other work.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow_scripts"))

import job  # noqa: F401, sets how memory is allocated and how threads wait, as for every rule
import numpy as np
import torch
from sae_stitching.base import hardware

ORIGIN = {"study": "caching", "provenance": {}}

Times = dict[str, list[tuple[float, float]]]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="folder that save_pretrained wrote")
    parser.add_argument("--layer", type=int, default=10)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", help="Python of an environment with SAELens")
    parser.add_argument("--saelens", action="store_true", help="measure SAELens, in its Python")
    return parser.parse_args()


def precision() -> torch.dtype:
    """Of ours, and so of all."""
    return getattr(torch, hardware.dtype("auto", "cpu", "model.dtype"))


def take_turns(runs: dict[str, Callable[[], None]], rounds: int) -> Times:
    """Wall and processor seconds of each round; the first, which warms up, is left out."""
    found: Times = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            clock, cpu = time.perf_counter(), time.process_time()
            run()
            seconds = time.perf_counter() - clock, time.process_time() - cpu
            if number:
                found[name].append(seconds)
    return found


def ours_and_bare(args: argparse.Namespace, tokens: np.ndarray) -> Times:
    """Our caching of a shard, and the Hugging Face model without what lies beyond the hook."""
    from sae_stitching.activations.cache import cache_shard
    from sae_stitching.activations.language_model import LanguageModel
    from sae_stitching.base.record import write_record
    from sae_stitching.text.token_file import Split, Tokens
    from transformers import AutoModelForCausalLM

    ours = LanguageModel(args.model, f"blocks.{args.layer}.hook_resid_pre")
    bare = AutoModelForCausalLM.from_pretrained(args.model, dtype=precision()).model.eval()
    bare.layers = bare.layers[: args.layer]
    bare.norm = torch.nn.Identity()

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "tokens.h5")
        split = Split(tokens.astype(np.int32), np.zeros(len(tokens), np.int32))
        write_record(Tokens("model", tokens.shape[1], 0, split, split), corpus, **ORIGIN)

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
                for batch in torch.from_numpy(tokens.astype(np.int64)).split(args.batch_size):
                    bare(batch, use_cache=False)

        return take_turns({"bare model": run_bare, "ours": run_ours}, args.rounds)


def saelens(args: argparse.Namespace, tokens: np.ndarray) -> Times:
    """SAELens's own runner on the Hugging Face model, which it runs to its end."""
    from datasets import Dataset
    from sae_lens import CacheActivationsRunner, CacheActivationsRunnerConfig

    dataset = Dataset.from_dict({"input_ids": tokens.tolist()})
    d_in = int(json.loads(Path(args.model, "config.json").read_text())["hidden_size"])
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(args.rounds + 1))

        def runner() -> CacheActivationsRunner:
            config = CacheActivationsRunnerConfig(
                dataset_path="tokens",
                model_name=args.model,
                model_class_name="AutoModelForCausalLM",
                model_from_pretrained_kwargs={"dtype": precision()},
                # What leaves block n − 1 enters block n.
                hook_name=f"model.layers.{args.layer - 1}",
                d_in=d_in,
                model_batch_size=args.batch_size,
                training_tokens=tokens.size,
                context_size=args.context,
                new_cached_activations_path=str(Path(folder, str(next(numbers)))),
                shuffle=False,
                dtype="float16",
                device="cpu",
                # It fills its buffers whole, reading the tokens over and over; its default is 2 GB.
                buffer_size_gb=1e-9 * (2 * d_in * tokens.size + 1),
                prepend_bos=False,
                streaming=False,
            )
            return CacheActivationsRunner(config, override_dataset=dataset)

        # Loading the model is no part of it, so every round has a runner that is ready.
        runners = iter([runner() for _ in range(args.rounds + 1)])

        def run() -> None:
            n_cached = len(next(runners).run())
            if n_cached != len(tokens):
                raise RuntimeError(f"SAELens cached {n_cached} sequences, not {len(tokens)}")

        return take_turns({"SAELens": run}, args.rounds)


def main() -> None:
    """Measure, and print tokens a second and the ratios."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    generator = np.random.default_rng(0)
    tokens = generator.integers(10, 10_000, (args.sequences, args.context), dtype=np.int32)
    if args.saelens:
        print(json.dumps(saelens(args, tokens)))
        return
    found = ours_and_bare(args, tokens)
    if args.peers:
        command = [args.peers, *sys.argv, "--saelens"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found |= json.loads(done.stdout.splitlines()[-1])
    medians = {
        name: [statistics.median(times) for times in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    print("| | tokens/s | tokens per processor second | ours ÷ it | by processor time |")
    print("|---|---|---|---|---|")
    for name, (clock, cpu) in medians.items():
        ratios = [a / b for a, b in zip(medians[name], medians["ours"], strict=True)]
        speeds = f"{tokens.size / clock:,.0f} | {tokens.size / cpu:,.0f}"
        print(f"| {name} | {speeds} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
