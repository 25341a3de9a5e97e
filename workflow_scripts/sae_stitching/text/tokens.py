"""Tokens: documents cut into sequences of the same length, in a training and an eval split."""

import itertools
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import create_record
from sae_stitching.text.sources import check_links, quiet_transformers
from sae_stitching.text.token_file import Tokens

logger = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int32]

_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 1 << 20  # a batch is tokenised once it holds either this or that
_WINDOW_DOCUMENTS = 256  # documents held in memory to be split between train and eval
_BLOCK_TOKENS = 1 << 18  # tokens written at a time, 1 MiB


def write_tokens(
    documents: Iterable[str],
    tokenizer: str,
    path: str | Path,
    *,
    name: str,
    context: int,
    eval_fraction: float,
    max_train_sequences: int | None = None,
    max_eval_sequences: int | None = None,
    seed: int = 0,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Tokenise documents, cut them into sequences and write them as corpus/tokens.h5.

    A sequence is BOS and `context - 1` tokens of one document; the rest of a document that does
    not fill a sequence is dropped. Whole documents go to one split, so that no text of a document
    is both trained on and evaluated. Which ones go to the eval split is drawn at random by `seed`,
    such that its share of the sequences is close to `eval_fraction`.

    Parameters
    ----------
    documents
        Read once, a batch at a time.
    tokenizer
        Model folder.
    path
        Where the file ends up.
    name
        What the file calls the tokenizer.
    context
        Length of a sequence, in tokens, BOS included; at least 2.
    eval_fraction
        Share of the sequences that goes to the eval split, between 0 and 1.
    max_train_sequences, max_eval_sequences
        What comes after that many sequences is left out. Reading stops once both are reached.
    seed
        Of the random split.
    study, provenance
        See `store.write_hdf5`.

    Raises
    ------
    StudyError
        If the tokenizer is missing or has neither BOS nor EOS, or if fewer than two documents
        fill a sequence.
    """
    if context < 2:
        raise StudyError(f"tokens.context: {context}, but BOS and one token of text are 2")
    if not 0 < eval_fraction < 1:
        raise StudyError(f"tokens.eval_fraction: {eval_fraction} is not between 0 and 1")
    loaded = load_tokenizer(tokenizer)
    bos = _bos(loaded, tokenizer)
    limits = {"train": max_train_sequences, "eval": max_eval_sequences}
    count = _Count()
    with create_record(Tokens, path, study=study, provenance=provenance) as file:
        file.attrs["tokenizer"] = name
        file.attrs["context"] = context
        file.attrs["bos"] = bos
        splits = {split: _Split(file, split, context, limits[split]) for split in limits}
        cut = _cut_documents(documents, loaded, context, bos, count)
        for in_eval, index, sequences in _assign(cut, eval_fraction, seed):
            splits["eval" if in_eval else "train"].add(index, sequences)
            if all(split.full for split in splits.values()):
                logger.info("tokenise: both splits are as long as tokens.max_*_sequences")
                break
        for split in splits.values():
            split.flush()
        if not all(split.n_sequences for split in splits.values()):
            raise StudyError(_too_short(count, context))
    for label, split in splits.items():
        logger.info(
            "%s: %s sequences of %d tokens from %s documents",
            label,
            f"{split.n_sequences:,}",
            context,
            f"{split.n_documents:,}",
        )
    logger.info(
        "dropped: %s of %s documents, too short for a sequence; %s of %s tokens, at the ends of "
        "documents",
        f"{count.short_documents:,}",
        f"{count.documents:,}",
        f"{count.dropped_tokens:,}",
        f"{count.tokens:,}",
    )


def load_tokenizer(folder: str) -> Any:
    """Load the tokenizer of a model folder.

    Raises
    ------
    StudyError
        If there is none.
    """
    from transformers import AutoTokenizer

    quiet_transformers()
    check_model_folder(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises nothing more special for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise StudyError(
            f"model.name: {folder}: no tokenizer found in that folder ({reason})"
        ) from error
    # Where the files of a tokenizer are missing, transformers makes one up that knows no word.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise StudyError(
            f"model.name: {folder}: no tokenizer found in that folder (its vocabulary is empty); "
            "add the tokenizer's files"
        )
    return tokenizer


def check_model_folder(folder: str) -> None:
    """Raise a StudyError if there is no such folder, or if what it links to is gone.

    Otherwise transformers asks the hub for it. What comes from there is fetched before, and
    checked, as `hub_folders.fetch_model` does.
    """
    if not Path(folder).is_dir():
        raise StudyError(
            f"model.name: {folder}: no such folder; check the path (a model of the hub is fetched "
            "to a folder first)"
        )
    check_links(folder)


def _bos(tokenizer: Any, name: str) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise StudyError(f"model.name: the tokenizer of {name} has neither a BOS nor an EOS token")


def documents_read(
    documents: Iterable[str],
    tokenizer: str,
    *,
    context: int,
    eval_fraction: float,
    max_train_sequences: int | None = None,
    max_eval_sequences: int | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Yield as many of the documents as `write_tokens` reads, to where both splits are full.

    Parameters
    ----------
    documents, tokenizer, context, eval_fraction, max_train_sequences, max_eval_sequences, seed
        As for `write_tokens`.
    """
    if max_train_sequences is None or max_eval_sequences is None:
        yield from documents
        return
    waiting: list[str] = []

    def noted() -> Iterator[str]:
        for document in documents:
            waiting.append(document)
            yield document

    loaded = load_tokenizer(tokenizer)
    wanted = {False: max_train_sequences, True: max_eval_sequences}
    cut = _cut_documents(noted(), loaded, context, _bos(loaded, tokenizer), _Count())
    for in_eval, _, sequences in _assign(cut, eval_fraction, seed):
        yield from waiting
        waiting.clear()
        wanted[in_eval] -= len(sequences)
        if max(wanted.values()) <= 0:
            return
    yield from waiting


class _Count:
    """What was read and what of it was dropped."""

    def __init__(self) -> None:
        self.documents = self.short_documents = self.tokens = self.dropped_tokens = 0


def _cut_documents(
    documents: Iterable[str], tokenizer: Any, context: int, bos: int, count: _Count
) -> Iterator[tuple[int, IntArray]]:
    """Yield the index and the sequences of every document that fills one or more."""
    index = 0
    next_line = time.monotonic() + 10.0
    for batch in _batches(documents):
        # A text may spell out a special token; it is text all the same.
        encoded = tokenizer(
            batch,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        for ids in encoded:
            n_sequences, n_left = divmod(len(ids), context - 1)
            count.documents += 1
            count.tokens += len(ids)
            count.dropped_tokens += n_left
            if n_sequences:
                sequences = np.full((n_sequences, context), bos, dtype=np.int32)
                text = np.asarray(ids[: n_sequences * (context - 1)], dtype=np.int32)
                sequences[:, 1:] = text.reshape(n_sequences, context - 1)
                yield index, sequences
            else:
                count.short_documents += 1
            index += 1
        if time.monotonic() >= next_line:
            logger.info("tokenise: %s documents, %s tokens", f"{index:,}", f"{count.tokens:,}")
            next_line = time.monotonic() + 10.0


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    n_characters = 0
    for document in documents:
        batch.append(document)
        n_characters += len(document)
        if len(batch) == _BATCH_DOCUMENTS or n_characters >= _BATCH_CHARACTERS:
            yield batch
            batch, n_characters = [], 0
    if batch:
        yield batch


def _assign(
    cut: Iterator[tuple[int, IntArray]], eval_fraction: float, seed: int
) -> Iterator[tuple[bool, int, IntArray]]:
    """Yield every document as (in the eval split?, index, sequences), in their order.

    In every window of documents, taken in random order, a document goes to the eval split if that
    brings the split's share of all sequences so far closer to `eval_fraction`. Were every
    document assigned on its own, one long article more or less would make the eval split of a
    short text twice or half as long.
    """
    rng = np.random.default_rng(seed)
    n_total = n_eval = 0
    while window := list(itertools.islice(cut, _WINDOW_DOCUMENTS)):
        lengths = [len(sequences) for _, sequences in window]
        n_total += sum(lengths)
        target = eval_fraction * n_total
        chosen: set[int] = set()
        for i in rng.permutation(len(window)).tolist():
            closer = abs(n_eval + lengths[i] - target) < abs(n_eval - target)
            if closer and n_eval + lengths[i] < n_total:  # something is left to train on
                n_eval += lengths[i]
                chosen.add(i)
        if not n_eval and len(window) > 1:
            # Every document is long beside the target: the shortest comes nearest to it.
            shortest = lengths.index(min(lengths))
            n_eval += lengths[shortest]
            chosen.add(shortest)
        for i, (index, sequences) in enumerate(window):
            yield i in chosen, index, sequences


def _too_short(count: _Count, context: int) -> str:
    filling = count.documents - count.short_documents
    text = "1 document" if count.documents == 1 else f"{count.documents:,} documents"
    which = "none" if not filling else "only one"
    return (
        f"text: has {text}, of which {which} fills a sequence of {context} tokens; train and eval "
        "need one each: give more or longer documents (text.separator splits a file), "
        "or lower tokens.context"
    )


class _Split:
    """One split of the file, appended to in blocks."""

    def __init__(self, file: h5py.File, name: str, context: int, limit: int | None) -> None:
        rows = max(1, _BLOCK_TOKENS // context)
        options = {"dtype": np.int32}
        self._tokens = file.create_dataset(
            f"{name}/tokens",
            (0, context),
            maxshape=(None, context),
            chunks=(rows, context),
            **options,
        )
        self._document = file.create_dataset(
            f"{name}/document", (0,), maxshape=(None,), chunks=(rows,), **options
        )
        self._rows = rows
        self._limit = limit
        self._blocks: list[tuple[int, IntArray]] = []
        self._waiting = 0
        self.n_sequences = 0
        self.n_documents = 0

    @property
    def full(self) -> bool:
        return self._limit is not None and self.n_sequences >= self._limit

    def add(self, index: int, sequences: IntArray) -> None:
        """Add as many of a document's sequences as there is room for."""
        if self._limit is not None:
            sequences = sequences[: self._limit - self.n_sequences]
        if not len(sequences):
            return
        self._blocks.append((index, sequences))
        self._waiting += len(sequences)
        self.n_sequences += len(sequences)
        self.n_documents += 1
        if self._waiting >= self._rows:
            self.flush()

    def flush(self) -> None:
        if not self._blocks:
            return
        start = self._tokens.shape[0]
        stop = start + self._waiting
        self._tokens.resize(stop, axis=0)
        self._document.resize(stop, axis=0)
        self._tokens[start:stop] = np.concatenate([sequences for _, sequences in self._blocks])
        self._document[start:stop] = np.repeat(
            np.array([index for index, _ in self._blocks], dtype=np.int32),
            [len(sequences) for _, sequences in self._blocks],
        )
        self._blocks, self._waiting = [], 0
