"""The config of a new study of published SAEs."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from sae_stitching.base.errors import StudyError
from sae_stitching.command.listing import entry
from sae_stitching.formats.registry import Published, Registry, choose

_TEXT = """\
# A study of published SAEs, named as SAELens names them. What is not here has the default of
# schemas/config.schema.yaml: docs/config.md lists all keys.
{study}

# What the SAEs read, as SAELens's registry has it; their own files are held against it.
model:
  name: {model}
  hook: {hook}
{centring}
# A short text of Wikipedia that comes from the package index. For numbers to publish, give the text
# that the SAEs were trained on, or one like it: source dataset reads any of the Hugging Face hub.
text:
  source: wikipedia-extract

# Nothing is trained, but a study has a training split: one sequence.
tokens:
  context: 128
  eval_fraction: 0.9
  max_train_sequences: 1
  max_eval_sequences: 2048

activations:
  train_shards: 1
  eval_shards: 4

saes:
{saes}
"""


def config_text(
    file: str, names: Iterable[str], registry: Registry, *, l0: float | None = None
) -> str:
    """Write the config of a study of published SAEs.

    Parameters
    ----------
    file
        Where it will lie; the study is called as the file.
    names
        ``RELEASE:SAE_ID``, two SAEs or more; an id may have ``*``, see `choose`.
    registry
    l0
        See `choose`.

    Raises
    ------
    StudyError
        If a name is not known or what it names cannot be read, if they are less than two or of
        several places, or if the file's name is none for a study.
    """
    study = Path(file).stem
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", study):
        raise StudyError(
            f"{file}: {study} is no name for a study; use letters, digits, '.', '_' and '-'"
        )
    saes = [sae for name in names for sae in _named(name, registry, l0)]
    if len(saes) < 2:
        raise StudyError(f"{saes[0]}: a study compares two SAEs or more; name another")
    for sae in saes[1:]:
        if said := sae.elsewhere(saes[0], "model", "hook"):
            raise StudyError(f"{said}; name SAEs of one place")
    return _TEXT.format(
        study=yaml.safe_dump({"study": study}).strip(),
        model=saes[0].model,
        hook=saes[0].hook,
        centring="  center_writing_weights: true\n" if saes[0].center_writing_weights else "",
        saes="\n".join(entry(sae, name) for sae, name in zip(saes, _names(saes), strict=True)),
    )


def write_new(file: str, text: str) -> None:
    """Write a file that is not there yet.

    Raises
    ------
    StudyError
        If it is there, or cannot be written.
    """
    try:
        with open(file, "x", encoding="utf-8") as config:
            config.write(text)
    except FileExistsError:
        raise StudyError(f"{file}: is there already; name another file") from None
    except OSError as error:
        raise StudyError(f"{file}: cannot be written ({error.strerror})") from error


def _named(name: str, registry: Registry, l0: float | None) -> list[Published]:
    release, colon, sae_id = name.partition(":")
    if not colon:
        raise StudyError(f"{name}: write RELEASE:SAE_ID, such as {name}:layer_12/width_16k/…")
    return choose(registry.release(release), sae_id, l0=l0)


def _names(saes: list[Published]) -> list[str]:
    """Names for SAEs of equal width; others are called after their width, which is the default."""
    widths = [sae.d_sae for sae in saes]
    names = [
        "" if widths.count(sae.d_sae) == 1 else f"{sae.d_sae}-{_told_apart(sae)}" for sae in saes
    ]
    return [
        f"{name}-{i}" if name and names.count(name) > 1 else name for i, name in enumerate(names)
    ]


def _told_apart(sae: Published) -> str:
    return f"l0-{sae.l0:g}" if sae.l0 is not None else "x"
