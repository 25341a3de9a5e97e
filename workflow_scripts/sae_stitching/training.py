"""SAE training: one loop for all architectures, with gradients as sparse as the codes.

The loss of a batch of tokens scaled to norm √d_model is

    L = mean_t ‖x_t − x̂_t‖² + λ mean_t Σ_i f_ti + α L_aux                            (Eq. 3)

with the L1 term for ReLU, and for TopK and BatchTopK the auxiliary loss of Gao et al. (2024),
in which dead latents reconstruct the error. Decoder rows have unit norm throughout (paper, A.2).
Only the encoder's forward product is dense. The decoder and all gradients touch active latents
alone (`sparse`), from the moment that few enough are active for it to pay (`_SPARSE_BELOW`):
TopK and BatchTopK from the first step, ReLU after the first few hundred.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sae_stitching.batches import ActivationShards, ShuffledBatches
from sae_stitching.errors import StudyError
from sae_stitching.progress import Progress
from sae_stitching.sae import SAE, top_k
from sae_stitching.sparse import SparseCodes, decode, encode_active

_logger = logging.getLogger(__name__)

# Share of active latents under which sparse products beat dense ones; measured on two cores
# with and without matrix instructions for bfloat16, where it lay between 0.05 and 0.1.
_SPARSE_BELOW = 0.08

# Tokens from which the input scale and the initial decoder bias are estimated.
_STATISTICS_TOKENS = 1 << 16

# Decay of the running mean of the BatchTopK threshold (Eq. 8, as dictionary_learning estimates).
_THRESHOLD_DECAY = 0.999


@dataclass(frozen=True)
class TrainingConfig:
    """How one SAE is trained; the keys of the study's config, which documents them.

    `lr`, `l1_coefficient` and `auxk_coefficient` are those of inputs at norm √d_model and of a
    loss that sums over d_model and averages over tokens.
    """

    d_sae: int
    architecture: str
    k: int
    l1_coefficient: float
    lr: float
    betas: tuple[float, float]
    batch_size: int
    steps: int
    lr_warmup_steps: int
    lr_decay_fraction: float
    l1_warmup_fraction: float
    auxk_coefficient: float
    k_aux: int | None
    dead_after_tokens: int
    product_dtype: str
    apply_b_dec_to_input: bool
    shuffle_buffer: int
    seed: int

    @classmethod
    def from_mapping(cls, config: Mapping[str, Any]) -> "TrainingConfig":
        """Pick the training keys out of a resolved ``saes`` entry."""
        values = {field.name: config[field.name] for field in fields(cls)}
        values["betas"] = tuple(values["betas"])
        return cls(**values)


@dataclass
class Parameters:
    """Trainable tensors, in float32; the encoder is kept transposed, one row a latent."""

    W_enc_t: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.W_enc_t, self.b_enc, self.W_dec, self.b_dec))


def initial_parameters(
    d_model: int, d_sae: int, b_dec: Tensor, generator: torch.Generator
) -> Parameters:
    """Random unit decoder directions, the encoder as their transpose, b_dec at the mean.

    Tying the encoder to the decoder at the start leaves few latents dead (Gao et al., 2024).
    """
    W_dec = torch.randn(d_sae, d_model, generator=generator)
    W_dec /= torch.linalg.vector_norm(W_dec, dim=1, keepdim=True)
    parameters = Parameters(W_dec.clone(), torch.zeros(d_sae), W_dec, b_dec.clone())
    for tensor in parameters:
        tensor.requires_grad_(True)
    return parameters


@dataclass(frozen=True)
class Losses:
    """Loss of a batch, differentiable, and what is watched beside it."""

    total: Tensor
    squared_error: float
    l0: float
    active: Tensor
    threshold: float


class Objective:
    """Forward pass and loss of one architecture.

    Parameters
    ----------
    config
    parameters
    """

    def __init__(self, config: TrainingConfig, parameters: Parameters) -> None:
        self.config, self.parameters = config, parameters
        self._dtype = getattr(torch, config.product_dtype)
        self._sparse = config.architecture != "relu"

    def __call__(self, x: Tensor, l1_coefficient: float, dead: Tensor) -> Losses:
        """Loss of scaled activations `x` (token, d_model).

        Parameters
        ----------
        x
        l1_coefficient
            λ at this step.
        dead : (d_sae) bool
            Latents that have not been active for long.
        """
        p = self.parameters
        with torch.no_grad():
            pre = self._product(x)
        if not self._sparse:
            density = (pre > 0).float().mean().item()
            if density >= _SPARSE_BELOW:
                return self._dense_relu(x, l1_coefficient)
            _logger.info("%.1f %% of the latents are active: sparse from now on", 100 * density)
            self._sparse = True
        codes = self._activate(pre)
        b_dec = p.b_dec if self.config.apply_b_dec_to_input else None
        values = encode_active(x, p.W_enc_t, p.b_enc, b_dec, codes)
        error = decode(values, p.W_dec, codes.pattern) + p.b_dec - x
        squared_error = error.square().sum() / len(x)
        total = squared_error
        if self.config.architecture == "relu":
            total = total + l1_coefficient * values.sum() / len(x)
        elif self.config.auxk_coefficient and bool(dead.any()):
            total = total + self.config.auxk_coefficient * self._auxk(x, pre, dead, -error.detach())
        threshold = codes.values.min().item() if len(codes) else 0.0
        return Losses(
            total,
            squared_error.item(),
            len(codes) / len(x),
            codes.pattern.counts > 0,
            threshold,
        )

    def _product(self, x: Tensor) -> Tensor:
        # The one dense product, (token, d_sae).
        p = self.parameters
        centred = x - p.b_dec if self.config.apply_b_dec_to_input else x
        return torch.addmm(
            p.b_enc.to(self._dtype), centred.to(self._dtype), p.W_enc_t.to(self._dtype).T
        )

    def _activate(self, pre: Tensor) -> SparseCodes:
        if self.config.architecture == "relu":
            return SparseCodes.from_dense(pre)
        if self.config.architecture == "topk":
            return top_k(pre, self.config.k)
        return batch_top_k(pre, self.config.k)

    def _dense_relu(self, x: Tensor, l1_coefficient: float) -> Losses:
        p = self.parameters
        centred = (x - p.b_dec if self.config.apply_b_dec_to_input else x).to(self._dtype)
        f = torch.addmm(p.b_enc.to(self._dtype), centred, p.W_enc_t.to(self._dtype).T).relu()
        x_hat = (f @ p.W_dec.to(self._dtype)).float() + p.b_dec
        squared_error = (x_hat - x).square().sum() / len(x)
        total = squared_error + l1_coefficient * f.sum(dtype=torch.float32) / len(x)
        active = f.detach() > 0
        return Losses(total, squared_error.item(), active.sum().item() / len(x), active.any(0), 0.0)

    def _auxk(self, x: Tensor, pre: Tensor, dead: Tensor, error: Tensor) -> Tensor:
        # Gao et al. (2024), A.2: the k_aux most active dead latents reconstruct the error e; its
        # share grows with the number of dead latents (SAELens).
        p = self.parameters
        k_aux = self.config.k_aux or x.shape[1] // 2
        latents = dead.nonzero().squeeze(1)
        k = min(k_aux, len(latents))
        codes = top_k(pre[:, latents], k)
        b_dec = p.b_dec if self.config.apply_b_dec_to_input else None
        values = encode_active(x, p.W_enc_t[latents], p.b_enc[latents], b_dec, codes)
        e_hat = decode(values, p.W_dec[latents], codes.pattern)
        return min(len(latents) / k_aux, 1.0) * (error - e_hat).square().sum() / len(x)


def batch_top_k(pre: Tensor, k: int) -> SparseCodes:
    """Keep the (tokens × k) greatest pre-activations of the batch, where they are positive."""
    n_keep = min(k * len(pre), pre.numel())
    lowest = pre.reshape(-1).topk(n_keep, sorted=False).values.min().clamp(min=0.0)
    codes = SparseCodes.from_mask(pre, (pre >= lowest) & (pre > 0))
    if len(codes) <= n_keep:
        return codes
    # Ties at the threshold: the first of them, in the order of tokens and latents, are kept.
    tied = (codes.values == lowest.to(codes.values.dtype)).nonzero().squeeze(1)
    keep = torch.ones(len(codes), dtype=torch.bool, device=pre.device)
    keep[tied[len(tied) - (len(codes) - n_keep) :]] = False
    return codes.select(keep)


def lr_factor(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step as a share of the full: linear warm-up, linear decay to zero."""
    warm_up = min(1.0, (step + 1) / max(config.lr_warmup_steps, 1))
    decay_steps = math.ceil(config.lr_decay_fraction * config.steps)
    return warm_up * min(1.0, (config.steps - step) / max(decay_steps, 1))


def l1_factor(step: int, config: TrainingConfig) -> float:
    """L1 coefficient of a step as a share of the full: linear warm-up."""
    return min(1.0, (step + 1) / max(config.l1_warmup_fraction * config.steps, 1))


class Trainer:
    """Train one SAE on batches that its seed fixes.

    Parameters
    ----------
    config
    shards
        Training activations.
    """

    def __init__(self, config: TrainingConfig, shards: ActivationShards) -> None:
        self.config, self.shards = config, shards
        self.batches = ShuffledBatches(
            shards, config.batch_size, config.shuffle_buffer, config.seed
        )
        self.scale, mean = self._statistics()
        self._generator = torch.Generator().manual_seed(config.seed)
        self.parameters = initial_parameters(shards.d_model, config.d_sae, mean, self._generator)
        self.objective = Objective(config, self.parameters)
        self.optimizer = torch.optim.Adam(
            list(self.parameters), lr=config.lr, betas=config.betas, fused=True
        )
        self.step = 0
        self.tokens_since_active = torch.zeros(config.d_sae, dtype=torch.int64)
        self.threshold: float | None = None

    def _statistics(self) -> tuple[float, Tensor]:
        # Factor that brings the activations to a mean norm of √d_model, and their scaled mean.
        n_batches = max(1, _STATISTICS_TOKENS // self.config.batch_size)
        norm, total = 0.0, torch.zeros(self.shards.d_model, dtype=torch.float64)
        for _, batch in zip(range(n_batches), self.batches, strict=False):
            norm += torch.linalg.vector_norm(batch, dim=1).double().mean().item() / n_batches
            total += batch.double().mean(0) / n_batches
        if not norm > 0:
            raise StudyError(
                f"{self.shards.paths[0]}: all activations are zero; is the hook right?"
            )
        scale = math.sqrt(self.shards.d_model) / norm
        return scale, (scale * total).float()

    def train(self, label: str) -> SAE:
        """Run all steps and return the SAE that reads raw activations."""
        config = self.config
        progress = Progress(config.steps * config.batch_size, label)
        for x in self.batches.starting_at(self.step):
            if self.step == config.steps:
                break
            x.mul_(self.scale)
            losses = self.train_step(x)
            progress.update(len(x), partial(self._watched, x, losses))
        return self.finished()

    def _watched(self, x: Tensor, losses: Losses) -> str:
        fvu = losses.squared_error / max(x.var(0, correction=0).sum().item(), 1e-12)
        return (
            f"loss {losses.total.item():.2f}, FVU {fvu:.4f}, L0 {losses.l0:.1f}, "
            f"{int(self.dead.sum())} dead"
        )

    @property
    def dead(self) -> Tensor:
        """Latents that have not been active for `dead_after_tokens`, (d_sae) bool."""
        return self.tokens_since_active >= self.config.dead_after_tokens

    def train_step(self, x: Tensor) -> Losses:
        """One optimiser step on scaled activations `x` (token, d_model)."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * lr_factor(self.step, config)
        l1_coefficient = config.l1_coefficient * l1_factor(self.step, config)
        losses = self.objective(x, l1_coefficient, self.dead)
        if not math.isfinite(losses.squared_error):
            raise StudyError(
                f"training: the loss is not finite at step {self.step}; lower training.lr"
            )
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        self._project_gradient()
        self.optimizer.step()
        with torch.no_grad():
            W_dec = self.parameters.W_dec
            W_dec /= torch.linalg.vector_norm(W_dec, dim=1, keepdim=True)
        self.tokens_since_active += len(x)
        self.tokens_since_active[losses.active] = 0
        if config.architecture == "batchtopk":
            # Eq. 8: the mean over batches of the smallest activation kept.
            decay = min(_THRESHOLD_DECAY, self.step / (self.step + 1))
            previous = self.threshold or 0.0
            self.threshold = decay * previous + (1 - decay) * losses.threshold
        self.step += 1
        if config.architecture == "relu":
            self._revive(x)
        return losses

    def _project_gradient(self) -> None:
        # Only the part of the gradient along the sphere counts: rows of W_dec keep unit norm.
        W_dec = self.parameters.W_dec
        assert W_dec.grad is not None
        along = torch.linalg.vecdot(W_dec.detach(), W_dec.grad)
        W_dec.grad.addcmul_(W_dec.detach(), along[:, None], value=-1.0)

    @torch.no_grad()
    def _revive(self, x: Tensor) -> None:
        """Give dead ReLU latents a new direction: one that the SAE reconstructs badly.

        After Bricken et al. (2023): tokens are drawn with probability proportional to their
        squared loss, the direction is the token's error (they take the input), the encoder
        weight 0.2 of the mean norm, and the optimiser forgets the latent. It happens whenever a
        latent has been inactive for `dead_after_tokens`, but not while the learning rate decays.
        """
        config = self.config
        dead = self.dead.nonzero().squeeze(1)
        if not len(dead) or lr_factor(self.step, config) < 1.0:
            return
        p = self.parameters
        codes = SparseCodes.from_dense(self.objective._product(x))
        error = x - codes.matmul(p.W_dec) - p.b_dec
        squared = error.square().sum(1)
        chosen = torch.multinomial(squared.square(), len(dead), True, generator=self._generator)
        directions = torch.nn.functional.normalize(error[chosen], dim=1)
        alive = torch.ones(config.d_sae, dtype=torch.bool)
        alive[dead] = False
        norm = torch.linalg.vector_norm(p.W_enc_t[alive], dim=1).mean() if alive.any() else 1.0
        p.W_dec[dead] = directions
        p.W_enc_t[dead] = 0.2 * norm * directions
        p.b_enc[dead] = 0.0
        for tensor in (p.W_dec, p.W_enc_t, p.b_enc):
            state = self.optimizer.state[tensor]
            state["exp_avg"][dead] = 0.0
            state["exp_avg_sq"][dead] = 0.0
        self.tokens_since_active[dead] = 0
        _logger.info("step %d: %d dead latents got a new direction", self.step, len(dead))

    @torch.no_grad()
    def finished(self) -> SAE:
        """The SAE so far, with the input scale s folded into its weights.

        In training x̂ = f W_dec + b_dec reconstructs s x from f = σ((s x − b_dec) W_enc + b_enc).
        Both sides divided by s, with f / s = σ((x − b_dec/s) W_enc + b_enc/s), since every σ here
        is positively homogeneous once its threshold is divided by s too: the decoder keeps its
        unit norm, and the biases and the threshold shrink by s.
        """
        config, p, s = self.config, self.parameters, self.scale
        threshold = None
        if config.architecture == "batchtopk":
            threshold = torch.full((config.d_sae,), (self.threshold or 0.0) / s)
        return SAE(
            W_enc=p.W_enc_t.T.contiguous().clone(),
            W_dec=p.W_dec.detach().clone(),
            b_enc=p.b_enc / s,
            b_dec=p.b_dec / s,
            architecture=config.architecture,
            threshold=threshold,
            k=config.k if config.architecture in ("topk", "batchtopk") else None,
            apply_b_dec_to_input=config.apply_b_dec_to_input,
            hook=self.shards.hook,
            model=self.shards.model,
        )
