"""The language model: run up to a hook, and no further.

Hooks carry TransformerLens' names. Importing this module is quick; TransformerLens and torch are
imported when a model is booted.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_stitching import hardware
from sae_stitching.errors import StudyError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

POINTS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")


def parse_hook(hook: str) -> tuple[int, str]:
    """Split a hook's name, e.g. ``"blocks.8.hook_resid_pre"``, into layer and point.

    Raises
    ------
    StudyError
        If it is not one of the hooks that are supported.
    """
    match = re.fullmatch(r"blocks\.(0|[1-9][0-9]*)\.(\w+)", hook)
    if match is None or match[2] not in POINTS:
        raise StudyError(
            f"model.hook: {hook!r} is not one of "
            + ", ".join(f"blocks.<layer>.{point}" for point in POINTS)
        )
    return int(match[1]), match[2]


def model_facts(name: str) -> dict[str, int]:
    """Read the sizes of a model from its config, where that is on disk.

    Parameters
    ----------
    name
        Model folder, or name on the hub; of the latter only the hub's cache is looked at.

    Returns
    -------
    dict
        `n_layers`, `d_model` and `context` (tokens), as far as they are known; else empty.
    """
    path = Path(name) / "config.json"
    if not path.is_file():
        cached = _cached_config(name)
        if cached is None:
            return {}
        path = cached
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict):
        return {}
    text = config.get("text_config")
    if isinstance(text, dict):
        config = {**config, **text}
    keys = {
        "n_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "d_model": ("hidden_size", "n_embd", "d_model", "dim"),
        "context": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
    }
    facts = {}
    for fact, names in keys.items():
        value = next((config[key] for key in names if isinstance(config.get(key), int)), None)
        if value is not None:
            facts[fact] = value
    return facts


def _cached_config(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


class LanguageModel:
    """A language model that is run up to a hook.

    Parameters
    ----------
    name
        Model folder, or a name that TransformerLens can boot.
    hook
        Where the activations are taken, see `parse_hook`.
    dtype
        Of weights and activations: ``"bfloat16"``, ``"float32"`` or ``"auto"``, see
        `hardware.dtype`.
    device
        ``"cpu"``, ``"cuda"`` or ``"auto"``: cuda where there is one.
    center_writing_weights
        Take the mean over `d_model` out of everything that is written to the residual stream,
        as the SAEs of the paper's GPT-2 models expect. Only models with LayerNorm compute the
        same function after that.

    Attributes
    ----------
    n_layers, d_model
        Sizes of the model.
    context
        Longest sequence, in tokens.

    Raises
    ------
    StudyError
        If weights or tokenizer are missing, if the model has no such hook, if it cannot be
        centred, or if there is no GPU where one is asked for.
    """

    def __init__(
        self,
        name: str,
        hook: str,
        dtype: str = "auto",
        device: str = "cpu",
        center_writing_weights: bool = False,
    ) -> None:
        self.name, self.hook = name, hook
        self.layer, self.point = parse_hook(hook)
        if dtype not in hardware.DTYPES:
            raise StudyError(f"model.dtype: {dtype!r} is not one of {', '.join(hardware.DTYPES)}")
        _check_layer(hook, self.layer, model_facts(name).get("n_layers"))
        device = hardware.device(device, "activations.device")
        self._bridge = _boot(name, hardware.dtype(dtype, device, "model.dtype"), device)
        config = self._bridge.cfg
        self.n_layers, self.d_model = int(config.n_layers), int(config.d_model)
        self.context, self.d_vocab = int(config.n_ctx), int(config.d_vocab)
        self.device = device
        _check_layer(hook, self.layer, self.n_layers)
        if hook not in self._bridge.hook_dict:
            raise StudyError(f"model.hook: {name} has no {hook}")
        if center_writing_weights:
            self._center()

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Run the model up to the hook.

        Parameters
        ----------
        tokens
            (sequence, context) int64.

        Returns
        -------
        Tensor
            (sequence, context, d_model), of the model's dtype.

        Raises
        ------
        StudyError
            If the sequences are longer than the model's context, or hold a token that it
            does not know.
        """
        import torch

        tokens = self._checked(tokens)
        with torch.inference_mode():
            if self.point == "hook_resid_pre":
                return self._bridge(tokens, stop_at_layer=self.layer, use_cache=False)
            return self._bridge.run_with_hooks(
                tokens,
                fwd_hooks=[(self.hook, _stop_here)],
                stop_at_layer=self.layer + 1,
                use_cache=False,
            )

    def logits(
        self,
        tokens: torch.Tensor,
        replace: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Run the whole model, perhaps with other activations at the hook.

        Parameters
        ----------
        tokens
            (sequence, context) int64.
        replace
            Maps the activations (sequence, context, d_model) to those that the model goes on with.

        Returns
        -------
        Tensor
            (sequence, context, d_vocab), of the model's dtype.

        Raises
        ------
        StudyError
            As when it is run up to the hook.
        """
        import torch

        tokens = self._checked(tokens)
        with torch.inference_mode():
            if replace is None:
                return self._bridge(tokens, use_cache=False)
            # TransformerLens passes the hook point by keyword.
            hook = (self.hook, lambda activations, hook: replace(activations))  # noqa: ARG005
            return self._bridge.run_with_hooks(tokens, fwd_hooks=[hook], use_cache=False)

    def _checked(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.shape[1] > self.context:
            raise StudyError(
                f"tokens.context: {tokens.shape[1]}, but {self.name} takes at most "
                f"{self.context} tokens"
            )
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.d_vocab:
            raise StudyError(
                f"corpus/tokens.h5: holds token {int(tokens.max())}, but {self.name} knows "
                f"{self.d_vocab}; was it written with another tokenizer?"
            )
        return tokens.to(self.device)

    def _center(self) -> None:
        normalization = str(self._bridge.cfg.normalization_type)
        if not normalization.startswith("LN"):
            raise StudyError(
                f"model.center_writing_weights: {self.name} normalises by {normalization}, which "
                "sees the mean, so centring would change the model; only LayerNorm models allow it"
            )
        self._bridge.process_weights(
            fold_ln=False,
            center_writing_weights=True,
            center_unembed=False,
            fold_value_biases=False,
        )


def _check_layer(hook: str, layer: int, n_layers: int | None) -> None:
    if n_layers is not None and layer >= n_layers:
        raise StudyError(
            f"model.hook: {hook} is beyond the model, which has {n_layers} layers "
            f"(0 to {n_layers - 1})"
        )


def _stop_here(activations: torch.Tensor, hook: Any) -> None:  # noqa: ARG001, called by keyword
    """Take the activations and end the forward pass.

    `stop_at_layer` alone would still run the rest of the hook's layer and, after the last
    layer, the unembedding, which is the largest product of a small model.
    """
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    raise StopAtLayerException(activations)


def _boot(name: str, dtype: str, device: str) -> Any:
    from sae_stitching.tokens import load_tokenizer

    tokenizer = load_tokenizer(name)
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    with _load_report() as report:
        try:
            bridge = TransformerBridge.boot_transformers(
                name, dtype=getattr(torch, dtype), device=device, tokenizer=tokenizer
            )
        except Exception as error:  # each file format and each architecture raises its own
            reason = " ".join(str(error).split())[:300]
            raise StudyError(
                f"model.name: {name} cannot be booted by TransformerLens ({reason})"
            ) from error
    missing = [key for key in _missing_weights(report) if not key.startswith("lm_head")]
    if missing:
        raise StudyError(
            f"model.name: {name} lacks weights: {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            + "; they would be random"
        )
    return bridge


@contextmanager
def _load_report() -> Iterator[list[str]]:
    """Collect what transformers reports about the weights that it loads.

    It gives weights that are missing in a checkpoint random values and merely warns, and
    TransformerLens turns its warnings off.
    """
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    source = logging.getLogger("transformers.modeling_utils")
    handler, before = Handler(), (source.level, source.propagate)
    source.addHandler(handler)
    source.setLevel(logging.WARNING)
    source.propagate = False
    try:
        yield messages
    finally:
        source.removeHandler(handler)
        source.level, source.propagate = before
        for message in messages:
            logger.debug("%s", message)


def _missing_weights(report: list[str]) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(report))  # colours
    return re.findall(r"^(\S+)\s*\|\s*MISSING", text, re.MULTILINE)
