"""SAELens's registry of published SAEs: which there are, by the names that people know them by.

The registry is a file of the package sae-lens, ``sae_lens/pretrained_saes.yaml``: of each release
the repository on the hub and SAELens's loader, and of each SAE an id, its path, and perhaps its L0,
the variance that it explains and its name on Neuronpedia. It is read as data; the package is
neither installed nor run. What it does not tell in so many words, where an SAE reads and how many
latents it has, its names do.
"""

import difflib
import fnmatch
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sae_stitching.base.errors import StudyError, unreadable
from sae_stitching.base.store import replacing
from sae_stitching.formats import places
from sae_stitching.text.sources import fetch_member

_logger = logging.getLogger(__name__)

_PACKAGE, _MEMBER = "sae-lens", "sae_lens/pretrained_saes.yaml"

#: The version that studies use where they pin no other, as the schema of the config has it.
PIN = {
    "version": "6.54.12",
    "sha256": "bea73bf39c2a345ce03fca3d9d44e133085e9ff2aea74c8ae5b26de0819c96d2",
}

#: SAELens's loaders, ``conversion_func`` in the registry, and the format here that each reads.
FORMATS = {
    "sae_lens": "saelens",
    "gemma_2": "gemma-scope",
    "gemma_3": "gemma-scope-2",
    "dictionary_learning_1": "dictionary-learning",
    "qwen_scope": "qwen-scope",
    "llama_scope": "llama-scope",
    "llama_scope_r1_distill": "llama-scope-r1-distill",
    "connor_rob_hook_z": "connor-rob",
    "goodfire": "goodfire",
    "deepseek_r1": "deepseek-r1",
    "sparsify": "sparsify",
}
# Loaders of what is no SAE, and why.
_TRANSCODER = "is a transcoder, which reads at one place and writes at another; name an SAE"
_REFUSED = {
    "gemma_2_transcoder": _TRANSCODER,
    "mwhanna_transcoder": _TRANSCODER,
    "mntss_clt_layer_transcoder": "is a layer of a cross-layer transcoder; name an SAE",
    "temporal": (
        "is a temporal SAE, whose latents follow from the tokens before by attention and not from "
        "one activation alone; name another SAE"
    ),
}

# Widths that neither id nor path nor the name on Neuronpedia tells, by the release's beginning.
# They were not held against the files: reading an SAE refuses another width and says which it has.
_WIDTHS = {
    "gpt2-small-res-jb": 24576,
    "gpt2-small-res_": 46080,
    "pythia-70m-deduped-": 32768,
    "mistral-7b-res-wg": 65536,
    "llama-3-8b-it-res-jh": 65536,
    "llama-3.1-8b-instruct-andyrdt": 131072,
    "qwen2.5-7b-instruct-andyrdt": 131072,
    "gpt-oss-20b-andyrdt": 131072,
    "goodfire-llama-": 65536,
    "llama_scope_r1_distill": 32768,
}
# d_model of the models whose SAEs' widths are told as multiples of it.
_D_MODEL = {"meta-llama/Llama-3.1-8B": 4096}

# Places by the words that repositories and paths have for them.
_POINTS = {
    "res": "hook_resid_post",
    "resid_post": "hook_resid_post",
    "r": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "mlp_out": "hook_mlp_out",
    "m": "hook_mlp_out",
    "a": "hook_attn_out",
    "att": "attn.hook_z",
}


@dataclass(frozen=True)
class Published:
    """A published SAE, as the registry has it.

    Attributes
    ----------
    release, sae_id
        What SAELens calls it.
    repo, path
        Where it lies on the hub.
    loader
        SAELens's loader for it, a key of `FORMATS` or another.
    model
        As SAELens names it, often TransformerLens's short name.
    hook
        Place that it reads, by TransformerLens's name; empty where its names do not tell.
    d_sae
        Number of latents; None where its names do not tell.
    l0, variance_explained
        As published, None where they are not.
    neuronpedia
        Its name on Neuronpedia, ``model/sae``; empty where it is not there.
    settings
        What SAELens sets in place of what the files say.
    """

    release: str
    sae_id: str
    repo: str
    path: str
    loader: str
    model: str
    hook: str
    d_sae: int | None
    l0: float | None = None
    variance_explained: float | None = None
    neuronpedia: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def format(self) -> str:
        """The format here that reads it; empty where none does."""
        return "" if self.refusal else FORMATS[self.loader]

    @property
    def refusal(self) -> str:
        """Why it cannot be read, or nothing."""
        if re.search(r"(^|/)(transcoder|clt)", self.path) or "transcoder" in self.release:
            return _REFUSED.get(self.loader, _TRANSCODER)
        if self.loader in _REFUSED:
            return _REFUSED[self.loader]
        if self.loader not in FORMATS:
            return f"is read by SAELens's loader {self.loader}, which is not known here"
        return ""

    @property
    def center_writing_weights(self) -> bool:
        """Whether SAELens loads its model centred."""
        loading = self.settings.get("model_from_pretrained_kwargs", {})
        return bool(loading.get("center_writing_weights", False))

    def __str__(self) -> str:
        return f"{self.release} {self.sae_id}"

    def elsewhere(self, other: "Published", *topics: str) -> str:
        """How it differs from another SAE in its ``"model"`` or ``"hook"``, or nothing."""
        if "model" in topics and self.model.lower() != other.model.lower():
            return f"{self} is of {self.model}, but {other} is of {other.model}"
        if "hook" in topics and not places.same(self.hook, other.hook):
            return f"{self} reads {self.hook}, but {other} reads {other.hook}"
        return ""


class Registry:
    """The published SAEs of one version of SAELens.

    Parameters
    ----------
    releases
        As the YAML file has them.
    version
        Of sae-lens, for messages.
    """

    def __init__(self, releases: Mapping[str, Any], version: str) -> None:
        self._releases, self.version = releases, version

    @cached_property
    def saes(self) -> list[Published]:
        """All, in the registry's order; transcoders are among them."""
        return [sae for name in self._releases for sae in self.release(name)]

    def release(self, name: str) -> list[Published]:
        """The SAEs of one release.

        Raises
        ------
        StudyError
            If there is no such release.
        """
        if name not in self._releases:
            near = difflib.get_close_matches(name, self._releases, n=3, cutoff=0.7)
            remedy = (
                f"did you mean {' or '.join(near)}?" if near else "sae-stitching saes lists all"
            )
            raise StudyError(f"no release of SAELens {self.version} is called {name}; {remedy}")
        entry = self._releases[name]
        return [_published(name, entry, sae) for sae in entry["saes"]]

    def search(
        self,
        model: str = "",
        *,
        hook: str = "",
        release: str = "",
        n_widths: int = 1,
        readable: bool = True,
    ) -> list[list[Published]]:
        """Places in models, and the SAEs that there are of each.

        Parameters
        ----------
        model, hook, release
            Parts of these names, in any case; empty for all.
        n_widths
            Of so many widths at least.
        readable
            Leave out what cannot be read.

        Returns
        -------
        list
            For each model and place the SAEs in order of width and L0.
        """
        groups: dict[tuple[str, str], list[Published]] = {}
        for sae in self.saes:
            parts = ((model, sae.model), (hook, sae.hook), (release, sae.release))
            if all(part.lower() in whole.lower() for part, whole in parts) and not (
                readable and sae.refusal
            ):
                groups.setdefault((sae.model.lower(), sae.hook), []).append(sae)
        return [
            sorted(saes, key=lambda sae: (sae.d_sae or 0, sae.l0 or 0))
            for saes in groups.values()
            if len({sae.d_sae for sae in saes}) >= n_widths
        ]


def choose(
    release: Sequence[Published], sae_id: str, *, l0: float | None = None
) -> list[Published]:
    """SAEs of a release by id, or by a pattern that names one of each width at one place.

    Parameters
    ----------
    release
        All of the release.
    sae_id
        An id, or a pattern with ``*``.
    l0
        Of several SAEs of one width, the one whose published L0 is nearest to this is taken.

    Returns
    -------
    list
        In order of width.

    Raises
    ------
    StudyError
        If there is no such id, if a pattern matches several places, or several SAEs of a width
        between which `l0` does not choose, with the list; or if what it names cannot be read.
    """
    found = _named(release, sae_id, l0)
    for sae in found:
        if sae.refusal:
            raise StudyError(f"{sae} {sae.refusal}")
    return found


def _named(release: Sequence[Published], sae_id: str, l0: float | None) -> list[Published]:
    known = {sae.sae_id: sae for sae in release}
    if sae_id in known:
        return [known[sae_id]]
    if not re.search(r"[*?\[]", sae_id):
        near = difflib.get_close_matches(sae_id, known, n=3, cutoff=0.6)
        raise StudyError(f"there is no {sae_id} in this release; it has {_some(near or known)}")
    found = [sae for sae in release if fnmatch.fnmatchcase(sae.sae_id, sae_id)]
    if not found:
        raise StudyError(f"there is nothing like {sae_id} in this release; it has {_some(known)}")
    if len(hooks := dict.fromkeys(sae.hook for sae in found)) > 1:
        raise StudyError(
            f"{sae_id} is {len(found)} SAEs at several places, {_some(hooks)}; name one place"
        )
    widths: dict[int | None, list[Published]] = {}
    for sae in found:
        widths.setdefault(sae.d_sae, []).append(sae)
    return [_of_one_width(widths[d_sae], l0) for d_sae in sorted(widths, key=lambda d: d or 0)]


def read_registry(pin: Mapping[str, str], cache: str | Path) -> Registry:
    """Read the registry of one version of SAELens, and fetch it if it is not in the cache.

    Parameters
    ----------
    pin
        `version` of sae-lens, and `sha256` of its registry.
    cache
        Folder of what is fetched from the package index.

    Raises
    ------
    StudyError
        If it is not there and cannot be fetched, or its checksum differs.
    """
    version, checksum = pin["version"], pin["sha256"]
    # YAML of this size takes a second to parse, and a study reads it whenever it is looked at.
    path = Path(cache) / "registry" / f"{_PACKAGE}-{version}-{checksum[:16]}.json"
    if not path.is_file():
        source = {"package": _PACKAGE, "member": _MEMBER, **pin}
        whole = path.with_suffix(".yaml")
        fetch_member(source, whole, path.parent)
        releases = _parse(whole)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(releases, separators=(",", ":")), encoding="utf-8")
        whole.unlink(missing_ok=True)
    try:
        return Registry(json.loads(path.read_text(encoding="utf-8")), version)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, "damaged; remove it, and it is fetched again") from error


def _parse(path: Path) -> dict[str, Any]:
    import yaml

    try:
        releases = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        for name, release in releases.items():
            for sae in release["saes"]:
                _published(name, release, sae)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise StudyError(
            f"{path.name}: is no registry as SAELens has it ({error!r:.200}); pin another version"
        ) from error
    return releases


def _published(name: str, release: Mapping[str, Any], sae: Mapping[str, Any]) -> Published:
    neuronpedia = sae.get("neuronpedia") or ""
    settings = {**(release.get("config_overrides") or {}), **(sae.get("config_overrides") or {})}
    # What the data were that it was trained on changes nothing.
    settings.pop("dataset_path", None)
    common = {
        "release": name,
        "sae_id": str(sae["id"]),
        "repo": release["repo_id"],
        "path": str(sae["path"]),
        "loader": release.get("conversion_func") or "sae_lens",
        "model": release["model"],
    }
    told: dict[str, Any] = {
        key: float(sae[key])
        for key in ("l0", "variance_explained")
        if isinstance(sae.get(key), int | float)
    }
    # Canonical ones are those of one L0 under another id, and their path tells it.
    if "l0" not in told and (said := re.search(r"average_l0_(\d+)", common["path"])):
        told["l0"] = float(said[1])
    return Published(
        **common,
        **told,
        hook=_hook(**common),
        d_sae=_width(neuronpedia=neuronpedia, **common),
        neuronpedia=neuronpedia,
        settings=settings,
    )


def _hook(*, sae_id: str, repo: str, path: str, loader: str, **_: Any) -> str:
    """Place that a published SAE reads, as its names tell it."""
    if loader in ("gemma_2", "gemma_2_transcoder"):
        point = _POINTS.get(repo.rpartition("-")[2], "")
        if path.startswith("embedding"):
            return "hook_embed"
        return _in_block(re.search(r"layer_(\d+)/", path), point)
    if loader == "gemma_3":
        kind = re.match(r"(\w+?)(?:_all)?/", path)
        # What is called attn_out there is what goes into the attention's last product.
        points = {**_POINTS, "attn_out": "attn.hook_z"}
        point = points.get(kind[1], "") if kind else ""
        return _in_block(re.search(r"layer_(\d+)", path), point)
    if loader == "llama_scope":
        place = re.match(r"l(\d+)([ram])_", sae_id)
        return _in_block(place, _POINTS[place[2]]) if place else ""
    if loader == "llama_scope_r1_distill":
        return _in_block(re.match(r"l(\d+)r_", sae_id), "hook_resid_post")
    if loader in ("qwen_scope", "goodfire"):
        return _in_block(re.fullmatch(r"layer_?(\d+)", sae_id), "hook_resid_post")
    if known := re.match(r"blocks\.(\d+)\.(?:attn\.)?hook_z", sae_id):
        return _in_block(known, "attn.hook_z")
    if known := re.match(
        r"blocks\.\d+\.hook_(resid_pre|resid_mid|resid_post|attn_out|mlp_out)", sae_id
    ):
        return known[0]
    if known := re.match(r"\w+?_layer_\d+", sae_id):
        return places.hook(known[0])
    return ""


def _in_block(layer: re.Match[str] | None, point: str) -> str:
    return f"blocks.{layer[1]}.{point}" if layer and point else ""


def _width(
    release: str, sae_id: str, repo: str, path: str, neuronpedia: str, model: str, **_: Any
) -> int | None:
    """Number of latents of a published SAE, as its names tell it."""
    names = (sae_id, path, repo.rpartition("/")[2], release)
    for name in names:
        if power := re.search(r"width-2pow(\d+)", name):
            return 2 ** int(power[1])
        # As in width_16k, gemma-2-2b-…-w-32k-l0-40, SAE-Res-Qwen3-8B-Base-W64K-L0_50, v5_128k.
        if said := re.search(r"(?:width_|[-_]w-?|v5[-_])(\d+)([km])(?![a-z0-9])", name.lower()):
            return _count(said[1], said[2])
        if times := re.search(r"[-_](\d+)x$", name):
            return int(times[1]) * _D_MODEL[model] if model in _D_MODEL else None
    # As in gemma-2-2b/12-gemmascope-res-16k, with perhaps which of several trainers.
    if said := re.search(r"-(\d+)([km])(?:__|$)", neuronpedia):
        return _count(said[1], said[2])
    # As in blocks.8.hook_resid_pre_768, …_16384_anthropic, …_ds24576_bs4096_….
    if said := re.search(r"\.hook_(?:resid_pre|resid_post|mlp_out)_(\d+)|_ds(\d+)_", path):
        return int(said[1] or said[2])
    return next((width for key, width in _WIDTHS.items() if release.startswith(key)), None)


def _count(number: str, unit: str) -> int:
    """A width in thousands: 16k is 16,384 and 65k is 65,536, but 80k is 81,920."""
    n = int(number)
    if unit == "m":
        return n * 2**20
    power = 2 ** (1000 * n).bit_length()
    near = [p for p in (power // 2, power) if p // 1000 == n]
    return near[0] if near else n * 1024


def _of_one_width(saes: Sequence[Published], l0: float | None) -> Published:
    if len(saes) == 1:
        return saes[0]
    told = [sae for sae in saes if sae.l0 is not None]
    if l0 is None or len(told) < len(saes):
        remedy = f"{'give l0, or ' if len(told) == len(saes) else ''}write the id in full"
        ids = (
            f"{sae.sae_id} (L0 {'unknown' if sae.l0 is None else f'{sae.l0:g}'})" for sae in saes
        )
        raise StudyError(f"of {saes[0].d_sae} latents there are {_some(ids)}; {remedy}")
    return min(told, key=lambda sae: (abs((sae.l0 or 0) - l0), sae.sae_id))


def _some(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
