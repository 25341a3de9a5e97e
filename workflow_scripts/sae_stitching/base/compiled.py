"""Functions that Numba compiles, kept for later processes where there is a place for them.

Those of sparse/active.py alone take 10.1 processor seconds to compile and 0.6 to load.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function, as ``numba.njit(cache=True, **options)`` does.

    That one raises where neither the folder of the function nor the home may be written to, as in
    a container or an installation that is shared. Here the function is compiled anew then, by
    each process that calls it.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher: Any = njit(**options)(function)
        with suppress(RuntimeError):
            dispatcher.enable_caching()
        return dispatcher

    return decorate
