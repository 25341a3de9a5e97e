"""SAE training: one loop for all architectures, with gradients as sparse as the codes.

Tokens are scaled to norm √d_model, and the loss of a batch is

    L = mean_t ‖x_t − x̂_t‖² + λ mean_t penalty_t + α L_aux                            (Eq. 3)

with what `architectures` says of codes and penalty. Only the encoder's forward product is dense.
The decoder and all gradients touch active latents alone, each product from the moment that so few
take part in it that this pays (`sparse`). On a CPU it does for TopK and BatchTopK from the first
step, and for the others, which start with half of the latents active, after some tens or hundreds;
on a GPU, which multiplies much faster than it reads, only where few of many thousands are active.
"""

import csv
import glob
import hashlib
import json
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.optim.adam import adam

from sae_stitching.activations.shards import ActivationShards, ShuffledBatches
from sae_stitching.base import hardware
from sae_stitching.base.errors import StudyError, unreadable
from sae_stitching.base.progress import Progress
from sae_stitching.base.store import replacing
from sae_stitching.saes.architectures import ARCHITECTURES, Architecture, Parameters
from sae_stitching.saes.sae import SAE
from sae_stitching.sparse.active import largest_of_token
from sae_stitching.sparse.codes import decode, encode_active

_logger = logging.getLogger(__name__)

# Tokens from which the input scale and the initial decoder bias are estimated.
_STATISTICS_TOKENS = 1 << 16

# The BatchTopK threshold (Eq. 8) is a running mean over the last tenth of the steps, a hundred at
# most (SAELens). Over a thousand (dictionary_learning) it lags behind activations that still
# change: after 1600 steps such an SAE encoded at an L0 of 27 in place of 32.
_THRESHOLD_DECAY, _THRESHOLD_SHARE = 0.99, 0.1

# Steps between two rows of the training curve, and seconds between two checkpoints.
_CURVE_EVERY = 20
_CHECKPOINT_EVERY = 60.0

#: Columns of the training curve. `settled` is known in some rows only, see `looks_back`.
CURVE = ("step", "tokens", "loss", "fvu", "l0", "n_dead", "settled")

# A direction has settled that is this near (cosine) to where it was at half as many steps. It can
# be watched without a twin: latents that still turn are in no second seed. It bounds what a twin
# would say and no more: ReLU's share of settled directions was within 0.09 of what two seeds had in
# common, TopK's reached 0.96 where they had 0.42.
SETTLED_COSINE = 0.9
#: Share of settled directions below which an SAE is too young for its latents to be compared.
YOUNG_BELOW = 0.9


@dataclass(frozen=True)
class TrainingConfig:
    """How one SAE is trained; the keys of the study's config, which documents them.

    `lr`, `sparsity_coefficient`, `bandwidth`, `max_grad_norm` and `auxk_coefficient` are those of
    inputs at norm √d_model and of a loss that sums over d_model and averages over tokens.
    """

    d_sae: int
    architecture: str
    k: int
    sparsity_coefficient: float
    decoder_norm_penalty: bool
    bandwidth: float
    lr: float
    betas: tuple[float, float]
    max_grad_norm: float | None
    batch_size: int
    steps: int
    lr_warmup_steps: int
    lr_decay_fraction: float
    sparsity_warmup_fraction: float
    auxk_coefficient: float
    k_aux: int | None
    dead_after_tokens: int
    product_dtype: str
    apply_b_dec_to_input: bool
    shuffle_buffer: int
    device: str
    seed: int

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> "TrainingConfig":
        """Pick the training keys out of a resolved ``saes`` entry."""
        values = {field.name: config[field.name] for field in fields(cls)}
        values["betas"] = tuple(values["betas"])
        return cls(**values)


def initial_parameters(
    d_model: int, d_sae: int, b_dec: Tensor, extra: Parameters, generator: torch.Generator
) -> Parameters:
    """Random unit decoder directions, the encoder as their transpose, b_dec at the mean.

    Tying the encoder to the decoder at the start leaves few latents dead (Gao et al., 2024). The
    encoder is kept transposed, one row a latent.
    """
    W_dec = torch.randn(d_sae, d_model, generator=generator)
    W_dec /= torch.linalg.vector_norm(W_dec, dim=1, keepdim=True)
    return {
        "W_enc_t": W_dec.clone(),
        "b_enc": torch.zeros(d_sae),
        "W_dec": W_dec,
        "b_dec": b_dec.clone(),
        **extra,
    }


@dataclass(frozen=True)
class Losses:
    """Loss of a batch, differentiable, and what is watched beside it.

    Attributes
    ----------
    total : scalar Tensor
    value : float
        Of `total`.
    squared_error : float
        Mean over tokens of ‖x − x̂‖².
    l0 : float
        Mean number of active latents.
    active : (d_sae) bool
        Latents that were active on any token.
    smallest : scalar Tensor
        Smallest positive activation, where k decides which latents are active; else 0.
    """

    total: Tensor
    value: float
    squared_error: float
    l0: float
    active: Tensor
    smallest: Tensor


class Objective:
    """Forward pass and loss of one SAE.

    Parameters
    ----------
    config
    parameters
        As `initial_parameters` makes them.
    """

    def __init__(self, config: TrainingConfig, parameters: Parameters) -> None:
        self.config, self.parameters = config, parameters
        self.architecture: Architecture = ARCHITECTURES[config.architecture](
            config.k, config.bandwidth, config.decoder_norm_penalty
        )
        self._dtype = getattr(torch, config.product_dtype)

    def __call__(self, x: Tensor, coefficient: float, dead: Tensor) -> Losses:
        """Loss of scaled activations.

        Parameters
        ----------
        x : (token, d_model)
        coefficient
            λ at this step.
        dead : (d_sae) bool
            Latents that have not been active for long.
        """
        p, config = self.parameters, self.config
        with torch.no_grad():
            z = self.pre_activations(x)
            codes = self.architecture.reach(z, p)
        pattern = codes.pattern
        b_dec = p["b_dec"] if config.apply_b_dec_to_input else None
        entries = encode_active(x, p["W_enc_t"], p["b_enc"], b_dec, codes, self._dtype)
        f, penalty = self.architecture.activate(entries, pattern, p)
        x_hat = decode(f, p["W_dec"], pattern, self._dtype) + p["b_dec"]
        total = loss = self._squared_error(x, x_hat)
        if penalty is not None:
            total = total + coefficient * penalty / len(x)
        elif config.auxk_coefficient and bool(dead.any()):
            total = total + config.auxk_coefficient * self._auxk(x, z, dead, x - x_hat.detach())
        auxiliary = self.architecture.auxiliary_codes(entries)
        if auxiliary is not None:
            x_hat = decode(auxiliary, p["W_dec"].detach(), pattern, self._dtype)
            total = total + self._squared_error(x, x_hat + p["b_dec"].detach())
        f = f.detach()  # never negative
        # Without a penalty all entries are positive.
        smallest = f.min() if penalty is None and len(f) else x.new_zeros(())
        active = pattern.sum_by_latent(f) > 0
        # Together, since a GPU must have done all it was given before it says a number.
        watched = [total.detach(), loss.detach(), f.count_nonzero()]
        value, squared_error, n_active = torch.stack([n.double() for n in watched]).tolist()
        return Losses(total, value, squared_error, n_active / len(x), active, smallest)

    def pre_activations(self, x: Tensor) -> Tensor:
        """The one dense product, z (token, d_sae), at the precision of `product_dtype`."""
        p, dtype = self.parameters, self._dtype
        centred = x - p["b_dec"] if self.config.apply_b_dec_to_input else x
        return torch.addmm(p["b_enc"].to(dtype), centred.to(dtype), p["W_enc_t"].to(dtype).T)

    @staticmethod
    def _squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
        # The mean over tokens of ‖x − x̂‖².
        return mse_loss(x_hat, x, reduction="sum") / len(x)

    def _auxk(self, x: Tensor, z: Tensor, dead: Tensor, error: Tensor) -> Tensor:
        # Gao et al. (2024), A.2: the k_aux most active dead latents reconstruct the error e; its
        # share grows with the number of dead latents (SAELens).
        p = self.parameters
        k_aux = self.config.k_aux or max(1, x.shape[1] // 2)
        latents = dead.nonzero().squeeze(1)
        codes = largest_of_token(z[:, latents], min(k_aux, len(latents)))
        b_dec = p["b_dec"] if self.config.apply_b_dec_to_input else None
        W_enc_t, b_enc = p["W_enc_t"][latents], p["b_enc"][latents]
        f = encode_active(x, W_enc_t, b_enc, b_dec, codes, self._dtype)
        e_hat = decode(f, p["W_dec"][latents], codes.pattern, self._dtype)
        return min(len(latents) / k_aux, 1.0) * self._squared_error(error, e_hat)


def lr_factor(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step as a share of the full: linear warm-up, linear decay to zero."""
    warm_up = min(1.0, (step + 1) / max(config.lr_warmup_steps, 1))
    decay_steps = math.ceil(config.lr_decay_fraction * config.steps)
    return warm_up * min(1.0, (config.steps - step) / max(decay_steps, 1))


def sparsity_factor(step: int, config: TrainingConfig) -> float:
    """λ of a step as a share of the full: linear warm-up."""
    return min(1.0, (step + 1) / max(config.sparsity_warmup_fraction * config.steps, 1))


def looks_back(steps: int) -> dict[int, int]:
    """Steps at which directions are compared with where they were at half as many steps.

    The last step and, going back from it, every step that is √2 times fewer, as long as rows of
    the training curve can tell them apart. So a training has at most three earlier decoders to
    remember, and what is said of its end is said of its whole second half.

    Returns
    -------
    dict
        Of each such step the step that it is compared with, in rising order.
    """
    fewer = (steps * 2 ** (-n / 2) for n in range(1, 2 * steps.bit_length()))
    rows = {_CURVE_EVERY * round(step / _CURVE_EVERY) for step in fewer}
    marks = sorted({steps, *(row for row in rows if 0 < row < steps)})
    halves = {step: min(marks, key=lambda mark: abs(mark - step / 2)) for step in marks}
    return {step: half for step, half in halves.items() if step / 2.5 <= half <= step / 1.6}


class Adam:
    """Adam (Kingma and Ba, 2015), by PyTorch's fused kernel.

    As `torch.optim.Adam` without its class, whose first use imports the compiler of graphs: two
    processor seconds of every training, for a wrapper that nothing here needs.

    Parameters
    ----------
    parameters
        By name; each step changes them in place by their gradients.
    betas
        Decay of the running means of the gradient and of its square.

    Attributes
    ----------
    state
        Of each parameter by name: `exp_avg` and `exp_avg_sq`, of its shape, and `step`.
    """

    def __init__(self, parameters: Parameters, betas: tuple[float, float]) -> None:
        self._parameters, self._betas = parameters, betas
        self.state = {
            name: {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
            for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Change the parameters that have a gradient."""
        found = {name: p for name, p in self._parameters.items() if p.grad is not None}
        mean, square, steps = (
            [self.state[name][part] for name in found] for part in ("exp_avg", "exp_avg_sq", "step")
        )
        adam(
            list(found.values()),
            [p.grad for p in found.values() if p.grad is not None],
            mean,
            square,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def forget(self, name: str, latents: Tensor) -> None:
        """Forget the gradients of some rows of a parameter."""
        for part in ("exp_avg", "exp_avg_sq"):
            self.state[name][part][latents] = 0.0

    def load(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take up the state of another."""
        for name, parts in self.state.items():
            for part, tensor in parts.items():
                tensor.copy_(state[name][part])


class Trainer:
    """Train one SAE on batches that its seed fixes.

    Parameters
    ----------
    config
    shards
        Training activations.

    Attributes
    ----------
    parameters : dict
        Trainable tensors by name, in float32.
    step : int
        Steps done.
    curve : list of tuple
        Rows of the training curve, see `CURVE`.
    """

    def __init__(self, config: TrainingConfig, shards: ActivationShards) -> None:
        self.device = torch.device(hardware.device(config.device, "training.device"))
        product_dtype = hardware.dtype(
            config.product_dtype, self.device.type, "training.product_dtype"
        )
        self.config = config = replace(config, product_dtype=product_dtype)
        self.shards = shards
        self.batches = ShuffledBatches(
            shards, config.batch_size, config.shuffle_buffer, config.seed, self.device
        )
        self.scale, mean = self._statistics()
        # SAEs of one seed must not share their first directions: the rows of a smaller one would
        # be the first of a larger one, and stay closer to them than chance.
        start = np.random.SeedSequence((config.seed, config.d_sae)).generate_state(1, np.uint64)
        self._generator = torch.Generator().manual_seed(int(start[0]))
        kind = ARCHITECTURES[config.architecture]
        extra = kind(config.k, config.bandwidth, config.decoder_norm_penalty).extra_parameters(
            config.d_sae
        )
        parameters = initial_parameters(shards.d_model, config.d_sae, mean, extra, self._generator)
        self.parameters = {
            name: tensor.to(self.device).requires_grad_(True) for name, tensor in parameters.items()
        }
        self.objective = Objective(config, self.parameters)
        self.optimizer = Adam(self.parameters, config.betas)
        self.step = 0
        self.tokens_since_active = torch.zeros(config.d_sae, dtype=torch.int64, device=self.device)
        # Mean over batches of the smallest activation (BatchTopK, Eq. 8).
        self.threshold = torch.zeros(1, device=self.device)
        self.curve: list[tuple[float, ...]] = []
        self._looks_back = looks_back(config.steps)
        # Decoder directions at earlier steps, in half precision: enough for a cosine.
        self._directions = {0: self.parameters["W_dec"].detach().half()}

    def _statistics(self) -> tuple[float, Tensor]:
        # Factor that brings the activations to a mean norm of √d_model, and their scaled mean.
        n_batches = max(1, _STATISTICS_TOKENS // self.config.batch_size)
        norm, total = 0.0, torch.zeros(self.shards.d_model, dtype=torch.float64, device=self.device)
        with closing(self.batches.starting_at(0)) as batches:
            for batch in islice(batches, n_batches):
                norm += torch.linalg.vector_norm(batch, dim=1).double().mean().item() / n_batches
                total += batch.double().mean(0) / n_batches
        if not math.isfinite(norm):
            raise StudyError(
                f"{self.shards.paths[0].parent}: an activation is not finite; delete the shards "
                "and run again"
            )
        if not norm > 0:
            raise StudyError(
                f"{self.shards.paths[0]}: all activations are zero; is the hook right?"
            )
        scale = math.sqrt(self.shards.d_model) / norm
        return scale, (scale * total).float().cpu()

    def train(self, label: str, checkpoint: Path | None = None) -> SAE:
        """Run all steps and return the SAE that reads raw activations.

        Parameters
        ----------
        label
            Names the work in the log.
        checkpoint
            Where the state is kept meanwhile, see `checkpoint_path`; if it is there, training goes
            on from it, and ends with the same bytes as if it had not been interrupted.
        """
        config = self.config
        progress = Progress(config.steps * config.batch_size, label)
        if checkpoint is not None and checkpoint.exists():
            self.load(checkpoint)
            _logger.info("%s: taken up at step %d of %d", label, self.step, config.steps)
            progress.skip(self.step * config.batch_size)
        saved = time.monotonic()
        with closing(self.batches.starting_at(self.step)) as batches:
            while self.step < config.steps:
                x = next(batches).mul_(self.scale)
                losses = self.train_step(x)
                progress.update(len(x), partial(self._watched, x, losses))
                if self.step % _CURVE_EVERY == 0 or self.step == config.steps:
                    self._check_parameters()
                    self.curve.append(self._curve_row(x, losses, self._settled()))
                if checkpoint is not None and time.monotonic() - saved > _CHECKPOINT_EVERY:
                    self._check_parameters()
                    self.save(checkpoint)
                    saved = time.monotonic()
        self._tell_age(label)
        return self.finished()

    @torch.no_grad()
    def _settled(self) -> float:
        """Share of latents whose direction is where it was at half as many steps, but not at none.

        Where it was is a cosine of at least `SETTLED_COSINE`. One that is still where it began was
        not trained rather than settled. NaN at steps that do not look back.
        """
        W_dec = torch.nn.functional.normalize(self.parameters["W_dec"], dim=1)
        settled = float("nan")
        if (half := self._looks_back.get(self.step)) is not None:
            stayed, untrained = (
                torch.linalg.vecdot(W_dec, self._directions[step].float()) >= SETTLED_COSINE
                for step in (half, 0)
            )
            settled = float((stayed & ~untrained).float().mean())
        if self.step in self._looks_back.values():
            self._directions[self.step] = W_dec.half()
        needed = {0, *(half for step, half in self._looks_back.items() if step > self.step)}
        self._directions = {step: W for step, W in self._directions.items() if step in needed}
        return settled

    def _tell_age(self, label: str) -> None:
        settled = self.curve[-1][CURVE.index("settled")]
        if settled < YOUNG_BELOW:
            _logger.warning(
                "%s: young: %.0f %% of the latents kept their direction over the second half of "
                "the steps; two seeds would share no more, so train longer (training.steps) before "
                "latents are compared",
                label,
                100 * settled,
            )

    def _check_parameters(self) -> None:
        # No comparison holds for NaN: where pre-activations are, no latent is active, and the
        # loss may be finite.
        for name, tensor in self.parameters.items():
            if not bool(torch.isfinite(tensor).all()):
                raise StudyError(
                    f"training: {name} is not finite at step {self.step}; lower training.lr"
                )

    @property
    def dead(self) -> Tensor:
        """Latents that have not been active for `dead_after_tokens`, (d_sae) bool."""
        return self.tokens_since_active >= self.config.dead_after_tokens

    def _curve_row(self, x: Tensor, losses: Losses, settled: float) -> tuple[float, ...]:
        fvu = losses.squared_error / max(x.var(0, correction=0).sum().item(), 1e-12)
        tokens = self.step * self.config.batch_size
        return (self.step, tokens, losses.value, fvu, losses.l0, int(self.dead.sum()), settled)

    def _watched(self, x: Tensor, losses: Losses) -> str:
        _, _, loss, fvu, l0, n_dead, _ = self._curve_row(x, losses, float("nan"))
        return f"loss {loss:.2f}, FVU {fvu:.4f}, L0 {l0:.1f}, {n_dead} dead"

    def train_step(self, x: Tensor) -> Losses:
        """One optimiser step on scaled activations `x` (token, d_model)."""
        config = self.config
        coefficient = config.sparsity_coefficient * sparsity_factor(self.step, config)
        losses = self.objective(x, coefficient, self.dead)
        if not math.isfinite(losses.value):
            raise StudyError(
                f"training: the loss is not finite at step {self.step}, on batch {self.step} of "
                f"seed {config.seed}; lower training.lr"
            )
        for parameter in self.parameters.values():
            parameter.grad = None
        losses.total.backward()
        if not config.decoder_norm_penalty:
            self._project_gradient()
        if config.max_grad_norm is not None:
            clip_grad_norm_(list(self.parameters.values()), config.max_grad_norm)
        self.optimizer.step(config.lr * lr_factor(self.step, config))
        if not config.decoder_norm_penalty:
            with torch.no_grad():
                W_dec = self.parameters["W_dec"]
                W_dec /= torch.linalg.vector_norm(W_dec, dim=1, keepdim=True)
        self.tokens_since_active += len(x)
        self.tokens_since_active.masked_fill_(losses.active, 0)
        decay = min(_THRESHOLD_DECAY, self.step / (self.step + 1 / _THRESHOLD_SHARE))
        self.threshold.lerp_(losses.smallest, 1.0 - decay)
        self.step += 1
        if self.objective.architecture.has_penalty:
            self._revive(x)
        return losses

    def _project_gradient(self) -> None:
        # Only the part of the gradient along the sphere counts: rows of W_dec keep unit norm.
        W_dec = self.parameters["W_dec"].detach()
        grad = self.parameters["W_dec"].grad
        assert grad is not None
        grad.addcmul_(W_dec, torch.linalg.vecdot(W_dec, grad)[:, None], value=-1.0)

    @torch.no_grad()
    def _revive(self, x: Tensor) -> None:
        """Give dead latents a new direction: one that the SAE reconstructs badly.

        After Bricken et al. (2023): tokens are drawn with probability proportional to their
        squared loss, the direction is the token's error (they take the input), the encoder
        weight 0.2 of the mean norm, and the optimiser forgets the latent. It happens whenever a
        latent has been inactive for `dead_after_tokens`, but not while the learning rate decays.
        """
        config, p = self.config, self.parameters
        dead = self.dead.nonzero().squeeze(1)
        if not len(dead) or lr_factor(self.step, config) < 1.0:
            return
        architecture = self.objective.architecture
        codes = architecture.reach(self.objective.pre_activations(x), p)
        f, _ = architecture.activate(codes.values, codes.pattern, p)
        error = x - codes.pattern.matmul(f, p["W_dec"]) - p["b_dec"]
        squared = error.square().sum(1).cpu()
        chosen = torch.multinomial(squared.square(), len(dead), True, generator=self._generator)
        directions = torch.nn.functional.normalize(error[chosen.to(self.device)], dim=1)
        alive = ~self.dead
        norm = torch.linalg.vector_norm(p["W_enc_t"][alive], dim=1).mean() if alive.any() else 1.0
        fresh = {
            "W_dec": directions,
            "W_enc_t": 0.2 * norm * directions,
            "b_enc": torch.zeros(len(dead), device=self.device),
            **{
                name: start.to(self.device)[: len(dead)]
                for name, start in architecture.extra_parameters(config.d_sae).items()
            },
        }
        for name, value in fresh.items():
            p[name][dead] = value
            self.optimizer.forget(name, dead)
        self.tokens_since_active[dead] = 0
        _logger.info("step %d: %d dead latents got a new direction", self.step, len(dead))

    @torch.no_grad()
    def finished(self) -> SAE:
        """The SAE so far, with the input scale s folded into its weights.

        In training x̂ = f W_dec + b_dec reconstructs s x from f = σ((s x − b_dec) W_enc + b_enc).
        Both sides divided by s, with f / s = σ((x − b_dec/s) W_enc + b_enc/s), since every σ here
        is positively homogeneous once its threshold is divided by s too: the decoder keeps its
        norm, and the biases and the threshold shrink by s.
        """
        config, p = self.config, {name: t.detach() for name, t in self.parameters.items()}
        encoder = self.objective.architecture.inference(
            {**p, "threshold": self.threshold}, self.scale
        )
        tensors = {**encoder, "W_dec": p["W_dec"], "b_dec": p["b_dec"] / self.scale}
        return SAE(
            **{name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()},
            architecture=config.architecture,
            k=None if self.objective.architecture.has_penalty else config.k,
            apply_b_dec_to_input=config.apply_b_dec_to_input,
            hook=self.shards.hook,
            model=self.shards.model,
            normalize=None,
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "parameters": {name: tensor.detach() for name, tensor in self.parameters.items()},
            "optimizer": self.optimizer.state,
            "step": self.step,
            "tokens_since_active": self.tokens_since_active,
            "threshold": self.threshold,
            "generator": self._generator.get_state(),
            "curve": self.curve,
            "directions": self._directions,
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Take up the state of a checkpoint.

        Raises
        ------
        StudyError
            If it cannot be read.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            # So speak damaged pickles and archives. A device that fails, say, is no damage.
            damage = isinstance(error, UnpicklingError | EOFError | OSError | ValueError | KeyError)
            if damage or re.search("PytorchStreamReader|inline_container|hasRecord", str(error)):
                otherwise = (
                    f"not a readable checkpoint ({type(error).__name__}); delete it and run again"
                )
            else:
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                otherwise = (
                    f"cannot be read ({said}); run again, and if this stays so move it away: "
                    "training then begins anew"
                )
            raise unreadable(path, error, otherwise) from error
        for name, tensor in self.parameters.items():
            tensor.copy_(state["parameters"][name])
        self.optimizer.load(state["optimizer"])
        self.step = state["step"]
        self.tokens_since_active.copy_(state["tokens_since_active"])
        self.threshold.copy_(state["threshold"])
        self._generator.set_state(state["generator"].cpu())
        self.curve = [tuple(row) for row in state["curve"]]
        self._directions = {
            step: directions.to(self.device) for step, directions in state["directions"].items()
        }


def checkpoint_path(
    sae_file: str | Path, shards: ActivationShards, provenance: Mapping[str, Any]
) -> Path:
    """Where the state of a training is kept: beside the SAE, under a name of its own.

    The name follows from config, code and package versions (`provenance`) and from the
    activations, so that a checkpoint is taken up only by the very training that it belongs to.
    """
    described = json.dumps([provenance, shards.identity], sort_keys=True)
    key = hashlib.sha256(described.encode()).hexdigest()[:16]
    sae_file = Path(sae_file)
    return sae_file.with_name(f".{sae_file.stem}.{key}.checkpoint")


def discard_checkpoints(sae_file: str | Path) -> None:
    """Remove all checkpoints of an SAE that is done, also those of earlier configs."""
    sae_file = Path(sae_file)
    for path in sae_file.parent.glob(f".{glob.escape(sae_file.stem)}.{'[0-9a-f]' * 16}.checkpoint"):
        path.unlink(missing_ok=True)


def write_curve(curve: Sequence[tuple[float, ...]], path: str | Path) -> None:
    """Write the training curve, ``saes/<sae>.csv``: a row every so many steps, NaN left empty."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CURVE)
        writer.writerows(["" if number != number else number for number in row] for row in curve)
