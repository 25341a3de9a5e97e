"""The command ``sae-stitching``."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from sae_stitching.base.errors import StudyError
from sae_stitching.command import listing, new_study
from sae_stitching.formats.registry import PIN, Registry, read_registry


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; it ends with status 1 and one line where something is wrong.

    Parameters
    ----------
    arguments
        What follows the command's name; by default those of this process.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options.run(options)
        sys.stdout.flush()
    except StudyError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        # Of a pager that was closed, or head; Python would complain of it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sae-stitching", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    cached = argparse.ArgumentParser(add_help=False)
    cached.add_argument(
        "--cache",
        default="cache",
        metavar="FOLDER",
        help="where the registry is kept, as the config's key cache (default: cache)",
    )

    saes = commands.add_parser(
        "saes",
        parents=[cached],
        help="search SAELens's registry for SAEs that can be stitched",
        description=(
            "Search SAELens's registry of published SAEs: which there are for one place of a "
            "model, and of how many latents. Parts of names will do, in any case."
        ),
    )
    saes.add_argument("model", nargs="?", default="", help="name of a model, or a part of it")
    saes.add_argument("--hook", default="", help="place in the model, such as blocks.12.hook_resid")
    saes.add_argument("--release", default="", help="release of SAELens")
    saes.add_argument(
        "--widths",
        type=_at_least,
        default=1,
        metavar="N+",
        help="places with SAEs of so many widths at least, such as 2+",
    )
    saes.add_argument(
        "--all", action="store_true", help="also what cannot be read, such as transcoders"
    )
    saes.add_argument(
        "--yaml", action="store_true", help="as entries of a config's saes, one of each width"
    )
    saes.add_argument("--l0", type=float, help="with --yaml: take those of an L0 near this")
    saes.set_defaults(run=_list)

    init = commands.add_parser(
        "init",
        parents=[cached],
        help="write the config of a study of published SAEs",
        description=(
            "Write the config of a study of published SAEs: its file, to be given to snakemake as "
            "--configfile."
        ),
    )
    init.add_argument("file", help="the config to write, such as gemma.yaml; must not be there yet")
    init.add_argument(
        "saes",
        nargs="+",
        metavar="RELEASE:SAE_ID",
        help="SAEs as SAELens names them; an id with * stands for one of each width",
    )
    init.add_argument("--l0", type=float, help="of several SAEs of a width, one of an L0 near this")
    init.set_defaults(run=_write)
    return parser


def _at_least(text: str) -> int:
    return int(text.removesuffix("+"))


def _registry(options: argparse.Namespace) -> Registry:
    return read_registry(PIN, options.cache)


def _list(options: argparse.Namespace) -> None:
    found = _registry(options).search(
        options.model,
        hook=options.hook,
        release=options.release,
        n_widths=options.widths,
        readable=not options.all,
    )
    if not found:
        raise StudyError(
            "nothing like that is in SAELens's registry; give less of the names, or look at all: "
            "sae-stitching saes"
        )
    lines = listing.as_yaml(found, options.l0) if options.yaml else listing.as_text(found)
    for line in lines:
        print(line)


def _write(options: argparse.Namespace) -> None:
    text = new_study.config_text(options.file, options.saes, _registry(options), l0=options.l0)
    new_study.write_new(options.file, text)
    print(f"{options.file}: written. Run it with")
    print(f"  snakemake --cores all --configfile {options.file}")
