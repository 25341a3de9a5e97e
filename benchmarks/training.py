"""Train the same SAE on the same batches with ours, SAELens and dictionary_learning, in turn.

    make bench-training                       # the whole table
    python benchmarks/training.py ours ...    # one run of one library; what the table is made of

Every run is a process of its own, with the same threads. The batches are cached activations of the
default study (`make figures` first), scaled to norm √d_model; each library gets the same tensors
in the same order and trains as its own training loop does, with its own defaults where the task
does not fix them: architecture, k, batch, steps, learning rate and penalty are the same. Only its
training steps are timed, not loading, and not the first few, in which each library loads what it
has compiled. Held-out tokens are those of the eval split.

Two more lines stand beside the libraries: `floor` is the product of the encoder alone, the one
dense product that our step has left, and `loader` reads the batches and does nothing else. Ours and
the floor multiply in bfloat16 where the machine has instructions for it. Elsewhere they multiply in
float32, and the peers are not measured in bfloat16, which is many times slower there.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "workflow_scripts"))

# The peers run in float32 as they do by default, and under autocast to bfloat16, since ours may
# compute its encoder product in bfloat16.
LIBRARIES = ("ours", "saelens", "saelens-bf16", "dictionary_learning", "dictionary_learning-bf16")

BOUNDS = ("floor", "loader")

# Steps before the clock starts.
WARM = 5

# Penalties with which a run of 800 steps ends near L0 32 (2304 latents: 33, 30 and 34); the
# libraries weigh the same penalty alike but for Gated and JumpReLU.
SPARSITY = {"relu": 1.6, "jumprelu": 0.55, "gated": 2.5}

# Of JumpReLU's kernel, for all three. The libraries' defaults, 0.05 and 0.001, let far fewer
# entries move a threshold; they were not measured here.
BANDWIDTH = 1.0

# Share of the steps over which the penalty rises.
SPARSITY_WARMUP = 0.05


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=(*LIBRARIES, *BOUNDS, "all"))
    parser.add_argument("--architecture", nargs="+", default=["topk"])
    parser.add_argument("--d-sae", type=int, nargs="+", default=[2304])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--sparsity", type=float, help="default: that of the architecture")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--activations", default="results/smollm2-wikipedia/activations")
    parser.add_argument("--out", help="append the measurements to this JSON-lines file")
    return parser.parse_args()


def batches(args):
    """Training batches at norm √d_model, and the scale; the same for every library."""
    import torch
    from sae_stitching.activations.shards import ActivationShards, ShuffledBatches

    shards = ActivationShards(sorted(Path(args.activations, "train").glob("*.h5")))
    stream = iter(ShuffledBatches(shards, args.batch_size, 1 << 17, seed=0))
    first = next(stream)
    scale = shards.d_model**0.5 / torch.linalg.vector_norm(first, dim=1).mean().item()
    return shards, stream, scale


def sparsity(args):
    if args.sparsity is not None:
        return args.sparsity
    return SPARSITY.get(args.architecture[0], 0.0)


def sparsity_warmup(args):
    """Steps over which the penalty rises to its full weight."""
    return round(SPARSITY_WARMUP * args.steps)


def run_floor(args):
    """The encoder's product alone, at the precision of ours."""
    import torch
    from sae_stitching.base import hardware

    shards, stream, scale = batches(args)
    dtype = getattr(torch, hardware.dtype("auto", args.device, "floor"))
    x = next(stream).to(args.device, dtype)
    W_enc_t = torch.randn(args.d_sae[0], shards.d_model, dtype=x.dtype, device=args.device)
    return timed(args, itertools.repeat(x), 1.0, lambda x: x @ W_enc_t.T), shards, scale, None


def run_loader(args):
    """Shuffled batches, read and not used."""
    shards, stream, scale = batches(args)
    start = time.perf_counter()
    for _ in range(args.steps):
        next(stream)
    return (time.perf_counter() - start) / args.steps, shards, scale, None


def run_ours(args):
    """Our trainer, step by step, in a process set up as those of the rules are."""
    import job  # noqa: F401
    from sae_stitching.saes.training import Trainer, TrainingConfig
    from sae_stitching.sparse.active import largest_of_batch

    shards, stream, scale = batches(args)
    config = TrainingConfig(
        d_sae=args.d_sae[0],
        architecture=args.architecture[0],
        k=args.k,
        sparsity_coefficient=sparsity(args),
        decoder_norm_penalty=False,
        bandwidth=BANDWIDTH,
        lr=args.lr,
        betas=(0.9, 0.999),
        # As both libraries do.
        max_grad_norm=1.0,
        batch_size=args.batch_size,
        steps=args.steps,
        lr_warmup_steps=min(100, args.steps // 4),
        lr_decay_fraction=0.2,
        sparsity_warmup_fraction=SPARSITY_WARMUP,
        auxk_coefficient=1 / 32,
        k_aux=None,
        dead_after_tokens=1_000_000,
        product_dtype="auto",
        apply_b_dec_to_input=True,
        shuffle_buffer=1 << 17,
        device=args.device,
        seed=0,
    )
    trainer = Trainer(config, shards)
    seconds = timed(args, stream, scale, trainer.train_step)
    sae = trainer.finished()
    # Trained on scaled activations like the others, so evaluated on them too.
    s = trainer.scale

    def reconstruct(x):
        raw = x.cpu() / s
        # As the libraries encode here: the threshold is a mean over more steps than these.
        by_k = args.architecture[0] == "batchtopk"
        codes = largest_of_batch(sae.pre_activations(raw), args.k) if by_k else sae.encode(raw)
        return s * sae.decode(codes), len(codes) / len(x), codes.pattern.counts

    return seconds, shards, scale, reconstruct


def run_saelens(args):
    """SAELens' trainer of the architecture, with its own step."""
    import torch
    from sae_lens import (
        BatchTopKTrainingSAE,
        BatchTopKTrainingSAEConfig,
        GatedTrainingSAE,
        GatedTrainingSAEConfig,
        JumpReLUTrainingSAE,
        JumpReLUTrainingSAEConfig,
        StandardTrainingSAE,
        StandardTrainingSAEConfig,
        TopKTrainingSAE,
        TopKTrainingSAEConfig,
    )
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    shards, stream, scale = batches(args)
    warmup = sparsity_warmup(args)
    common = {"d_in": shards.d_model, "d_sae": args.d_sae[0], "device": args.device}
    kinds = {
        "relu": (
            StandardTrainingSAE,
            StandardTrainingSAEConfig,
            {"l1_coefficient": sparsity(args), "l1_warm_up_steps": warmup},
        ),
        "topk": (TopKTrainingSAE, TopKTrainingSAEConfig, {"k": args.k}),
        "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, {"k": args.k}),
        "jumprelu": (
            JumpReLUTrainingSAE,
            JumpReLUTrainingSAEConfig,
            {
                "l0_coefficient": sparsity(args),
                "l0_warm_up_steps": warmup,
                "jumprelu_bandwidth": BANDWIDTH,
                "jumprelu_init_threshold": BANDWIDTH / 2,
            },
        ),
        "gated": (
            GatedTrainingSAE,
            GatedTrainingSAEConfig,
            {"l1_coefficient": sparsity(args), "l1_warm_up_steps": warmup},
        ),
    }
    kind, config, options = kinds[args.architecture[0]]
    sae = kind(config(**common, **options))
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            n_checkpoints=0,
            checkpoint_path=None,
            save_final_checkpoint=False,
            total_training_samples=args.steps * args.batch_size,
            device=args.device,
            autocast=args.library.endswith("bf16"),
            lr=args.lr,
            lr_end=0.0,
            lr_scheduler_name="constant",
            lr_warm_up_steps=min(100, args.steps // 4),
            lr_decay_steps=args.steps // 5,
            n_restart_cycles=1,
            adam_beta1=0.9,
            adam_beta2=0.999,
            train_batch_size_samples=args.batch_size,
            dead_feature_window=1000,
            feature_sampling_window=2000,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=sae,
        data_provider=iter(()),
    )

    def step(x):
        trainer.step(x)
        trainer.n_training_steps += 1

    seconds = timed(args, stream, scale, step)

    @torch.no_grad()
    def reconstruct(x):
        f = sae.encode(x)
        return sae.decode(f), (f > 0).sum().item() / len(x), (f > 0).sum(0)

    return seconds, shards, scale, reconstruct


def run_dictionary_learning(args):
    """dictionary_learning's trainer of the architecture, with its own update."""
    import torch
    from dictionary_learning.trainers import (
        BatchTopKTrainer,
        GatedSAETrainer,
        JumpReluTrainer,
        StandardTrainer,
        TopKTrainer,
    )

    shards, stream, scale = batches(args)
    common = {
        "steps": args.steps,
        "activation_dim": shards.d_model,
        "dict_size": args.d_sae[0],
        "layer": 10,
        "lm_name": "smollm2-135m",
        "lr": args.lr,
        "warmup_steps": min(100, args.steps // 4),
        "seed": 0,
        "device": args.device,
    }
    decay = {"decay_start": int(0.8 * args.steps)}
    warmup = sparsity_warmup(args)
    kinds = {
        "relu": (StandardTrainer, {"l1_penalty": sparsity(args), "sparsity_warmup_steps": warmup}),
        "topk": (TopKTrainer, {"k": args.k, **decay}),
        "batchtopk": (BatchTopKTrainer, {"k": args.k, **decay}),
        "jumprelu": (
            JumpReluTrainer,
            {
                # Weighs (L0 / target − 1)², not L0.
                "sparsity_penalty": args.sparsity or 1.0,
                "target_l0": args.k,
                "sparsity_warmup_steps": warmup,
                "bandwidth": BANDWIDTH,
            },
        ),
        "gated": (GatedSAETrainer, {"l1_penalty": sparsity(args), "sparsity_warmup_steps": warmup}),
    }
    kind, options = kinds[args.architecture[0]]
    trainer = kind(**common, **options)
    count = iter(range(args.steps))

    def step(x):
        # As its own loop does with autocast_dtype.
        with torch.autocast(args.device, torch.bfloat16, enabled=args.library.endswith("bf16")):
            trainer.update(next(count), x)

    seconds = timed(args, stream, scale, step)
    # Its thresholds are learned from step 1000 on; before that, k is what it encodes by.
    by_k = {"use_threshold": False} if "topk" in args.architecture[0] else {}

    @torch.no_grad()
    def reconstruct(x):
        f = trainer.ae.encode(x, **by_k)
        return trainer.ae.decode(f), (f > 0).sum().item() / len(x), (f > 0).sum(0)

    return seconds, shards, scale, reconstruct


def timed(args, stream, scale, step):
    """Seconds a step takes, without the loader, on average over all but the first few steps."""
    seconds = 0.0
    for position in range(args.steps):
        x = next(stream)
        x = x.mul_(scale).to(args.device) if scale != 1.0 else x
        finish(args)
        start = time.perf_counter()
        step(x)
        finish(args)
        if position >= WARM:
            seconds += time.perf_counter() - start
    return seconds / (args.steps - WARM)


def finish(args):
    """Wait until a GPU has done all it was given."""
    if args.device == "cuda":
        import torch

        torch.cuda.synchronize()


def peak_mb(args):
    """Most memory in use at a time so far, in MiB: the GPU's, or that of the process."""
    if args.device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(args):
    """One run of one library, as JSON on the standard output."""
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    run = {
        "ours": run_ours,
        "saelens": run_saelens,
        "dictionary_learning": run_dictionary_learning,
        "floor": run_floor,
        "loader": run_loader,
    }[args.library.removesuffix("-bf16")]
    seconds, _, scale, reconstruct = run(args)
    peak = peak_mb(args)
    fvu = l0 = dead = float("nan")
    if reconstruct is not None:
        fvu, l0, dead = held_out(args, scale, reconstruct)
    row = {
        "library": args.library,
        "architecture": args.architecture[0],
        "d_sae": args.d_sae[0],
        "steps": args.steps,
        "tokens_per_second": args.batch_size / seconds,
        "fvu": fvu,
        "l0": l0,
        "dead": dead,
        "peak_mb": peak,
    }
    print(json.dumps(row), flush=True)


def held_out(args, scale, reconstruct):
    """FVU, L0 and latents that never fire on the eval tokens."""
    import torch
    from sae_stitching.activations.shards import ActivationShards

    shards = ActivationShards(sorted(Path(args.activations, "eval").glob("*.h5")))
    x = torch.cat([block.activations for block in shards.blocks()]) * scale
    mean = x.mean(0)
    sse = sst = l0 = 0.0
    counts = 0
    for block in x.split(4096):
        x_hat, block_l0, active = reconstruct(block.to(args.device))
        sse += (block - x_hat.cpu()).double().square().sum().item()
        sst += (block - mean).double().square().sum().item()
        l0 += block_l0 * len(block) / len(x)
        counts = counts + active.cpu()
    return sse / sst, l0, int((counts == 0).sum())


def table(args):
    """All libraries in turn, several times, each in a process of its own."""
    from sae_stitching.base import hardware

    fast = hardware.multiplies_bfloat16(args.device)
    libraries = [name for name in LIBRARIES if fast or not name.endswith("bf16")]
    rows = []
    for architecture in args.architecture:
        for d_sae in args.d_sae:
            for repeat in range(args.repeats):
                for library in (*libraries, *BOUNDS):
                    command = [sys.executable, __file__, library]
                    command += ["--architecture", architecture, "--d-sae", str(d_sae)]
                    if args.sparsity is not None:
                        command += ["--sparsity", str(args.sparsity)]
                    for name in ("steps", "batch_size", "k", "lr", "threads"):
                        option = "--" + name.replace("_", "-")
                        command += [option, str(getattr(args, name))]
                    command += ["--device", args.device, "--activations", args.activations]
                    done = subprocess.run(command, capture_output=True, text=True)
                    if done.returncode:
                        print(f"{library} {architecture} {d_sae}: failed\n{done.stderr[-2000:]}")
                        continue
                    rows.append(json.loads(done.stdout.splitlines()[-1]))
                    print(repeat, rows[-1], flush=True)
                    if args.out:
                        with open(args.out, "a") as file:
                            file.write(json.dumps(rows[-1]) + "\n")
    report(rows)


def report(rows):
    """Medians over the repeats, and our speed as a multiple of each library's."""
    kinds = sorted({(row["architecture"], row["d_sae"]) for row in rows})
    print("| architecture | d_sae | library | tokens/s | ours ÷ it | FVU | L0 | dead | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        of_kind = [row for row in rows if (row["architecture"], row["d_sae"]) == kind]

        def median(library, key, of_kind=of_kind):
            values = [row[key] for row in of_kind if row["library"] == library]
            return statistics.median(values) if values else float("nan")

        for library in (*LIBRARIES, *BOUNDS):
            if not any(row["library"] == library for row in of_kind):
                continue
            ratio = median("ours", "tokens_per_second") / median(library, "tokens_per_second")
            print(
                f"| {kind[0]} | {kind[1]} | {library} | {median(library, 'tokens_per_second'):,.0f}"
                f" | {ratio:.2f} | {median(library, 'fvu'):.4f} | {median(library, 'l0'):.1f}"
                f" | {median(library, 'dead'):.0f} | {median(library, 'peak_mb'):,.0f} |"
            )


if __name__ == "__main__":
    arguments = parse_arguments()
    if arguments.library == "all":
        table(arguments)
    else:
        measure(arguments)
