"""The code of this checkout: the hash that a result knows it by, and that no other code runs.

This file is loaded by its path, before the library: by rules/common.smk where jobs are planned and
by job.py in every job.
"""

import ast
import hashlib
import marshal
import os
import sys
import uuid
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import MAGIC_NUMBER, spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

LIBRARY = "sae_stitching"

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class OwnCode(MetaPathFinder, SourceLoader):
    """The scripts of a folder and the library in it, as they were when this was made.

    Once installed, the library is imported from here and from nowhere else: what is run is the
    text that is hashed. Neither an older copy among the installed packages, nor a path, nor
    bytecode that only looks up to date, nor an edit since can come between.

    Parameters
    ----------
    folder
        ``workflow_scripts`` of a checkout.
    kept
        Where what was parsed and compiled is kept, under the hash of the source and of the Python
        that it is of; nowhere by default. To do it anew took a job half a second.
    """

    def __init__(self, folder: Path, kept: Path | None = None) -> None:
        self.folder, self._kept = folder.resolve(), kept
        files = [*self.folder.glob("*.py"), *(self.folder / LIBRARY).rglob("*.py")]
        self._sources = {str(path): path.read_text(encoding="utf-8") for path in sorted(files)}

    def install(self) -> None:
        """Import the library from here from now on.

        Raises
        ------
        ImportError
            If another one has been imported already.
        """
        if strangers := self._loaded() - self._sources.keys():
            raise ImportError(
                f"{min(strangers)} has been imported before this workflow's own "
                f"{self.folder / LIBRARY}; see to it that nothing imports {LIBRARY} as Python "
                "starts (sitecustomize, .pth files)"
            )
        sys.meta_path.insert(0, self)

    def verify(self, script: str, expected: str | None) -> None:
        """Check that a job of a script runs what the script's hash is of, and nothing else.

        Parameters
        ----------
        script
            Name of the script, which is the rule's.
        expected
            Hash of its code when the run began; None where there is none.

        Raises
        ------
        StudyError
            If the code is another one by now, or if modules of the library have been imported
            that the hash does not cover.
        """
        from sae_stitching.base.errors import StudyError

        path = str(self.folder / f"{script}.py")
        # Snakemake runs a copy of the script, with its own lines before.
        running = getattr(sys.modules["__main__"], "__real_file__", None)
        if expected not in (None, self.hash(script)) or not (
            running is None
            or Path(running).read_text(encoding="utf-8").endswith(self._sources[path])
        ):
            raise StudyError(
                f"{path}, or what it imports, was changed after the run began; run again"
            )
        if unknown := self._loaded() - self.covered(script):
            raise StudyError(
                f"{min(unknown)} has been imported, but {path} does not say so in a way that its "
                f"hash could cover; write: from {LIBRARY}.<module> import <name>"
            )

    def hash(self, script: str) -> str:
        """SHA-256 of a script and of all modules of the library that it imports, however deep.

        What is hashed is the syntax tree without docstrings, so that a result does not go stale
        over a comment, and does over any change that can alter it. It is the same whatever Python
        computes it: on a cluster or with conda the job's may be another one than Snakemake's.
        """
        return self._digest(self.covered(script))

    def compiled_hash(self) -> str:
        """SHA-256 of the modules that Numba compiles functions of, and of what they import.

        Numba itself takes compiled code for current if the one file that a function stands in is
        as old and as long as it was, whatever the function calls.
        """
        compilers = {"numba", f"{LIBRARY}.base.compiled"}
        users = [path for path in self._sources if compilers & set(self._parsed(path)[1])]
        return self._digest(self._closure(users))

    def covered(self, script: str) -> set[str]:
        """Paths of the files that a script's hash covers."""
        return self._closure([str(self.folder / f"{script}.py")])

    # What importlib asks of a finder and loader.

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        """Find a module of the library; of others nothing is known here."""
        if fullname.partition(".")[0] != LIBRARY:
            return None
        if file := self._file(fullname):
            return spec_from_file_location(fullname, file, loader=self)
        raise ModuleNotFoundError(f"{self.folder} has no module {fullname}", name=fullname)

    def get_filename(self, fullname: str) -> str:
        """Return the path of a module, packages being known by it."""
        if file := self._file(fullname):
            return file
        raise ImportError(f"{self.folder} has no module {fullname}", name=fullname)

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of a module, compiled from the source that was read."""
        return self._compiled(self.get_filename(fullname))[2]

    def get_data(self, path: str | bytes) -> bytes:
        """Return the source that was read; bytecode there is none."""
        try:
            return self._sources[os.fsdecode(path)].encode()
        except KeyError:
            raise OSError(f"{path}: not read as source") from None

    # Which files, and what they hold.

    def _file(self, module: str) -> str | None:
        base = self.folder.joinpath(*module.split("."))
        choices = (str(base / "__init__.py"), f"{base}.py")
        return next((path for path in choices if path in self._sources), None)

    def _loaded(self) -> set[str]:
        modules = [
            module
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] == LIBRARY
        ]
        # A folder without __init__.py has no file.
        found = (getattr(module, "__file__", None) or str(module) for module in modules)
        return {os.path.realpath(path) for path in found}

    def _closure(self, paths: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            if path not in found:
                found.add(path)
                waiting += self._imported(path)
        return found

    @cache  # noqa: B019, there is one of these, for as long as the process lives
    def _imported(self, path: str) -> set[str]:
        found: set[str] = set()
        for module in self._parsed(path)[1]:
            parts = module.split(".")
            if parts[0] == LIBRARY:
                # Importing a module runs the packages above it first. The last part may be
                # something in a module, too.
                files = (self._file(".".join(parts[:n])) for n in range(1, len(parts) + 1))
                found.update(file for file in files if file)
            elif (beside := f"{os.path.dirname(path)}/{module}.py") in self._sources:
                found.add(beside)
        return found

    def _parsed(self, path: str) -> tuple[bytes, tuple[str, ...]]:
        """Syntax of a file, and the dotted names that it imports."""
        return self._compiled(path)[:2]

    @cache  # noqa: B019
    def _compiled(self, path: str) -> tuple[bytes, tuple[str, ...], CodeType]:
        """Syntax of a file, the dotted names that it imports, and its code."""
        source = self._sources[path]
        if self._kept is None:
            return self._compile(path)
        python = f"{MAGIC_NUMBER.hex()} {sys.flags.optimize} {path}\n"
        kept = self._kept / hashlib.sha256(f"{python}{source}".encode()).hexdigest()
        with suppress(OSError):
            digest, found = (content := kept.read_bytes())[:32], content[32:]
            if hashlib.sha256(found).digest() == digest:
                return marshal.loads(found)
        compiled = self._compile(path)
        # Whatever is in the way of keeping it, it can be compiled again.
        with suppress(OSError):
            found = marshal.dumps(compiled)
            self._kept.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_name(f".{uuid.uuid4().hex}")
            temporary.write_bytes(hashlib.sha256(found).digest() + found)
            temporary.replace(kept)
        return compiled

    def _compile(self, path: str) -> tuple[bytes, tuple[str, ...], CodeType]:
        code = compile(self._sources[path], path, "exec", dont_inherit=True)
        tree = ast.parse(self._sources[path], filename=path)
        names: dict[str, None] = {}
        parents = list(Path(path).relative_to(self.folder).parent.parts)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                above = parents[: len(parents) + 1 - node.level] if node.level else []
                base = ".".join([*above, node.module] if node.module else above)
                # "from sae_stitching.figures import style" may name a module or something in it.
                names |= dict.fromkeys([base, *(f"{base}.{alias.name}" for alias in node.names)])
            elif isinstance(node, ast.Import):
                names |= dict.fromkeys(alias.name for alias in node.names)
            elif isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        words: list[str] = []
        _write(tree, words)
        return " ".join(words).encode(), tuple(names), code

    def _digest(self, paths: Iterable[str]) -> str:
        digest = hashlib.sha256()
        for path in sorted(paths):
            digest.update(f"{path.removeprefix(str(self.folder))}\n".encode())
            digest.update(self._parsed(path)[0])
        return digest.hexdigest()


def _write(value: Any, words: list[str]) -> None:
    """Spell out a syntax tree, as `ast.dump` does, but the same way in every version of Python.

    Fields that are empty are left out: later versions add such to every node.
    """
    if isinstance(value, ast.Constant):
        words.append(repr(value.value))
    elif isinstance(value, ast.AST):
        words.append(type(value).__name__)
        for name, field in ast.iter_fields(value):
            # Whether a name is read or written follows from where it stands.
            if field is not None and field != [] and name != "ctx":
                words.append(name)
                _write(field, words)
        words.append(")")
    elif isinstance(value, list):
        for item in value:
            _write(item, words)
        words.append("]")
    else:
        words.append(repr(value))
