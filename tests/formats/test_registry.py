"""SAELens's registry of published SAEs: what its names tell, and how SAEs are found in it."""

import hashlib
from dataclasses import replace

import pytest
from helpers import registry as stand_in
from helpers.registry import PIN, RELEASES, TEXT, registry, write_index
from helpers.study_configs import SCHEMA
from hypothesis import given
from hypothesis import strategies as st
from sae_stitching import formats
from sae_stitching.base.errors import StudyError
from sae_stitching.formats import registry as module
from sae_stitching.formats.registry import FORMATS, choose, read_registry

# Release and id: repository, path, format, model, hook and d_sae.
PUBLISHED = {
    ("gpt2-small-res-jb", "blocks.8.hook_resid_pre"): (
        "saelens", "blocks.8.hook_resid_pre", 24576,
    ),
    ("gpt2-small-res-jb-feature-splitting", "blocks.8.hook_resid_pre_98304"): (
        "saelens", "blocks.8.hook_resid_pre", 98304,
    ),
    ("gemma-scope-2b-pt-res", "layer_12/width_1m/average_l0_58"): (
        "gemma-scope", "blocks.12.hook_resid_post", 1048576,
    ),
    ("gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6"): (
        "gemma-scope", "hook_embed", 4096,
    ),
    ("gemma-scope-2b-pt-res-canonical", "layer_12/width_65k/canonical"): (
        "gemma-scope", "blocks.12.hook_resid_post", 65536,
    ),
    # What goes into the attention's last product, whatever the folder is called.
    ("gemma-scope-2-270m-pt-att-all", "layer_1_width_262k_l0_big"): (
        "gemma-scope-2", "blocks.1.attn.hook_z", 262144,
    ),
    ("llama_scope_lxr_8x", "l16r_8x"): ("llama-scope", "blocks.16.hook_resid_post", 32768),
    ("qwen-scope-3.5-27b-w80k-l50", "layer32"): (
        "qwen-scope", "blocks.32.hook_resid_post", 81920,
    ),
    ("sae_bench_pythia70m_sweep_topk_ctx128_0730", "blocks.4.hook_resid_post__trainer_1"): (
        "dictionary-learning", "blocks.4.hook_resid_post", 16384,
    ),
    ("gpt2-small-hook-z-kk", "blocks.0.hook_z"): ("connor-rob", "blocks.0.attn.hook_z", 24576),
    ("gpt2-small-resid-mid-v5-128k", "blocks.6.hook_resid_mid"): (
        "saelens", "blocks.6.hook_resid_mid", 131072,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("release", "sae_id"), PUBLISHED)
def test_names_tell_place_and_width(release, sae_id):
    (sae,) = choose(registry().release(release), sae_id)
    assert (sae.format, sae.hook, sae.d_sae) == PUBLISHED[release, sae_id]
    assert (sae.repo, sae.model) == (RELEASES[release]["repo_id"], RELEASES[release]["model"])
    assert not sae.refusal


def test_what_else_it_tells():
    splitting = registry().release("gpt2-small-res-jb-feature-splitting")
    (sae,) = choose(splitting, "blocks.8.hook_resid_pre_768")
    assert (sae.l0, sae.variance_explained) == (35.0, 0.7)
    assert sae.neuronpedia == "gpt2-small/8-res_fs768-jb"
    # The data that it was trained on change nothing of what it computes.
    assert sae.settings == stand_in.CENTRED
    (canonical,) = choose(
        registry().release("gemma-scope-2b-pt-res-canonical"), "layer_12/width_16k/canonical"
    )
    assert (canonical.l0, canonical.path) == (82, "layer_12/width_16k/average_l0_82")


@pytest.mark.parametrize(
    ("release", "refusal"),
    [
        ("gemma-scope-2-270m-pt-transcoders", "is a transcoder, which reads at one place and"),
        ("temporal-sae-gemma-2-2b", "is a temporal SAE, whose latents follow from the tokens"),
        ("tomorrows", "SAELens's loader of_tomorrow, which is not known here"),
    ],
)
def test_what_cannot_be_read_says_why(release, refusal):
    (sae,) = registry().release(release)
    assert refusal in sae.refusal and not sae.format
    assert registry().search(release=release) == []
    assert registry().search(release=release, readable=False) == [[sae]]


@given(exponent=st.integers(8, 22))
def test_thousands_of_latents_are_powers_of_two_where_they_can_be(exponent):
    d_sae = 2**exponent
    name = f"{d_sae // 1000}k" if d_sae >= 1000 else None
    if name and d_sae < 2**20:
        assert module._count(name[:-1], "k") == d_sae
    assert module._count(str(exponent), "m") == exponent * 2**20


@pytest.mark.parametrize(("name", "d_sae"), [("80", 81920), ("24", 24576), ("128", 131072)])
def test_other_thousands_are_of_1024(name, d_sae):
    assert module._count(name, "k") == d_sae


class TestChoose:
    def ids(self, *names, **how):
        return [sae.sae_id for sae in choose(registry().release(*names[:1]), names[1], **how)]

    def test_a_pattern_is_one_of_each_width(self):
        ids = self.ids("gemma-scope-2b-pt-res-canonical", "layer_12/width_*/canonical")
        assert ids == [f"layer_12/width_{width}/canonical" for width in ("16k", "32k", "65k")]
        ids = self.ids("gpt2-small-res-jb-feature-splitting", "blocks.8.*")
        assert [int(name.rpartition("_")[2]) for name in ids] == [768 * 2**i for i in range(8)]

    def test_l0_chooses_the_nearest_of_each_width(self):
        ids = self.ids("gemma-scope-2b-pt-res", "layer_12/*", l0=45)
        assert [name.partition("/")[2] for name in ids] == [
            "width_16k/average_l0_41", "width_32k/average_l0_40", "width_1m/average_l0_58",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("release", "sae_id", "complaint"),
        [
            (
                "gemma-scope-2b-pt-res", "layer_12/*",
                r"of 16384 latents there are layer_12/width_16k/average_l0_22 \(L0 22\), "
                r".*average_l0_82 \(L0 82\); give l0, or write the id in full",
            ),
            (
                "gemma-scope-2b-pt-res", "layer_*/width_16k/*",
                "is 5 SAEs at several places, blocks.12.hook_resid_post, blocks.20.hook_resid_post",
            ),
            ("gpt2-small-res-jb", "blocks.8.hook_resid_pr", "it has blocks.8.hook_resid_pre, "),
            ("gpt2-small-res-jb", "layer_*", "there is nothing like layer_.* it has blocks.0"),
        ],
    )  # fmt: skip
    def test_what_is_not_one_of_each_width_at_one_place_is_refused(
        self, release, sae_id, complaint
    ):
        with pytest.raises(StudyError, match=complaint):
            self.ids(release, sae_id)

    def test_l0_that_is_not_published_chooses_nothing(self):
        saes = [*registry().release("gemma-scope-2b-pt-res-canonical")]
        saes = [replace(sae, d_sae=1, l0=None) for sae in saes]
        with pytest.raises(StudyError, match=r"\(L0 unknown\).*; write the id in full"):
            choose(saes, "layer_12/*", l0=10)


def test_a_release_that_is_not_there():
    with pytest.raises(StudyError, match="called gemma-scope-2b; did you mean gemma-scope-2b-pt"):
        registry().release("gemma-scope-2b")
    with pytest.raises(StudyError, match="called xyz; sae-stitching saes lists all"):
        registry().release("xyz")


class TestSearch:
    def test_places_with_several_widths(self):
        found = registry().search("GEMMA-2", n_widths=2)
        assert [(saes[0].hook, len(saes)) for saes in found] == [("blocks.12.hook_resid_post", 11)]
        assert [sae.d_sae for sae in found[0]] == sorted(sae.d_sae or 0 for sae in found[0])

    def test_by_hook_and_release(self):
        found = registry().search(hook="hook_z")
        assert {sae.release for saes in found for sae in saes} == {
            "gpt2-small-hook-z-kk", "gemma-scope-2-270m-pt-att-all",
        }  # fmt: skip
        (one,) = registry().search(release="lxr")
        assert [sae.sae_id for sae in one] == ["l16r_8x"]


class TestRead:
    def test_fetched_once(self, index, tmp_path):
        write_index(index)
        cache = tmp_path / "cache"
        first = read_registry(PIN, cache)
        assert set(map(str, first.saes)) == set(map(str, registry().saes))
        assert first.version == PIN["version"]
        for wheel in index.iterdir():
            wheel.unlink()
        assert read_registry(PIN, cache).saes == first.saes
        # What is kept is quick to read, and nothing else.
        assert [path.suffix for path in (cache / "registry").iterdir()] == [".json"]

    def test_a_version_that_is_not_there(self, index, tmp_path):
        del index
        with pytest.raises(StudyError, match=r"sae-lens==6\.54\.12: pip download failed"):
            read_registry(PIN, tmp_path)

    def test_another_registry_than_pinned(self, index, tmp_path):
        write_index(index, TEXT + "# changed\n")
        with pytest.raises(StudyError, match=r"pretrained_saes\.yaml: SHA-256 is .*, pinned is"):
            read_registry(PIN, tmp_path)

    @pytest.mark.parametrize("text", ["[1, 2]", "a: {saes: [{id: 1}]}", "a: [", "a: {model: b}"])
    def test_what_is_no_registry(self, index, tmp_path, text):
        write_index(index, text)
        pin = {**PIN, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        with pytest.raises(StudyError, match=r"is no registry as SAELens has it .*; pin another"):
            read_registry(pin, tmp_path)

    def test_a_damaged_copy(self, index, tmp_path):
        write_index(index)
        read_registry(PIN, tmp_path)
        (path,) = (tmp_path / "registry").iterdir()
        path.write_text("{", encoding="utf-8")
        with pytest.raises(StudyError, match="damaged; remove it, and it is fetched again"):
            read_registry(PIN, tmp_path)


def test_the_pin_is_that_of_the_schema():
    keys = SCHEMA["properties"]["registry"]["properties"]
    assert {key: rule["default"] for key, rule in keys.items()} == module.PIN


def test_every_loader_has_a_format_that_is_read():
    assert set(FORMATS.values()) <= set(formats.FILES)
