"""Recompute the numbers of a study's figures and tables from its HDF5 files, and compare.

    python tests/check_results.py results/<study> ...

Without arguments all studies in results/ are checked. The numbers are computed here once more,
by definition and without the code that wrote them. Ends with status 1 if anything differs.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

KINDS = np.array(["start", "insert", "swap", "drop"])


def read(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        return {**{name: file[name][...] for name in file}, **file.attrs}


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"sae": str, "small": str, "large": str})


def area(positive: np.ndarray, cosine: np.ndarray) -> float:
    """Share of pairs in which the latent that lowers the MSE has the lower cosine."""
    a, b = np.sort(cosine[positive]), np.sort(cosine[~positive])
    if not len(a) or not len(b):
        return float("nan")
    below, upto = np.searchsorted(a, b, "left"), np.searchsorted(a, b, "right")
    return float((below + upto).sum() / 2 / len(a) / len(b))


def differences(study: Path) -> Iterator[str]:
    """What is not as the HDF5 files say; the number of comparisons at the end of each file."""
    rows = {
        f"{row['small']}--{row['large']}": row
        for row in table(study / "tables" / "pairs.csv").to_dict("records")
    }
    for pair, row in rows.items():
        effects = read(study / "stitching" / "insertions" / f"{pair}.h5")
        subgraphs = read(study / "subgraphs" / f"{pair}.h5")
        swaps = read(study / "stitching" / "swaps" / f"{pair}.h5")
        active = effects["n_active"] > 0
        cosine, delta = effects["max_cosine"], effects["delta_mse"]
        novel = cosine < np.float32(subgraphs["threshold"])
        median = float(np.median(swaps["delta_mse"])) if len(swaps["delta_mse"]) else np.nan
        expected = {
            "theta": subgraphs["threshold"],
            "n_novel": novel.sum(),
            "n_reconstruction": (~novel).sum(),
            "n_components": len(set(subgraphs["component_large"].tolist()) - {-1}),
            "n_unmatched_small": (subgraphs["component_small"] < 0).sum(),
            "auc": area(delta[active] < 0, cosine[active]),
            "mse_small": effects["mse_small"],
            "mse_large": effects["mse_large"],
            "n_never_active": (~active).sum(),
            "median_swap_delta_mse": median,
        }
        for name, value in expected.items():
            if not np.isclose(row[name], value, rtol=1e-9, atol=0, equal_nan=True):
                yield f"tables/pairs.csv: {name} of {pair} is {row[name]}, not {value}"

        shown = table(study / "figures" / f"figure4_{pair}.csv")
        columns = {name: effects[name][active] for name in ("delta_mse", "standard_error")}
        columns |= {"latent": np.flatnonzero(active), "max_cosine": cosine[active]}
        columns["group"] = np.where(novel[active], "novel", "reconstruction")
        yield from compare(shown, columns, f"figures/figure4_{pair}.csv")

    curves = table(study / "figures" / "figure13.csv")
    for (small, large), rows_of in curves.groupby(["small", "large"]):
        found = rows_of["auc"].to_numpy()
        expected = np.full(len(found), rows[f"{small}--{large}"]["auc"])
        if not np.allclose(found, expected, rtol=1e-12, atol=0, equal_nan=True):
            yield f"figures/figure13.csv: the AUC of {small}--{large} is not that of the table"

    steps = study / "stitching" / "transition.h5"
    if (study / "figures" / "figure5.csv").exists():
        shown = table(study / "figures" / "figure5.csv")
        with h5py.File(steps) as file:
            for name in map(str, file.attrs["steps"]):
                part = shown[shown["small"] + "--" + shown["large"] == name]
                columns = {key: file[f"{name}/{key}"][...] for key in ("n_latents", "mse", "l0")}
                columns["kind"] = KINDS[file[f"{name}/kind"][...]]
                yield from compare(part, columns, f"figures/figure5.csv, {name}")

    for row in table(study / "tables" / "sae_properties.csv").to_dict("records"):
        codes = read(study / "codes" / f"{row['sae']}.h5")
        l0 = codes["indptr"][-1] / (len(codes["indptr"]) - 1)
        live = len(np.unique(codes["indices"]))
        if not np.isclose(row["l0"], l0, rtol=1e-12) or row["n_live"] != live:
            yield f"tables/sae_properties.csv: L0 or live latents of {row['sae']} are others"


def compare(shown: pd.DataFrame, columns: dict[str, np.ndarray], name: str) -> Iterator[str]:
    for column, values in columns.items():
        found = shown[column].to_numpy()
        equal = len(found) == len(values) and (
            (found.astype(values.dtype) == values)
            | (pd.isna(found) & pd.isna(values))  # what is undefined is empty
        )
        if not np.all(equal):
            yield f"{name}: {column} is not that of the HDF5 file"


def main() -> int:
    studies = [Path(name) for name in sys.argv[1:]] or sorted(
        path for path in Path("results").glob("*") if (path / "tables" / "pairs.csv").is_file()
    )
    status = 0
    for study in studies:
        found = list(differences(study))
        print(f"{study}: {len(found)} differences" if found else f"{study}: as its HDF5 files say")
        for line in found:
            print(f"  {line}")
        status |= bool(found)
    if not studies:
        print("results/ holds no finished study")
    return status


if __name__ == "__main__":
    sys.exit(main())
