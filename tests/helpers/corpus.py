"""corpus/tokens.h5 from arrays, as `tokens.write_tokens` writes it."""

from pathlib import Path

import numpy as np
from sae_stitching.base.record import write_record
from sae_stitching.text.token_file import Split, Tokens


def write_corpus(path, *, study="test", train=None, eval=None, document=None) -> Path:
    """Write tokens (sequence, context); a split that is not given is the other one."""
    splits = [eval if train is None else train, train if eval is None else eval]
    made = []
    for tokens in splits:
        of = np.zeros(len(tokens)) if document is None else document
        made.append(Split(np.asarray(tokens, np.int32), np.asarray(of, np.int32)))
    write_record(Tokens("fake", len(made[0].tokens[0]), 0, *made), path, study=study, provenance={})
    return Path(path)
