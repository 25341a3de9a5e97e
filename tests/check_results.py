"""Recompute the numbers of a study's figures and tables from its HDF5 files, and compare.

    python tests/check_results.py results/<study> ...

Without arguments all finished studies in results/ are checked. The numbers are computed here once
more, by definition and without the code that wrote them: of each SAE from its weights, codes and
the cached activations, of figures and tables from the similarities, subgraphs and effects that they
show. Ends with status 1 if anything differs.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import ndtr

# Which figures and tables there are; nothing that computes them.
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from sae_stitching.tables.register import RESULTS

KINDS = np.array(["start", "insert", "swap", "drop"])
#: Sums may be taken in another order than by the code that is checked.
ROUNDING = 1e-9


class Study:
    """The files of a study, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, dict[str, Any]] = {}

    def hdf5(self, name: str) -> dict[str, Any]:
        """Datasets (``group/name`` where they lie in one) and attributes of a file."""
        if name not in self._read:
            found: dict[str, Any] = {}
            with h5py.File(self.folder / f"{name}.h5") as file:
                file.visititems(
                    lambda key, item: (
                        found.update({key: item[...]}) if isinstance(item, h5py.Dataset) else None
                    )
                )
                found |= dict(file.attrs)
            self._read[name] = found
        return self._read[name]

    def csv(self, name: str) -> pd.DataFrame:
        text = ("sae", "small", "large", "bias_of", "compared_with", "next_in_size", "next_in_l0")
        return pd.read_csv(self.folder / f"{name}.csv", dtype=dict.fromkeys(text, str))

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.csv").exists()

    def pairs(self) -> list[str]:
        table = self.csv("tables/pairs")
        return (table["small"] + "--" + table["large"]).tolist()

    def of_pair(self, name: str, pair: str) -> pd.DataFrame:
        table = self.csv(name)
        return table[table["small"] + "--" + table["large"] == pair]

    def effects(self, pair: str) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        """Insertions of a pair, which latents are active, and which are novel (Eq. 6)."""
        found = self.hdf5(f"stitching/insertions/{pair}")
        theta = np.float32(self.hdf5(f"subgraphs/{pair}")["threshold"])
        return found, found["n_active"] > 0, found["max_cosine"] < theta


Difference = Iterator[str]


def compare(
    name: str, shown: pd.DataFrame, columns: Mapping[str, Any], rounding: float = 0.0
) -> Difference:
    """Yield what is wrong in the columns of a table; numbers may differ by `rounding`."""
    for column, expected in columns.items():
        found, values = shown[column].to_numpy(), np.asarray(expected)
        if len(found) != len(values):
            yield f"{name}: has {len(found)} rows, not {len(values)}"
            return
        if values.dtype.kind in "fiub":
            found, values = found.astype(np.float64), values.astype(np.float64)
            # The rounding of a sum is relative to its terms, not to what is left of them.
            near = rounding * np.abs(values[np.isfinite(values)]).max(initial=0.0)
            same = np.isclose(found, values, rtol=rounding, atol=near, equal_nan=True)
        else:
            same = (found == values) | (pd.isna(found) & pd.isna(values))
        if not np.all(same):
            row = int(np.flatnonzero(~same)[0])
            yield f"{name}: {column} is not that of the HDF5 file ({found[row]}, not {values[row]})"


def area(positive: np.ndarray, cosine: np.ndarray) -> float:
    """Share of pairs in which the latent that lowers the MSE has the lower cosine."""
    a, b = np.sort(cosine[positive]), np.sort(cosine[~positive])
    if not len(a) or not len(b):
        return float("nan")
    below, upto = np.searchsorted(a, b, "left"), np.searchsorted(a, b, "right")
    return float((below + upto).sum() / 2 / len(a) / len(b))


def median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else np.nan


def sae_properties(study: Study) -> Difference:
    """Decode the stored codes and compare with the activations."""
    shards = sorted((study.folder / "activations" / "eval").glob("*.h5"))
    for row in study.csv("tables/sae_properties").to_dict("records"):
        codes = study.hdf5(f"codes/{row['sae']}")
        n_tokens = len(codes["indptr"]) - 1
        n_live = len(np.unique(codes["indices"]))
        expected = {
            "n_tokens": n_tokens,
            "l0": codes["indptr"][-1] / n_tokens,
            "n_live": n_live,
            "n_dead": codes["d_sae"] - n_live,
        }
        if shards:  # they may be temporary
            x = np.concatenate([h5py.File(path)["activations"][...] for path in shards])
            x = x.astype(np.float64)
            sae = study.hdf5(f"saes/{row['sae']}")
            arrays = (codes["values"].astype(np.float64), codes["indices"], codes["indptr"])
            f = csr_array(arrays, shape=(n_tokens, int(codes["d_sae"])))
            error = x - f @ sae["W_dec"].astype(np.float64) - sae["b_dec"]
            expected["mse"] = np.square(error).mean()
            expected["fvu"] = np.square(error).sum() / np.square(x - x.mean(0)).sum()
        shown = pd.DataFrame([row])
        columns = {name: [value] for name, value in expected.items()}
        yield from compare(f"tables/sae_properties.csv, {row['sae']}", shown, columns, ROUNDING)


def pairs(study: Study) -> Difference:
    for pair in study.pairs():
        effects, active, novel = study.effects(pair)
        subgraphs = study.hdf5(f"subgraphs/{pair}")
        delta = effects["delta_mse"][active]
        positive, cosine = delta < 0, effects["max_cosine"]
        expected = {
            "theta": subgraphs["threshold"],
            "n_novel": novel.sum(),
            "n_reconstruction": (~novel).sum(),
            "share_novel": novel.mean(),
            "n_components": len(set(subgraphs["component_large"].tolist()) - {-1}),
            "n_unmatched_small": (subgraphs["component_small"] < 0).sum(),
            "auc": area(positive, cosine[active]),
            "mse_small": effects["mse_small"],
            "mse_large": effects["mse_large"],
            "n_never_active": (~active).sum(),
            "share_improving": positive.mean() if len(positive) else np.nan,
            "median_max_cosine": median(cosine),
            "median_swap_delta_mse": median(study.hdf5(f"stitching/swaps/{pair}")["delta_mse"]),
        }
        shown = study.of_pair("tables/pairs", pair)
        columns = {name: [value] for name, value in expected.items()}
        yield from compare(f"tables/pairs.csv, {pair}", shown, columns, ROUNDING)


def figure4(study: Study) -> Difference:
    for pair in study.pairs():
        effects, active, novel = study.effects(pair)
        columns = {name: effects[name][active] for name in ("delta_mse", "standard_error")}
        columns |= {"latent": np.flatnonzero(active), "max_cosine": effects["max_cosine"][active]}
        columns["group"] = np.where(novel[active], "novel", "reconstruction")
        name = f"figures/figure4_{pair}"
        yield from compare(f"{name}.csv", study.csv(name), columns)


def figure5(study: Study) -> Difference:
    steps = study.hdf5("stitching/transition")
    for pair in map(str, steps["steps"]):
        columns = {key: steps[f"{pair}/{key}"] for key in ("n_latents", "mse", "l0")}
        columns["kind"] = KINDS[steps[f"{pair}/kind"]]
        shown = study.of_pair("figures/figure5", pair)
        yield from compare(f"figures/figure5.csv, {pair}", shown, columns)


def figure7(study: Study) -> Difference:
    for pair in study.pairs():
        cosine = study.hdf5(f"similarity/{pair}")["max_cosine_large"].astype(np.float64)
        _, _, novel = study.effects(pair)
        shown = study.of_pair("figures/figure7", pair)
        low, high = (shown[name].to_numpy()[:, None] for name in ("low", "high"))
        first = np.arange(len(shown))[:, None] == 0
        # A cosine is counted where low < c <= high; the first bin takes what lies at its low end.
        inside = ((cosine > low) | first) & (np.minimum(cosine, 1.0) <= high)
        columns = {
            "n_novel": (inside & novel).sum(1),
            "n_reconstruction": (inside & ~novel).sum(1),
        }
        yield from compare(f"figures/figure7.csv, {pair}", shown, columns)


def figure8(study: Study) -> Difference:
    """Activation cosines of the pairs of latents that are shown, from the codes."""
    unit: dict[str, csr_array] = {}
    for pair in study.pairs():
        shown = study.of_pair("figures/figure8", pair)
        for sae in pair.split("--"):
            if sae not in unit:
                codes = study.hdf5(f"codes/{sae}")
                arrays = (codes["values"].astype(np.float64), codes["indices"], codes["indptr"])
                f = csr_array(arrays, shape=(len(codes["indptr"]) - 1, int(codes["d_sae"])))
                norms = np.sqrt(f.power(2).sum(axis=0))
                unit[sae] = (f / np.where(norms > 0, norms, 1.0)).tocsc()
        small, large = (unit[sae] for sae in pair.split("--"))
        cosine = (small.T @ large).tocsr()
        i, j = shown["latent_small"].to_numpy(), shown["latent_large"].to_numpy()
        columns = {"activation_cosine": cosine[i, j] if len(i) else np.zeros(0)}
        yield from compare(f"figures/figure8.csv, {pair}", shown, columns, ROUNDING)


def components(study: Study) -> Difference:
    """How many connected subgraphs there are of each size (Figure 12's table)."""
    for pair in study.pairs():
        subgraphs = study.hdf5(f"subgraphs/{pair}")
        sides = [
            np.bincount(side[side >= 0], minlength=int(subgraphs["n_components"]))
            for side in (subgraphs["component_small"], subgraphs["component_large"])
        ]
        expected = Counter(zip(*(side.tolist() for side in sides), strict=True))
        for size, side in (((1, 0), "small"), ((0, 1), "large")):
            if alone := int((subgraphs[f"component_{side}"] < 0).sum()):
                expected[size] = alone
        shown = study.of_pair("tables/components", pair)
        sizes = zip(shown["n_small"], shown["n_large"], strict=True)
        if dict(zip(sizes, shown["count"], strict=True)) != dict(expected):
            yield f"tables/components.csv, {pair}: the counts are not those of the HDF5 file"


def figure13(study: Study) -> Difference:
    for pair in study.pairs():
        effects, active, _ = study.effects(pair)
        shown = study.of_pair("figures/figure13", pair)
        auc = area(effects["delta_mse"][active] < 0, effects["max_cosine"][active])
        columns = {"auc": np.full(len(shown), auc)}
        yield from compare(f"figures/figure13.csv, {pair}", shown, columns, ROUNDING)


def figure14(study: Study) -> Difference:
    names = ("delta_mse", "standard_error", "delta_l0", "n_small", "n_large")
    for pair in study.pairs():
        swaps = study.hdf5(f"stitching/swaps/{pair}")
        shown = study.of_pair("figures/figure14", pair)
        columns = {name: swaps[name] for name in names}
        yield from compare(f"figures/figure14.csv, {pair}", shown, columns)
        columns = {
            "mse_percent": 100 * swaps["delta_mse"] / swaps["mse_small"],
            "l0_percent": 100 * swaps["delta_l0"] / swaps["l0_small"],
        }
        yield from compare(f"figures/figure14.csv, {pair}", shown, columns, ROUNDING)


def figure15(study: Study) -> Difference:
    for pair in study.pairs():
        orders = study.hdf5(f"stitching/random_insertion/{pair}")
        table = study.of_pair("figures/figure15", pair)
        for group in ("novel", "reconstruction"):
            shown = table[table["group"] == group]
            percent = 100 * (orders[group] / orders[group][:, :1] - 1)[:, shown["n_added"]]
            columns = {
                "percent_mean": percent.mean(0),
                "percent_low": percent.min(0),
                "percent_high": percent.max(0),
            }
            yield from compare(f"figures/figure15.csv, {pair}", shown, columns, ROUNDING)


def figure16(study: Study) -> Difference:
    for row in study.csv("figures/figure16").to_dict("records"):
        sides = (row["compared_with"], row["sae"])
        # Of two SAEs of one size, each is in turn the one whose latents are counted.
        turned = not (study.folder / "subgraphs" / f"{'--'.join(sides)}.h5").exists()
        name = "--".join(sides[::-1] if turned else sides)
        subgraphs = study.hdf5(f"subgraphs/{name}")
        matched = subgraphs["component_small" if turned else "component_large"] >= 0
        columns = {"n_reconstruction": [matched.sum()], "share": [matched.mean()]}
        where = f"figures/figure16.csv, {row['sae']} and {row['compared_with']}"
        yield from compare(where, pd.DataFrame([row]), columns)


def figure17(study: Study) -> Difference:
    """Means of ‖x − x̂‖² with another bias, from activations, codes and weights."""
    shards = sorted((study.folder / "activations" / "eval").glob("*.h5"))
    if not shards:  # they were temporary
        return
    x = np.concatenate([h5py.File(path)["activations"][...] for path in shards]).astype(np.float64)
    table = study.csv("figures/figure17")
    for sae, shown in table.groupby("sae"):
        codes, own = study.hdf5(f"codes/{sae}"), study.hdf5(f"saes/{sae}")
        arrays = (codes["values"].astype(np.float64), codes["indices"], codes["indptr"])
        f = csr_array(arrays, shape=(len(x), int(codes["d_sae"])))
        rest = x - f @ own["W_dec"].astype(np.float64)
        biases = [study.hdf5(f"saes/{other}")["b_dec"] for other in shown["bias_of"]]
        columns = {"mse": [np.square(rest - bias).mean() for bias in biases]}
        yield from compare(f"figures/figure17.csv, {sae}", shown, columns, ROUNDING)


def significance(study: Study) -> Difference:
    """Effects that differ from zero, each by itself; and all, whatever their error."""
    for pair in study.pairs():
        effects, active, novel = study.effects(pair)
        table = study.of_pair("tables/significance", pair)
        for test in ("none", "single"):
            shown = table[table["test"] == test]
            with np.errstate(divide="ignore", invalid="ignore"):
                p = 2 * ndtr(-np.abs(effects["delta_mse"]) / effects["standard_error"])
            known = np.where(np.isnan(p), 1.0, p) <= 1 - shown["confidence"].to_numpy()
            certain = active & (known if test == "single" else True)
            lowers = effects["delta_mse"] < 0
            columns: dict[str, Any] = {
                "auc": [area(lowers[certain], effects["max_cosine"][certain])]
            }
            for group, members in (("novel", novel), ("reconstruction", ~novel)):
                columns[f"n_{group}_lower"] = [(members & certain & lowers).sum()]
                columns[f"n_{group}_raise"] = [(members & certain & ~lowers).sum()]
                columns[f"n_{group}_uncertain"] = [(members & active & ~certain).sum()]
            where = f"tables/significance.csv, {pair}, {test}"
            yield from compare(where, shown, columns, ROUNDING)


def orders(study: Study) -> Difference:
    for pair in (
        study.csv("tables/orders")[["small", "large"]].drop_duplicates().agg("--".join, axis=1)
    ):
        found = study.hdf5(f"stitching/orders/{pair}")
        table = study.of_pair("tables/orders", pair)
        for row in table.to_dict("records"):
            where = np.flatnonzero(KINDS[found["kind"]] == row["phase"])
            walks = np.atleast_2d(found[row["order"]])[:, where[0] - 1 : where[-1] + 1]
            columns = {
                "mse_start": [walks[0, 0]],
                "mse_end": [walks[0, -1]],
                "mse_mean": [walks[:, 1:].mean()],
                "mse_lowest": [walks.min(1).mean()],
            }
            name = f"tables/orders.csv, {pair}, {row['phase']}, {row['order']}"
            yield from compare(name, pd.DataFrame([row]), columns, ROUNDING)


def selection(study: Study) -> Difference:
    """Rows of the table against the walks, and the walks' ends against each other."""
    table = study.csv("tables/selection")
    for pair in table[["small", "large"]].drop_duplicates().agg("--".join, axis=1):
        found = study.hdf5(f"stitching/selection/{pair}")
        for row in study.of_pair("tables/selection", pair).to_dict("records"):
            mse, l0 = (found[f"{row['order']}/{name}"] for name in ("mse", "l0"))
            theta = found["n_novel"]
            if row["compared_at"] == "lowest":
                n = int(mse.argmin())
            elif row["compared_at"] == "count" or row["order"] == "cosine":
                n = theta
            else:
                n = int((l0 <= found["cosine/l0"][theta] * (1 + 1e-12)).sum()) - 1
            columns = {"n_inserted": [n], "mse": [mse[n]], "l0": [l0[n]], "mse_small": [mse[0]]}
            name = f"tables/selection.csv, {pair}, {row['compared_at']}, {row['order']}"
            yield from compare(name, pd.DataFrame([row]), columns, ROUNDING)
        ends = [found[f"{order}/mse"][-1] for order in ("cosine", "effect", "greedy")]
        if not np.allclose(ends, ends[0], rtol=1e-8):
            yield f"stitching/selection/{pair}.h5: the orders end at different MSEs"


def stitched(study: Study) -> Difference:
    """Decoder directions against those of the SAEs that they come from, and the table."""
    table = study.csv("tables/stitched")
    shown = study.csv("tables/sae_properties").set_index("sae").loc[table["sae"]]
    columns = {name: shown[name] for name in ("d_sae", "l0", "mse", "stitched_from")}
    yield from compare("tables/stitched.csv", table, columns)
    for sae in table.loc[table["stitched_from"].notna(), "sae"]:
        file = study.hdf5(f"saes/{sae}")
        source = np.char.decode(file["source"].astype(bytes), "utf-8")
        W_dec = np.empty_like(file["W_dec"])
        b_dec = np.zeros(W_dec.shape[1])
        for name in np.unique(source):
            member, rows = study.hdf5(f"saes/{name}"), source == name
            W_dec[rows] = member["W_dec"][file["latent"][rows]]
            b_dec += rows.mean() * member["b_dec"]
        if not np.array_equal(W_dec, file["W_dec"]):
            yield f"saes/{sae}.h5: W_dec is not that of the latents it comes from"
        if not np.allclose(b_dec, file["b_dec"], rtol=1e-5, atol=1e-6):
            yield f"saes/{sae}.h5: b_dec is not the mean over its latents' SAEs (Eq. 5)"


#: Each check, and the table that a study has where there is something to check.
#: The file and the check of each figure and table that has one: the function of its name. Where
#: there is a figure of each pair, the first one's tells whether there are any.
CHECKS = {
    f"{'figures' if result.figure and not result.table else 'tables'}/{result.name}": globals()[
        result.name
    ]
    for result in RESULTS
    if result.name in globals()
}


def checks(study: Study) -> dict[str, Callable[[Study], Difference]]:
    """Those of the figures and tables that the study has."""
    pairs = study.pairs()
    return {
        name: check
        for name, check in CHECKS.items()
        if study.has(name) or (pairs and study.has(f"{name}_{pairs[0]}"))
    }


def differences(study: Study) -> Difference:
    """What is not as the HDF5 files say."""
    for check in checks(study).values():
        yield from check(study)


def main() -> int:
    folders = [Path(name) for name in sys.argv[1:]] or sorted(
        path for path in Path("results").glob("*") if (path / "tables" / "pairs.csv").is_file()
    )
    status = 0
    for folder in folders:
        study = Study(folder)
        found = list(differences(study))
        checked = len(checks(study))
        print(f"{folder}: {len(found) or 'no'} differences in {checked} figures and tables")
        for line in found:
            print(f"  {line}")
        status |= bool(found)
    if not folders:
        print("results/ holds no finished study")
    return status


if __name__ == "__main__":
    sys.exit(main())
