"""Whether what an SAE's files tell of the activations it was trained on is so in the study."""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import places
from sae_stitching.formats.files import Settings
from sae_stitching.formats.told import Said, Told

_logger = logging.getLogger(__name__)

#: Where files and the study must agree, unless the study says that it is right.
TRUSTED = ("hook", "model", "revision", "center_writing_weights", "fold_value_biases")
# Models whose blocks norm what attention and MLP write, see `places.hook`.
_POST_NORMS = re.compile(r"gemma-?[234]|olmo-?[23]|glm-?4")


@dataclass(frozen=True)
class Activations:
    """The activations of a study, which its SAEs read.

    Attributes
    ----------
    hook, model, dtype, center_writing_weights
        As in the config's section `model`.
    revision
        Commit, branch or tag of the model, None for the one that its repository shows.
    published
        Whether `model` is a name on the hub, which files of SAEs may have too; it is the study's
        own name otherwise, or a folder.
    context
        Tokens in a sequence, None where it is not known. Each begins with BOS.
    skip_first_position
        Whether that BOS is left out.
    """

    hook: str
    model: str
    dtype: str = "auto"
    center_writing_weights: bool = False
    revision: str | None = None
    published: bool = True
    context: int | None = None
    skip_first_position: bool = True


def check(told: Told, study: Activations, name: str, trust: Collection[str] = ()) -> None:
    """Compare what the files of an SAE tell with the study.

    What would change the activations is refused; what may be harmless, and what is not understood,
    is warned of.

    Parameters
    ----------
    told
        What the files tell.
    study
        What the study says.
    name
        Where the SAE comes from, for complaints.
    trust
        Of `TRUSTED`: where the study is right, whatever the files tell. Each use is logged.

    Raises
    ------
    StudyError
        If they tell another place, model or centring, or a place in words that are not understood.
    """
    said = told.said
    for topic, complaint, remedy in (
        ("hook", _of_place(told, study, name), "correct model.hook, name another SAE"),
        ("model", _of_model(said.get("model"), study), "name another SAE"),
        ("revision", _of_revision(said.get("revision"), study), "set model.revision"),
        (
            "center_writing_weights",
            _of_centring(said.get("center_writing_weights"), study),
            "change model.center_writing_weights",
        ),
        (
            "fold_value_biases",
            _of_value_biases(said.get("fold_value_biases")),
            "name another SAE, unless the model's values have no bias",
        ),
    ):
        if complaint and topic in trust:
            _logger.warning("%s; trusted, since pretrained.trust has %s", complaint, topic)
        elif complaint:
            raise StudyError(
                f"{complaint}; {remedy}, or, if the study is right, add {topic} to the SAE's "
                "pretrained.trust"
            )
    for complaint in (*_of_sequences(said, study), *_of_dtype(said.get("dtype"), study)):
        _logger.warning("%s", complaint)
    for strange in told.strange:
        _logger.warning(
            "%s is %r, which is not understood; see that the SAE does not need it",
            strange.where,
            strange.value,
        )


def _of_place(told: Told, study: Activations, name: str) -> str:
    said, layer, head = (told.said.get(topic) for topic in ("hook", "layer", "head"))
    if head is not None:
        return f"{head.where} is {head.value}: it reads one attention head, and model.hook no head"
    if said is None:
        _logger.warning("%s does not say its hook; taken for %s", name, study.hook)
        return ""
    known = places.hook(said.value, post_norms=_has_post_norms(study, told))
    if not known:
        return (
            f"{said.where} is {said.value!r}, which is not understood as a place in the model, and "
            f"model.hook is {study.hook}"
        )
    if layer is not None and places.layer_of(known) not in (None, layer.value):
        return f"{said.where} is {said.value!r}, but {layer.where} is {layer.value}"
    if not places.same(known, study.hook):
        meant = "" if known == said.value else f" ({known})"
        return f"{said.where} is {said.value!r}{meant}, but model.hook is {study.hook}"
    return ""


def _has_post_norms(study: Activations, told: Told) -> bool:
    names = [study.model, str(told.said["model"].value) if "model" in told.said else ""]
    config = Path(study.model) / "config.json"
    if config.is_file():
        names.append(str(Settings.read(str(config)).values.get("model_type", "")))
    return any(_POST_NORMS.search(name.lower()) for name in names)


def _of_model(said: Said | None, study: Activations) -> str:
    if said is None or _same_model(said.value, study.model):
        return ""
    if study.published:
        return f"{said.where} is {said.value!r}, but model.name is {study.model}"
    _logger.warning(
        "%s is %r; that the study's model, %s, is the same is not known",
        said.where,
        said.value,
        study.model,
    )
    return ""


def _same_model(one: str, other: str) -> bool:
    def last(name: str) -> str:
        # Llama 3.1 was published under two names.
        return name.rstrip("/").rpartition("/")[2].lower().removeprefix("meta-")

    if last(one) == last(other):
        return True
    from transformer_lens.supported_models import MODEL_ALIASES

    aliases = {
        alias.lower(): official for official, names in MODEL_ALIASES.items() for alias in names
    }
    return last(aliases.get(one.lower(), one)) == last(aliases.get(other.lower(), other))


def _of_revision(said: Said | None, study: Activations) -> str:
    # The branch that a repository shows tells no more than its name.
    if said is None or said.value in (study.revision, "main"):
        return ""
    ours = study.revision or "not set"
    return f"{said.where} is {said.value!r}, but model.revision is {ours}"


def _of_value_biases(said: Said | None) -> str:
    # Attention's weights sum to one, so that the biases are in every token's heads alike.
    if said is None or not said.value:
        return ""
    return (
        f"{said.where} is true, so that the SAE was trained on heads without the bias of their "
        "values, which the study's heads have"
    )


def _of_centring(said: Said | None, study: Activations) -> str:
    if said is None or said.value == study.center_writing_weights:
        return ""
    return (
        f"{said.where} is {_yaml(said.value)}, but model.center_writing_weights is "
        f"{_yaml(study.center_writing_weights)}"
    )


def _of_sequences(said: dict[str, Said], study: Activations) -> list[str]:
    found = []
    bos, context, positions = (said.get(t) for t in ("prepend_bos", "context", "positions"))
    if bos is not None and not bos.value:
        found.append(f"{bos.where} is false, but the study's sequences begin with BOS")
    longest = study.context
    if context is not None and longest is not None and longest > context.value:
        found.append(
            f"{context.where} is {context.value}, but tokens.context is {longest}: the SAE has "
            "seen no position beyond its own"
        )
    first = int(study.skip_first_position)
    if positions is not None:
        start, stop = positions.value
        if start > first:
            skipped = _yaml(study.skip_first_position)
            found.append(
                f"{positions.where} leaves out positions before {start}, but "
                f"activations.skip_first_position is {skipped}"
            )
        if stop is not None and longest is not None and not 0 <= longest <= stop:
            found.append(
                f"{positions.where} ends at position {stop}, but tokens.context is {longest}"
            )
    return found


def _of_dtype(said: Said | None, study: Activations) -> list[str]:
    if said is None:
        return []
    dtype = str(said.value).removeprefix("torch.")
    if dtype in ("auto", study.dtype):
        return []
    return [f"{said.where} is {said.value!r}, but model.dtype is {study.dtype}"]


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
