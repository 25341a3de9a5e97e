"""Names of pairs of SAEs, in configs and in file names."""

#: Stands between the two SAEs' names.
PAIR_SEPARATOR = "--"


def pair_name(small: str, large: str) -> str:
    """Name of a pair of SAEs in file names: ``<small>--<large>``."""
    return f"{small}{PAIR_SEPARATOR}{large}"


def split_pair_name(name: str) -> tuple[str, str]:
    """Names of the smaller and the larger SAE of a pair, see `pair_name`."""
    small, large = name.split(PAIR_SEPARATOR)
    return small, large
