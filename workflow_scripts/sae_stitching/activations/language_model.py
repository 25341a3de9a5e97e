"""The language model: run up to a hook, and no further.

Hooks carry TransformerLens' names. Importing this module is quick; torch, transformers and
TransformerLens are imported when a model is loaded.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sae_stitching.base import hardware
from sae_stitching.base.errors import StudyError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# What is done with the activations at the hook: what the model goes on with comes back.
_AtHook: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
_Run: TypeAlias = "Callable[[torch.Tensor, _AtHook], torch.Tensor]"

#: The embedding's output, before positions are added, and scaled where the model scales it.
EMBEDDING = "hook_embed"
#: What enters attention's output projection, heads side by side, wide as they are together.
HEADS = "attn.hook_z"
POINTS = (
    *("hook_resid_pre", "hook_resid_mid", "hook_resid_post"),
    *("hook_attn_out", "hook_mlp_out", HEADS),
)
#: Attention's output projection in a block of transformers' models.
OUTPUT_PROJECTIONS = (
    *("self_attn.o_proj", "self_attn.dense", "self_attn.out_proj"),
    *("attn.c_proj", "attn.out_proj", "attn.attention.out_proj"),
    *("attention.dense", "self_attention.dense"),
)
# Models whose heads share d_model where their config tells no width of a head.
_SHARING = {"gpt2", "gpt_neox", "llama", "mistral", "qwen2"}


def parse_hook(hook: str) -> tuple[int, str]:
    """Split a hook's name, e.g. ``"blocks.8.hook_resid_pre"``, into layer and point.

    The embedding, which is in no block, has layer 0.

    Raises
    ------
    StudyError
        If it is not one of the hooks that are supported.
    """
    if hook == EMBEDDING:
        return 0, hook
    match = re.fullmatch(r"blocks\.(0|[1-9][0-9]*)\.([\w.]+)", hook)
    if match is None or match[2] not in POINTS:
        raise StudyError(
            f"model.hook: {hook!r} is not one of {EMBEDDING}, "
            + ", ".join(f"blocks.<layer>.{point}" for point in POINTS)
        )
    return int(match[1]), match[2]


def model_facts(name: str, hook: str = "") -> dict[str, int]:
    """Read the sizes of a model from its config, where that is on disk.

    Parameters
    ----------
    name
        Model folder.
    hook
        Where the activations are taken, whose width is `d_model`; in the residual stream by
        default.

    Returns
    -------
    dict
        `n_layers`, `d_model` and `context` (tokens), as far as they are known; else empty.
    """
    path = Path(name) / "config.json"
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
    if hook.endswith(HEADS) and (width := _width_of_heads(config, facts.pop("d_model", None))):
        facts["d_model"] = width
    return facts


def _width_of_heads(config: dict[str, Any], d_model: int | None) -> int | None:
    n_heads, d_head = config.get("num_attention_heads"), config.get("head_dim")
    if isinstance(n_heads, int) and isinstance(d_head, int):
        return n_heads * d_head
    # Left out, it may be anything, such as 256 in Gemma 3.
    return d_model if config.get("model_type") in _SHARING and d_head is None else None


class LanguageModel:
    """A language model that is run up to a hook.

    Where the hook lies between two blocks, at the embedding or at attention's heads, it is
    transformers' own model that runs, with its fused attention. Other hooks inside a block, and
    centred weights, are left to TransformerLens, which computes attention and norms step by step.

    Parameters
    ----------
    name
        Model folder.
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
    n_layers, d_vocab
        Sizes of the model.
    d_model
        Size of the activations: of the residual stream, or of all heads together, which may differ.
    context
        Longest sequence, in tokens; None where the model knows no limit.

    Raises
    ------
    StudyError
        If weights are missing, or the tokenizer that TransformerLens needs, if the model has no
        such hook, if it cannot be centred, or if there is no GPU where one is asked for.
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
        layer, point = parse_hook(hook)
        if dtype not in hardware.DTYPES:
            raise StudyError(f"model.dtype: {dtype!r} is not one of {', '.join(hardware.DTYPES)}")
        _check_layer(hook, layer, model_facts(name).get("n_layers"))
        self.device = hardware.device(device, "activations.device")
        dtype = hardware.dtype(dtype, self.device, "model.dtype")
        self._run: _Run
        plain = module = None
        if point in _PLAIN and not center_writing_weights:
            plain = _load("transformers", _load_plain, name, dtype, self.device)
        if plain is not None:
            config = plain.config.get_text_config()
            self.n_layers, self.d_model = config.num_hidden_layers, config.hidden_size
            self.context = getattr(config, "max_position_embeddings", None)
            self.d_vocab = plain.get_input_embeddings().num_embeddings
            _check_layer(hook, layer, self.n_layers)
            module = _PLAIN[point](plain, layer)
        if module is not None:
            if point == HEADS:
                # Of a linear layer, or of what GPT-2 has in place of one.
                self.d_model = getattr(module, "in_features", None) or module.nx
            before = point in ("hook_resid_pre", HEADS)
            self._run = partial(_run_plain, plain, module, before)
        else:
            plain = None  # its memory is needed
            bridge = _load("TransformerLens", _load_bridge, name, dtype, self.device)
            self.n_layers, self.d_model = bridge.cfg.n_layers, bridge.cfg.d_model
            if point == HEADS:
                self.d_model = bridge.cfg.n_heads * bridge.cfg.d_head
            self.context, self.d_vocab = bridge.cfg.n_ctx, bridge.cfg.d_vocab
            _check_layer(hook, layer, self.n_layers)
            if hook not in bridge.hook_dict:
                raise StudyError(f"model.hook: {name} has no {hook}")
            if center_writing_weights:
                _center(name, bridge)
            self._run = partial(_run_bridge, bridge, hook)

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
            try:
                self._run(tokens, _stop)
            except _Reached as reached:
                return reached.activations
        raise RuntimeError(f"{self.name} did not pass {self.hook}")

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
            return self._run(tokens, replace or _keep)

    def _checked(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.context is not None and tokens.shape[1] > self.context:
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


def _check_layer(hook: str, layer: int, n_layers: int | None) -> None:
    if n_layers is not None and layer >= n_layers:
        raise StudyError(
            f"model.hook: {hook} is beyond the model, which has {n_layers} layers "
            f"(0 to {n_layers - 1})"
        )


class _Reached(Exception):
    """Ends the forward pass at the hook: what lies beyond would be computed in vain."""

    def __init__(self, activations: torch.Tensor) -> None:
        super().__init__()
        self.activations = activations


def _stop(activations: torch.Tensor) -> torch.Tensor:
    raise _Reached(activations)


def _keep(activations: torch.Tensor) -> torch.Tensor:
    return activations


def _run_plain(
    model: Any, module: torch.nn.Module, before: bool, tokens: torch.Tensor, at_hook: _AtHook
) -> torch.Tensor:
    """Logits of transformers' model, with a hook before one of its modules or after it."""

    def enter(_: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (at_hook(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": at_hook(kwargs["hidden_states"])}

    def leave(_: Any, __: tuple, output: Any) -> Any:
        if isinstance(output, tuple):
            return at_hook(output[0]), *output[1:]
        return at_hook(output)

    if before:
        handle = module.register_forward_pre_hook(enter, with_kwargs=True)
    else:
        handle = module.register_forward_hook(leave)
    try:
        return model(tokens, use_cache=False).logits
    finally:
        handle.remove()


def _run_bridge(bridge: Any, hook: str, tokens: torch.Tensor, at_hook: _AtHook) -> torch.Tensor:
    """Logits of TransformerLens' model, with a hook anywhere in it."""

    # TransformerLens passes the hook point by keyword, and may have heads apart, in a dimension of
    # their own after sequence and position.
    def enter(activations: torch.Tensor, hook: Any) -> torch.Tensor:  # noqa: ARG001
        return at_hook(activations.flatten(2)).view(activations.shape)

    hooks = [(hook, enter)]
    if hook.endswith(".hook_resid_mid"):
        hooks = _around_the_mlp(bridge, hook, enter)
    return bridge.run_with_hooks(tokens, fwd_hooks=hooks, use_cache=False)


def _around_the_mlp(bridge: Any, hook: str, enter: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Hooks that add what comes from `hook_resid_mid` to the MLP's output.

    There TransformerLens hooks what enters the norm before the MLP, and would add to its output
    what was at the place before.
    """
    point = hook.removesuffix("hook_resid_mid")
    seen: dict[str, torch.Tensor] = {}

    def middle(activations: torch.Tensor, hook: Any) -> torch.Tensor:
        seen["before"], seen["after"] = activations, enter(activations, hook)
        return seen["after"]

    def mlp(activations: torch.Tensor, hook: Any) -> None:  # noqa: ARG001
        seen["mlp"] = activations

    def end(activations: torch.Tensor, hook: Any) -> torch.Tensor:  # noqa: ARG001
        import torch

        unchanged = seen["before"] + seen["mlp"]
        tolerance = 4 * torch.finfo(unchanged.dtype).eps
        if not torch.allclose(unchanged, activations, rtol=tolerance, atol=tolerance):
            raise StudyError(
                f"model.hook: {bridge.cfg.model_name} does not add the MLP's output to {point}"
                "hook_resid_mid as it is, so nothing can be put there; choose another place"
            )
        return seen["after"] + seen["mlp"]

    return [(hook, middle), (f"{point}hook_mlp_out", mlp), (f"{point}hook_resid_post", end)]


def _load(library: str, load: Callable[[str, str, str], Any], name: str, *where: str) -> Any:
    """Load a model, and say in one line why it cannot be, or what it lacks."""
    with _load_report() as report:
        try:
            model = load(name, *where)
        except StudyError:
            raise
        except Exception as error:  # each file format and each architecture raises its own
            reason = " ".join(str(error).split())[:300]
            raise StudyError(
                f"model.name: {name} cannot be loaded by {library} ({reason})"
            ) from error
    missing = [key for key in _missing_weights(report) if not key.startswith("lm_head")]
    if missing:
        raise StudyError(
            f"model.name: {name} lacks weights: {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            + "; they would be random"
        )
    return model


def _load_plain(name: str, dtype: str, device: str) -> Any:
    """Load transformers' model; None if it is not plain where its blocks are."""
    from sae_stitching.text.tokens import check_model_folder, quiet_transformers

    check_model_folder(name)
    quiet_transformers()
    import torch
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM  # typed as if from_pretrained were not of the class
    model = auto.from_pretrained(name, dtype=getattr(torch, dtype), local_files_only=True)
    return model.to(device).eval() if _blocks(model) is not None else None


def _blocks(model: Any) -> Any:
    """The list of a model's blocks, if there is one list alone that it can be."""
    from torch.nn import ModuleList
    from transformers.modeling_layers import GradientCheckpointingLayer

    n_layers = model.config.get_text_config().num_hidden_layers
    found = [
        module
        for module in model.modules()
        if isinstance(module, ModuleList)
        and len(module) == n_layers
        and all(isinstance(block, GradientCheckpointingLayer) for block in module)
    ]
    return found[0] if len(found) == 1 else None


def _block(model: Any, layer: int) -> Any:
    return _blocks(model)[layer]


def _embedding(model: Any, layer: int) -> Any:
    del layer
    return model.get_input_embeddings()


def _output_projection(model: Any, layer: int) -> Any:
    modules = dict(_blocks(model)[layer].named_modules())
    return next((modules[name] for name in OUTPUT_PROJECTIONS if name in modules), None)


# Where transformers' own model is hooked: the module, None where it has another form.
_PLAIN: dict[str, Callable[[Any, int], Any]] = {
    EMBEDDING: _embedding,
    "hook_resid_pre": _block,
    "hook_resid_post": _block,
    HEADS: _output_projection,
}


def _load_bridge(name: str, dtype: str, device: str) -> Any:
    from sae_stitching.text.tokens import load_tokenizer

    tokenizer = load_tokenizer(name)
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources.transformers import helpers

    # For a model of images it would have pip install torchvision, which takes another PyTorch with
    # it, into whatever environment this is. A model of text alone needs no processor of images.
    helpers._ensure_torchvision = lambda: False
    return TransformerBridge.boot_transformers(
        name, dtype=getattr(torch, dtype), device=device, tokenizer=tokenizer
    )


def _center(name: str, bridge: Any) -> None:
    normalization = str(bridge.cfg.normalization_type)
    if not normalization.startswith("LN"):
        raise StudyError(
            f"model.center_writing_weights: {name} normalises by {normalization}, which sees the "
            "mean, so centring would change the model; only LayerNorm models allow it"
        )
    bridge.process_weights(
        fold_ln=False,
        center_writing_weights=True,
        center_unembed=False,
        fold_value_biases=False,
    )


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
    # At the level of warnings itself transformers also warns, on the terminal, of layers that it
    # has not sharded, which nobody asked it to do.
    source.setLevel(logging.WARNING - 1)
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
