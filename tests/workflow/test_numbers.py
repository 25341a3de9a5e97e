"""The numbers of a run, against brute force on what is stored."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import networkx
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.oracle import Stitched, clustered_standard_error, dense_codes
from helpers.tiny import (
    ALL_SAES,
    ARCHITECTURES,
    D_MODEL,
    FLOOR,
    PAIRS,
    SIZES,
    STEPS,
    STITCHED_SAES,
    THETA,
    TINY,
)
from sae_stitching.saes.sae import SAE, read_sae


@dataclass(frozen=True)
class Evaluated:
    """SAEs and eval activations of a run, and dense codes in float64."""

    results: Path
    x: torch.Tensor
    sequence: torch.Tensor
    saes: dict[str, SAE]

    def codes(self, sae: str) -> torch.Tensor:
        # Encoded in float32, as the workflow does, or other latents might be active.
        return dense_codes(self.saes[sae], self.x).double()

    def stitched(self, pair: str) -> Stitched:
        small, large = pair.split("--")
        stitched = Stitched(self.saes[small], self.saes[large], self.x)
        stitched.x = self.x.double()
        stitched.small, stitched.large = self.saes[small].double(), self.saes[large].double()
        stitched.f0, stitched.f1 = self.codes(small), self.codes(large)
        return stitched

    def max_cosines(self, pair: str) -> np.ndarray:
        """Cosine of every two decoder directions, (d_large, d_small) float64."""
        small, large = (self.saes[sae].W_dec.double().numpy() for sae in pair.split("--"))
        norms = np.linalg.norm(large, axis=1)[:, None] * np.linalg.norm(small, axis=1)
        return large @ small.T / norms

    def read(self, name: str) -> dict[str, Any]:
        with h5py.File(self.results / name) as file:
            datasets = {key: file[key][...] for key in file if isinstance(file[key], h5py.Dataset)}
            return {**datasets, **file.attrs}

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.results / name, dtype={"sae": str, "small": str, "large": str})


@pytest.fixture(scope="module")
def evaluated(runs) -> Evaluated:
    results = runs["away"].results
    with h5py.File(results / "activations/eval/0000.h5") as file:
        x = torch.from_numpy(file["activations"][...]).float()
        sequence = torch.from_numpy(file["sequence"][...])
    return Evaluated(
        results, x, sequence, {sae: read_sae(results / f"saes/{sae}.h5") for sae in ALL_SAES}
    )


def none(d_sae: int) -> np.ndarray:
    return np.zeros(d_sae, dtype=bool)


def every(d_sae: int) -> np.ndarray:
    return np.ones(d_sae, dtype=bool)


def only(d_sae: int, *latents: int) -> np.ndarray:
    mask = none(d_sae)
    mask[list(latents)] = True
    return mask


# How far two implementations that encode in float32 may be apart: in the MSE by rounding, in
# counts by a pre-activation that one of them takes to be above zero.
CLOSE = {"rtol": 1e-4, "atol": 1e-7}


def close_l0(value: float, n_tokens: int) -> Any:
    return pytest.approx(value, abs=2.5 / n_tokens)


@pytest.mark.parametrize("pair", PAIRS)
def test_insertions_agree_with_brute_force(evaluated, pair):
    stored, stitched = evaluated.read(f"stitching/insertions/{pair}.h5"), evaluated.stitched(pair)
    d_small, d_large = stitched.small.d_sae, stitched.large.d_sae
    before = stitched.squared_errors(every(d_small), none(d_large))
    mse_small = stitched.mse(every(d_small), none(d_large))
    assert stored["mse_small"] == pytest.approx(mse_small, rel=1e-6)
    assert stored["mse_large"] == pytest.approx(
        stitched.mse(none(d_small), every(d_large)), rel=1e-6
    )
    assert stored["n_tokens"] == len(evaluated.x)
    active = (stitched.f1 > 0).sum(0).numpy()
    np.testing.assert_allclose(stored["n_active"], active, atol=1)
    for latent in range(d_large):
        inserted = stitched.squared_errors(every(d_small), only(d_large, latent))
        changes = (inserted - before) / D_MODEL
        np.testing.assert_allclose(stored["delta_mse"][latent], changes.mean(), **CLOSE)
        if latent % 16 == 0:
            error = clustered_standard_error(changes, evaluated.sequence)
            np.testing.assert_allclose(stored["standard_error"][latent], error, **CLOSE)


@pytest.mark.parametrize("pair", PAIRS)
def test_similarities_and_subgraphs_agree_with_brute_force(evaluated, pair):
    cosines = evaluated.max_cosines(pair)
    similarity = evaluated.read(f"similarity/{pair}.h5")
    np.testing.assert_allclose(similarity["cosine"], cosines, atol=1e-6)
    np.testing.assert_allclose(similarity["max_cosine_large"], cosines.max(1), atol=1e-6)
    np.testing.assert_allclose(similarity["max_cosine_small"], cosines.max(0), atol=1e-6)
    with h5py.File(evaluated.results / f"similarity/{pair}.h5") as file:
        edges = set(zip(file["edges/large"][...], file["edges/small"][...], strict=True))
    assert edges == set(zip(*np.nonzero(similarity["cosine"] >= np.float32(FLOOR)), strict=True))

    subgraphs = evaluated.read(f"subgraphs/{pair}.h5")
    assert subgraphs["threshold"] == THETA
    graph = networkx.Graph()
    for i, j in zip(*np.nonzero(cosines >= THETA), strict=True):
        graph.add_edge(("large", int(i)), ("small", int(j)))
    components = {frozenset(component) for component in networkx.connected_components(graph)}
    found: dict[int, set[tuple[str, int]]] = {}
    for side in ("small", "large"):
        for latent, component in enumerate(subgraphs[f"component_{side}"]):
            if component >= 0:
                found.setdefault(int(component), set()).add((side, latent))
    assert {frozenset(component) for component in found.values()} == components
    assert sorted(found) == list(range(subgraphs["n_components"]))
    np.testing.assert_array_equal(subgraphs["component_large"] < 0, cosines.max(1) < THETA)


@pytest.mark.parametrize("pair", PAIRS)
def test_swaps_and_thresholds_agree_with_brute_force(evaluated, pair):
    stitched = evaluated.stitched(pair)
    d_small, d_large = stitched.small.d_sae, stitched.large.d_sae
    subgraphs = evaluated.read(f"subgraphs/{pair}.h5")
    swaps = evaluated.read(f"stitching/swaps/{pair}.h5")
    mse, l0 = (f(every(d_small), none(d_large)) for f in (stitched.mse, stitched.l0))
    n = len(evaluated.x)
    assert swaps["l0_small"] == close_l0(l0, n)
    for component in range(subgraphs["n_components"]):
        out, put = (subgraphs[f"component_{side}"] == component for side in ("small", "large"))
        change = stitched.mse(~out, put) - mse
        np.testing.assert_allclose(swaps["delta_mse"][component], change, **CLOSE)
        assert swaps["delta_l0"][component] == close_l0(stitched.l0(~out, put) - l0, n)
        assert (swaps["n_small"][component], swaps["n_large"][component]) == (out.sum(), put.sum())

    curve = evaluated.read(f"stitching/threshold/{pair}.h5")
    cosine = evaluated.read(f"similarity/{pair}.h5")["max_cosine_large"]
    assert len(curve["theta"]) == len(np.unique(cosine)) + 1
    for point in range(0, len(curve["theta"]), 7):
        novel = cosine < curve["theta"][point]
        assert curve["n_inserted"][point] == novel.sum()
        expected = stitched.mse(every(d_small), novel)
        np.testing.assert_allclose(curve["mse"][point], expected, **CLOSE)
    assert curve["best"] == curve["theta"][curve["mse"].argmin()]


@pytest.mark.parametrize("pair", STEPS)
def test_the_transition_agrees_with_brute_force(evaluated, pair):
    stitched = evaluated.stitched(pair)
    subgraphs = evaluated.read(f"subgraphs/{pair}.h5")
    with h5py.File(evaluated.results / "stitching/transition.h5") as file:
        path = {name: file[pair][name][...] for name in file[pair]}
    keep0, keep1 = every(stitched.small.d_sae), none(stitched.large.d_sae)
    novel = iter(np.flatnonzero(subgraphs["component_large"] < 0))
    alone = iter(np.flatnonzero(subgraphs["component_small"] < 0))
    components = iter(range(subgraphs["n_components"]))
    assert path["kind"][0] == 0 and (np.diff(path["kind"]) >= 0).all()
    for step, kind in enumerate(path["kind"]):
        if kind == 1:
            keep1[next(novel)] = True
        elif kind == 2:
            component = next(components)
            keep0[subgraphs["component_small"] == component] = False
            keep1[subgraphs["component_large"] == component] = True
        elif kind == 3:
            keep0[next(alone)] = False
        assert path["n_latents"][step] == keep0.sum() + keep1.sum()
        np.testing.assert_allclose(path["mse"][step], stitched.mse(keep0, keep1), **CLOSE)
        assert path["l0"][step] == close_l0(stitched.l0(keep0, keep1), len(evaluated.x))
    assert not keep0.any() and keep1.all()
    properties = evaluated.table("tables/sae_properties.csv").set_index("sae")
    for sae, at in zip(pair.split("--"), (0, -1), strict=True):
        assert path["mse"][at] == pytest.approx(properties.loc[sae, "mse"], rel=1e-6)
        assert path["l0"][at] == pytest.approx(properties.loc[sae, "l0"])


def area_under_curve(positive: np.ndarray, cosine: np.ndarray) -> float:
    """Share of pairs in which the latent that lowers the MSE has the lower cosine."""
    a, b = cosine[positive][:, None], cosine[~positive]
    return float(np.mean((a < b) + 0.5 * (a == b))) if a.size and b.size else float("nan")


def median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def test_the_table_of_saes_agrees_with_brute_force(evaluated):
    table = evaluated.table("tables/sae_properties.csv").set_index("sae")
    assert list(table.index) == list(ALL_SAES)
    x = evaluated.x.double()
    for sae, row in table.iterrows():
        f, weights = evaluated.codes(str(sae)), evaluated.saes[str(sae)].double()
        sse = (x - f @ weights.W_dec - weights.b_dec).square().sum().item()
        if sae in SIZES:
            assert row["d_sae"] == SIZES[sae] and pd.isna(row["stitched_from"])
            assert row["architecture"] == ARCHITECTURES[sae]
        else:
            assert row["d_sae"] == len(weights.W_dec) and row["architecture"] == "jumprelu"
            recipe = STITCHED_SAES[sae]
            assert row["stitched_from"].split(" + ")[0] == str(recipe["base"])
        assert row["l0"] == close_l0((f > 0).sum(1).double().mean().item(), len(x))
        assert row["mse"] == pytest.approx(sse / x.numel(), rel=1e-6)
        assert row["fvu"] == pytest.approx(sse / (x - x.mean(0)).square().sum().item(), rel=1e-6)
        assert row["n_live"] == (f > 0).any(0).sum()
        assert row["n_live"] + row["n_dead"] == row["d_sae"]
        assert row["n_tokens"] == len(x)


@pytest.mark.parametrize("name", STITCHED_SAES)
def test_stitched_saes_are_made_of_the_others_latents(evaluated, name):
    stored, recipe = evaluated.read(f"saes/{name}.h5"), STITCHED_SAES[name]
    source, latent = np.char.decode(stored["source"].astype(bytes), "utf-8"), stored["latent"]
    parts = [str(part["sae"]) for part in (*recipe.get("swap", []), *recipe.get("insert", []))]
    assert set(source) <= {str(recipe["base"]), *parts} and len(set(source)) > 1
    assert len(set(zip(source, latent, strict=True))) == len(latent)
    b_dec = 0.0
    for sae in np.unique(source):
        member, rows = evaluated.saes[sae], source == sae
        np.testing.assert_array_equal(stored["W_dec"][rows], member.W_dec[latent[rows]])
        np.testing.assert_array_equal(stored["W_enc"][:, rows], member.W_enc[:, latent[rows]])
        b_dec = b_dec + rows.mean() * member.b_dec.double().numpy()
    np.testing.assert_allclose(stored["b_dec"], b_dec, rtol=1e-5, atol=1e-7)

    # What comes last, or all that comes, is chosen as the config says.
    last = recipe["insert"][-1]
    coming = latent[source == str(last["sae"])]
    if last["select"] == "novel":
        cosines = evaluated.max_cosines(f"{recipe['base']}--{last['sae']}").max(1)
        np.testing.assert_array_equal(coming, np.flatnonzero(cosines < THETA))
    elif "n" in last:
        assert len(coming) >= last["n"]


def test_stitched_saes_encode_as_their_members(evaluated):
    # The base and all that comes are TopK SAEs, which a threshold stands in for: k on average.
    member, stitched = evaluated.saes["32"], evaluated.saes["32-novel"]
    with h5py.File(evaluated.results / "activations/train/0000.h5") as file:
        x = torch.from_numpy(file["activations"][:2000]).float()
    f = (x - member.b_dec) @ member.W_enc + member.b_enc
    assert stitched.threshold is not None
    limit = stitched.threshold[0]
    assert (f > limit).sum() == pytest.approx(TINY["training"]["k"] * len(x), abs=2)
    codes = stitched.encode(x).to_dense()[:, : member.d_sae]
    torch.testing.assert_close(codes, torch.where(f > limit, f, 0.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pair", STEPS)
def test_selections_agree_with_brute_force(evaluated, pair):
    stitched = evaluated.stitched(pair)
    d_small, d_large = stitched.small.d_sae, stitched.large.d_sae
    cosine = evaluated.read(f"similarity/{pair}.h5")["max_cosine_large"]
    with h5py.File(evaluated.results / f"stitching/selection/{pair}.h5") as file:
        orders = {name: {key: group[key][...] for key in group} for name, group in file.items()}
        attributes = dict(file.attrs)
    np.testing.assert_array_equal(orders["cosine"]["latents"], np.argsort(cosine, kind="stable"))
    assert attributes["n_novel"] == (cosine < np.float32(THETA)).sum()
    for path in orders.values():
        assert sorted(path["latents"]) == list(range(d_large))
        for n in range(0, d_large + 1, 16):
            keep = only(d_large, *path["latents"][:n])
            np.testing.assert_allclose(path["mse"][n], stitched.mse(every(d_small), keep), **CLOSE)
            assert path["l0"][n] == close_l0(stitched.l0(every(d_small), keep), len(evaluated.x))

    table = evaluated.table("tables/selection.csv")
    rows = table[table["small"] + "--" + table["large"] == pair]
    assert len(rows) == 9
    for row in rows.to_dict("records"):
        path, n = orders[row["order"]], row["n_inserted"]
        assert (row["mse"], row["l0"]) == (path["mse"][n], path["l0"][n])
        theta = attributes["n_novel"]
        if row["compared_at"] == "count":
            assert n == theta
        elif row["compared_at"] == "lowest":
            assert row["mse"] == path["mse"].min()
        elif row["order"] != "cosine":
            most = orders["cosine"]["l0"][theta]
            assert row["l0"] <= most + 1e-9 and (n == d_large or path["l0"][n + 1] > most)


def test_the_table_of_stitched_saes(evaluated):
    table = evaluated.table("tables/stitched.csv").set_index("sae")
    properties = evaluated.table("tables/sae_properties.csv").set_index("sae")
    assert list(table.index) == list(ALL_SAES)
    for sae, row in table.iterrows():
        for name in ("d_sae", "l0", "mse", "fvu", "ce_recovered_zero", "ce_recovered_mean"):
            assert row[name] == properties.loc[sae, name]
        assert pd.isna(row["next_in_size"]) == (sae in SIZES)
    # The base of all is TopK, and so are two of the trained.
    small, large = properties.loc["32"], properties.loc["64"]
    for sae in STITCHED_SAES:
        row = table.loc[sae]
        inside = row["d_sae"] <= 64
        assert pd.notna(row["mse_at_size"]) == inside
        if inside:
            share = np.log(row["d_sae"] / 32) / np.log(2)
            expected = (1 - share) * small["mse"] + share * large["mse"]
            assert row["mse_at_size"] == pytest.approx(expected)
        assert float(row["next_in_size"]) == (32 if row["d_sae"] < 32 * 2**0.5 else 64)


def test_the_table_of_pairs_agrees_with_brute_force(evaluated):
    table = evaluated.table("tables/pairs.csv")
    assert list(table["small"] + "--" + table["large"]) == sorted(PAIRS, key=PAIRS.index)
    for pair, row in zip(PAIRS, table.to_dict("records"), strict=True):
        stored, stitched = (
            evaluated.read(f"stitching/insertions/{pair}.h5"),
            evaluated.stitched(pair),
        )
        cosine = evaluated.max_cosines(pair)
        best = cosine.max(1)
        active = stored["n_active"] > 0
        lowers = stored["delta_mse"][active] < 0
        d_small, d_large = stitched.small.d_sae, stitched.large.d_sae
        assert row["theta"] == THETA
        assert row["n_novel"] == (best < THETA).sum()
        assert row["n_novel"] + row["n_reconstruction"] == d_large
        assert row["share_novel"] == pytest.approx((best < THETA).mean())
        assert row["n_unmatched_small"] == (cosine.max(0) < THETA).sum()
        assert row["n_never_active"] == (~active).sum()
        assert row["share_improving"] == pytest.approx(lowers.mean())
        auc = area_under_curve(lowers, stored["max_cosine"][active])
        assert row["auc"] == pytest.approx(auc, nan_ok=True)
        if np.isfinite(auc):
            assert row["auc_low"] <= auc <= row["auc_high"]
            called = stored["max_cosine"][active] < row["theta_best"]
            best_j = called[lowers].mean() - called[~lowers].mean()
            thetas = np.append(stored["max_cosine"], 2.0)[:, None]
            novel = stored["max_cosine"][active] < thetas
            assert best_j == pytest.approx(
                (novel[:, lowers].mean(1) - novel[:, ~lowers].mean(1)).max()
            )
        lowest = np.float32(row["theta_lowest_mse"])
        mse = [stitched.mse(every(d_small), stored["max_cosine"] < t) for t in stored["max_cosine"]]
        found = stitched.mse(every(d_small), stored["max_cosine"] < lowest)
        everything = stitched.mse(every(d_small), every(d_large))
        assert found == pytest.approx(min(*mse, everything), rel=1e-6)
        assert row["mse_small"] == pytest.approx(stitched.mse(every(d_small), none(d_large)))
        assert row["mse_large"] == pytest.approx(stitched.mse(none(d_small), every(d_large)))
        assert row["median_max_cosine"] == pytest.approx(np.median(best), abs=1e-6)
        swaps = evaluated.read(f"stitching/swaps/{pair}.h5")
        assert row["n_components"] == len(swaps["delta_mse"])
        assert row["median_swap_delta_mse"] == pytest.approx(
            median(swaps["delta_mse"]), nan_ok=True
        )
        assert row["median_swap_delta_l0"] == pytest.approx(median(swaps["delta_l0"]), nan_ok=True)


def test_figures_show_what_the_files_hold(evaluated):
    for pair in PAIRS:
        stored = evaluated.read(f"stitching/insertions/{pair}.h5")
        shown = evaluated.table(f"figures/figure4_{pair}.csv")
        latents = np.flatnonzero(stored["n_active"] > 0)
        np.testing.assert_array_equal(shown["latent"], latents)
        for column in ("delta_mse", "standard_error", "n_active", "max_cosine"):
            np.testing.assert_array_equal(shown[column], stored[column][latents])
        novel = stored["max_cosine"][latents] < np.float32(THETA)
        np.testing.assert_array_equal(shown["group"] == "novel", novel)
        lower = stored["delta_mse"][latents] < 0
        np.testing.assert_array_equal(shown["effect"] == "decreases", lower)

    transition = evaluated.table("figures/figure5.csv")
    assert list(dict.fromkeys(transition["small"] + "--" + transition["large"])) == list(STEPS)
    kinds = np.array(["start", "insert", "swap", "drop"])
    with h5py.File(evaluated.results / "stitching/transition.h5") as file:
        for pair in STEPS:
            rows = transition[transition["small"] + "--" + transition["large"] == pair]
            for column in ("n_latents", "mse", "l0"):
                np.testing.assert_array_equal(rows[column], file[pair][column][...])
            np.testing.assert_array_equal(rows["kind"], kinds[file[pair]["kind"][...]])
    # Each step starts where the one before ended.
    for before, after in pairwise(step for _, step in transition.groupby("step")):
        assert after["n_latents"].iloc[0] == before["n_latents"].iloc[-1]
        assert after["mse"].iloc[0] == pytest.approx(before["mse"].iloc[-1])

    rocs = evaluated.table("figures/figure13.csv")
    assert list(dict.fromkeys(rocs["small"] + "--" + rocs["large"])) == list(PAIRS)
    for pair in PAIRS:
        stored = evaluated.read(f"stitching/roc/{pair}.h5")
        rows = rocs[rocs["small"] + "--" + rocs["large"] == pair]
        for column in ("auc", "auc_low", "auc_high", "n_positive", "n_negative"):
            np.testing.assert_array_equal(rows[column], np.full(len(rows), stored[column]))
        points = set(zip(stored["fpr"], stored["tpr"], stored["threshold"], strict=True))
        curve = rows[rows["point"] == "curve"]
        shown = set(zip(curve["fpr"], curve["tpr"], curve["threshold"], strict=True))
        assert shown <= points
        if len(points):
            area = np.trapezoid(curve["tpr"], curve["fpr"])
            assert area == pytest.approx(stored["auc"])
