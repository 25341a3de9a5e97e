"""SAEs that a study names as SAELens does: what they are, and which model and place they read.

This comes before all else that is done to a config: what the registry tells is written into it, as
if the user had, and is then checked like the rest.
"""

from collections.abc import Mapping
from typing import Any

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import places
from sae_stitching.formats.registry import Published, Registry, choose, read_registry


def named(entry: Any) -> bool:
    """Whether an entry of ``saes`` names an SAE by its release."""
    return isinstance(entry, Mapping) and ("release" in entry or "sae_id" in entry)


def names_any(config: Mapping[str, Any]) -> bool:
    """Whether a config names an SAE by its release."""
    saes = config.get("saes")
    return isinstance(saes, list) and any(named(entry) for entry in saes)


def own_model(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the default study's model out of a study whose SAEs tell theirs.

    Parameters
    ----------
    config
        The given study laid over the default one.
    given
        What was given alone.
    """
    if not names_any(given) or not isinstance(config.get("model"), Mapping):
        return dict(config)
    said: Any = given.get("model")
    said = said if isinstance(said, Mapping) else {}
    told = ("name", "revision", "hook", "center_writing_weights")
    model = {key: v for key, v in config["model"].items() if key not in told or key in said}
    return {**config, "model": model}


def write_out(config: Mapping[str, Any], pin: Mapping[str, str], cache: str) -> dict[str, Any]:
    """Write out what the registry of SAELens tells of the SAEs that a config names by release.

    Parameters
    ----------
    config
        As it was written. What in it is not of the right form is left as it is, for the schema to
        complain of.
    pin, cache
        As `read_registry` takes them.

    Returns
    -------
    dict
        The config, where each such entry is of one SAE and has `d_sae` and `pretrained`, and
        `model` has the name, hook and centring that the SAEs tell, where it does not say them.

    Raises
    ------
    StudyError
        If the registry has no such SAE, or one that cannot be read, or if SAEs or the study
        disagree on the model or the place in it.
    """
    registry = read_registry(pin, cache)
    saes: list[Any] = []
    found: list[tuple[str, Published, Any]] = []
    for i, entry in enumerate(config["saes"]):
        if not named(entry):
            saes.append(entry)
            continue
        for one, other in (("release", "sae_id"), ("sae_id", "release")):
            if other not in entry:
                raise StudyError(
                    f"saes[{i}].{other}: this key is missing; {one} goes with it, as SAELens names "
                    "SAEs"
                )
        if not _is_written_well(entry):
            # The schema is to complain of that, and not of what would follow from it.
            saes.append({"d_sae": 1, **entry})
            continue
        for sae in _find(registry, entry, f"saes[{i}]"):
            saes.append(_written(sae, entry))
            found.append((f"saes[{i}]", sae, _trusted(entry)))
    model: Any = config.get("model", {})
    if found and isinstance(model, Mapping):
        model = _model(dict(model), found)
    return {**config, "saes": saes, "model": model}


def _is_written_well(entry: Mapping[str, Any]) -> bool:
    texts = all(isinstance(entry.get(key), str) for key in ("release", "sae_id"))
    l0 = entry.get("l0", 0)
    number = isinstance(l0, int | float) and not isinstance(l0, bool)
    return texts and number and isinstance(entry.get("pretrained", {}), Mapping)


def _find(registry: Registry, entry: Mapping[str, Any], key: str) -> list[Published]:
    release, sae_id = entry["release"], entry["sae_id"]
    try:
        all_of_it = registry.release(release)
    except StudyError as error:
        raise StudyError(f"{key}.release: {error}") from error
    try:
        found = choose(all_of_it, sae_id, l0=entry.get("l0"))
    except StudyError as error:
        raise StudyError(f"{key}.sae_id: {error}") from error
    for sae in found:
        if sae.d_sae is None and "d_sae" not in entry:
            raise StudyError(
                f"{key}.d_sae: how many latents {sae} has is not told by its name; give it"
            )
    if len(found) > 1:
        for one in ("name", "d_sae"):
            if one in entry:
                raise StudyError(
                    f"{key}.{one}: {sae_id} names {len(found)} SAEs; remove {one}, or give each an "
                    "entry of its own"
                )
    return found


def _written(sae: Published, entry: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "model": sae.model,
        "l0": sae.l0,
        "variance_explained": sae.variance_explained,
        "neuronpedia": sae.neuronpedia or None,
        "settings": dict(sae.settings),
    }
    return {
        "d_sae": sae.d_sae,
        **{key: value for key, value in entry.items() if key != "l0"},
        "sae_id": sae.sae_id,
        "pretrained": {
            "repo": sae.repo,
            "revision": "main",
            "path": sae.path,
            "format": sae.format,
            "published": told,
            **entry.get("pretrained", {}),
        },
    }


def _trusted(entry: Mapping[str, Any]) -> Any:
    trust = entry.get("pretrained", {}).get("trust", [])
    return trust if isinstance(trust, list) else []


def _model(model: dict[str, Any], found: list[tuple[str, Published, Any]]) -> dict[str, Any]:
    first = found[0][1]
    for key, sae, trust in found:
        if "model" not in trust and (said := sae.elsewhere(first, "model")):
            raise StudyError(f"{key}.release: {said}; stitch SAEs of one model")
        if "hook" in trust:
            continue
        hook = model.get("hook")
        if not isinstance(hook, str) and (said := sae.elsewhere(first, "hook")):
            raise StudyError(f"{key}.sae_id: {said}; stitch SAEs of one place")
        if isinstance(hook, str) and not places.same(places.hook(hook) or hook, sae.hook):
            raise StudyError(
                f"{key}.sae_id: {sae} reads {sae.hook}, but model.hook is {hook}; correct one of "
                "them, or, if the study is right, add hook to the SAE's pretrained.trust"
            )
    model.setdefault("name", first.model)
    if first.hook:
        model.setdefault("hook", first.hook)
    if first.center_writing_weights:
        model.setdefault("center_writing_weights", True)
    return model
