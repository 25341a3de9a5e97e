"""Activation shards read in order, and shuffled into batches."""

import signal
import tempfile
import tracemalloc
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.shards import HOOK, counting, write_shard, write_shards
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sae_stitching.activations.shards import ActivationShards, ShuffledBatches
from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import read_hdf5

RUN = 64  # tokens that are read together

lengths = st.lists(st.integers(1, 90), min_size=1, max_size=5)


def tokens(batch):
    """Numbers of the tokens of a batch of `counting` activations."""
    numbers = batch[:, 0].long()
    assert torch.equal(batch, numbers[:, None] + torch.arange(batch.shape[1]) / 8)
    return numbers


def first_batches(batches, n):
    return [tokens(batch) for batch in islice(iter(batches), n)]


@settings(max_examples=40, deadline=None)
@given(
    lengths=lengths,
    context=st.integers(1, 20),
    n_tokens=st.integers(1, 200),
)
@example([1], 1, 1)
@example([16, 16], 16, 1000)
def test_blocks_are_whole_sequences_in_order(lengths, context, n_tokens):
    with tempfile.TemporaryDirectory() as folder:
        x = counting(sum(lengths))
        shards = write_shards(Path(folder), x, lengths, context=context)
        assert (shards.n_tokens, shards.d_model, shards.hook) == (len(x), 3, HOOK)
        blocks = list(shards.blocks(n_tokens))
    assert torch.equal(torch.cat([block.activations for block in blocks]), x)
    start = 0
    for block in blocks:
        assert block.start == start
        assert len(block.sequence) == len(block.activations) > 0
        # No more whole sequences than it takes to reach n_tokens.
        assert len(block.sequence) < n_tokens + context
        start += len(block.activations)
    sequence = torch.cat([block.sequence for block in blocks])
    ends = torch.tensor([block.start for block in blocks[1:]], dtype=torch.int64)
    assert bool((sequence[ends] != sequence[ends - 1]).all())
    assert sequence.dtype == torch.int64
    assert bool((sequence.diff() >= 0).all())
    # A block is short of n_tokens only at the end of a shard.
    shard_ends = set(np.cumsum(lengths).tolist())
    for block in blocks:
        end = block.start + len(block.activations)
        assert len(block.activations) >= n_tokens or end in shard_ends


def test_stored_float16_is_read_as_float32(tmp_path):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    path = write_shard(tmp_path / "0.h5", x.numpy(), np.arange(20) // 5, dtype="float16")
    shards = ActivationShards([path])
    (block,) = shards.blocks()
    assert block.activations.dtype == torch.float32
    assert torch.equal(block.activations, x.half().float())
    batch = next(iter(ShuffledBatches(shards, 20, 20, 0)))
    assert batch.dtype == torch.float32
    assert torch.equal(batch.sort(0).values, x.half().float().sort(0).values)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"hook": "blocks.2.hook_resid_pre"}, "blocks.2.hook_resid_pre"),
        ({"model": "other"}, "other"),
        # A branch that moved between two jobs: one name, two models.
        ({"provenance": {"hub": [{"repo": "somebody/lm", "commit": "b" * 40}]}}, "lm at bbbb"),
    ],
)
def test_shards_of_different_origin_are_an_error(tmp_path, change, found):
    x = counting(8)
    paths = [
        write_shard(tmp_path / "0.h5", x, np.zeros(8)),
        write_shard(tmp_path / "1.h5", x, np.ones(8), **change),
    ]
    with pytest.raises(StudyError, match=rf"1\.h5: activations of .*{found}.*0\.h5 has") as error:
        ActivationShards(paths)
    assert "\n" not in str(error.value)


def test_shards_of_different_d_model_are_an_error(tmp_path):
    paths = [
        write_shard(tmp_path / "0.h5", counting(8, 3), np.zeros(8)),
        write_shard(tmp_path / "1.h5", counting(8, 4), np.ones(8)),
    ]
    with pytest.raises(StudyError, match="activations of"):
        ActivationShards(paths)


def test_a_shard_of_another_study_is_an_error(tmp_path):
    path = write_shard(tmp_path / "0.h5", counting(8), np.zeros(8))
    with pytest.raises(StudyError, match="belongs to study 'test', expected 'other'"):
        ActivationShards([path], study="other")


@settings(max_examples=30, deadline=None)
@given(
    runs=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    batch_size=st.integers(1, 64),
    buffer_size=st.integers(1, 500),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_epoch_visits_a_token_at_most_once(runs, batch_size, buffer_size, seed):
    n_runs = sum(runs)
    with tempfile.TemporaryDirectory() as folder:
        lengths = [RUN * n for n in runs]
        shards = write_shards(Path(folder), counting(sum(lengths)), lengths)
        batches = ShuffledBatches(shards, batch_size, buffer_size, seed)
        # Buffers hold whole runs; what does not fill a batch or a buffer is left out.
        per_buffer = min(-(-max(buffer_size, batch_size) // RUN), n_runs)
        n_batches = n_runs // per_buffer * (per_buffer * RUN // batch_size)
        seen = first_batches(batches, 2 * n_batches)
    for epoch in (seen[:n_batches], seen[n_batches:]):
        assert all(len(batch) == batch_size for batch in epoch)
        visited = torch.cat(epoch)
        assert len(visited.unique()) == len(visited)
        # Of a buffer less than a batch is left out, of an epoch less than a buffer.
        n_buffers = n_runs // per_buffer
        left_out = shards.n_tokens - len(visited)
        assert left_out < n_buffers * batch_size + per_buffer * RUN


def test_an_epoch_visits_nearly_all_tokens_and_epochs_differ(tmp_path):
    shards = write_shards(tmp_path, counting(48 * RUN), [16 * RUN, 24 * RUN, 8 * RUN])
    # Six buffers of 512 tokens, from each of which eight batches of 60 are taken.
    seen = first_batches(ShuffledBatches(shards, 60, 8 * RUN, 0), 2 * 48)
    first, second = torch.cat(seen[:48]), torch.cat(seen[48:])
    for epoch in (first, second):
        assert len(epoch.unique()) == len(epoch) > 0.9 * shards.n_tokens
    assert not torch.equal(first, second)
    assert len(torch.cat(seen).unique()) > 0.99 * shards.n_tokens


def test_all_tokens_in_one_buffer_are_an_epoch(tmp_path):
    shards = write_shards(tmp_path, counting(1000), [300, 700])
    seen = first_batches(ShuffledBatches(shards, 100, 10**9, 3), 20)
    first, second = torch.cat(seen[:10]), torch.cat(seen[10:])
    for epoch in (first, second):
        assert torch.equal(epoch.sort().values, torch.arange(1000))
    assert not torch.equal(first, second)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(40, 200), min_size=1, max_size=4),
    batch_size=st.integers(1, 40),
    buffer_size=st.integers(40, 300),
    batch=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_batch_depends_on_the_seed_and_its_number_alone(
    lengths, batch_size, buffer_size, batch, seed
):
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder), counting(sum(lengths)), lengths)
        batches = ShuffledBatches(shards, batch_size, buffer_size, seed)
        in_order = first_batches(batches, batch + 3)
        again = ShuffledBatches(ActivationShards(shards.paths), batch_size, buffer_size, seed)
        taken_up = [tokens(x) for x in islice(again.starting_at(batch), 3)]
    for expected, found in zip(in_order[batch:], taken_up, strict=True):
        assert torch.equal(expected, found)


def test_another_seed_gives_another_order(tmp_path):
    shards = write_shards(tmp_path, counting(640), [320, 320])
    one, other = (first_batches(ShuffledBatches(shards, 64, 320, seed), 5) for seed in (0, 1))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_batches_mix_the_shards(tmp_path):
    lengths = [1280] * 4
    shards = write_shards(tmp_path, counting(sum(lengths)), lengths)
    bounds = torch.tensor([0, *np.cumsum(lengths)])
    for batch in first_batches(ShuffledBatches(shards, 256, 2560, 0), 20):
        shares = torch.histogram(batch.float(), bounds.float()).hist / len(batch)
        assert bool((shares > 0.05).all())
        # Neighbours in the file are not neighbours in the batch.
        assert (batch.diff() == 1).float().mean() < 0.05


def test_a_buffer_bounds_the_runs_and_the_memory(tmp_path):
    n_tokens, d_model = 64 * 1000, 32
    shards = write_shards(tmp_path, counting(n_tokens, d_model), [n_tokens // 2] * 2)
    batches = ShuffledBatches(shards, 64, 64 * 20, 0)
    tracemalloc.start()
    try:
        stream = iter(batches)
        buffers = [[tokens(next(stream)) for _ in range(20)] for _ in range(3)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for buffer in buffers:
        assert len((torch.cat(buffer) // RUN).unique()) == 20
    assert peak < 8 * 4 * 64 * 20 * d_model < 4 * n_tokens * d_model / 4


def test_fewer_tokens_than_a_batch_are_an_error(tmp_path):
    shards = write_shards(tmp_path, counting(20), [12, 8])
    with pytest.raises(StudyError, match=r"training\.batch_size: 21 tokens a batch.* only 20"):
        ShuffledBatches(shards, 21, 1000, 0)


@contextmanager
def within(seconds):
    """Fail, rather than wait for ever, where no batch comes."""

    def fail(*_):
        pytest.fail(f"no batch within {seconds} s")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize(
    ("lengths", "batch_size"),
    [([12, 8], 20), ([65, 65], 130), ([10] * 10, 64), ([70, 3, 70], 100), ([1] * 8, 3)],
)
def test_shards_that_end_in_short_runs_still_fill_a_batch(tmp_path, lengths, batch_size):
    shards = write_shards(tmp_path, counting(sum(lengths)), lengths)
    with within(3.0):
        batches = first_batches(ShuffledBatches(shards, batch_size, batch_size, 0), 6)
    for batch in batches:
        assert len(batch.unique()) == len(batch) == batch_size
    assert len(torch.cat(batches).unique()) > 0.8 * sum(lengths)


def read_ahead(batches, monkeypatch):
    """Let a thread read ahead as for a GPU, but leave the batches where they are."""
    monkeypatch.setattr(batches, "_copying", "a stream")
    monkeypatch.setattr(batches, "_moved", lambda tensor: tensor)


def test_a_thread_that_reads_ahead_changes_nothing(tmp_path, monkeypatch):
    shards = write_shards(tmp_path, counting(700), [300, 250, 150])
    plain = [batch.clone() for batch in islice(ShuffledBatches(shards, 64, 128, 0), 30)]
    batches = ShuffledBatches(shards, 64, 128, 0)
    read_ahead(batches, monkeypatch)
    for start in (0, 7):
        with closing(batches.starting_at(start)) as ahead:
            for expected, found in zip(plain[start:], ahead, strict=False):
                assert torch.equal(expected, found)


def test_an_error_of_a_thread_that_reads_ahead_arrives(tmp_path, monkeypatch):
    shards = write_shards(tmp_path, counting(300), [300])
    batches = ShuffledBatches(shards, 64, 128, 0)
    read_ahead(batches, monkeypatch)
    damage(shards.paths[0], counting(300)[200])
    with pytest.raises(StudyError, match=r"0\.h5: activations cannot be read, the file is damaged"):
        list(islice(batches, 20))


def damage(path, row):
    """Change one bit of a row of activations where it is stored."""
    content = bytearray(path.read_bytes())
    place = content.find(row.numpy().astype("<f4").tobytes())
    assert place > 0
    content[place] ^= 1
    path.write_bytes(content)


def test_a_damaged_row_is_found(tmp_path):
    shards = write_shards(tmp_path, counting(300), [300])
    damage(shards.paths[0], counting(300)[299])
    with pytest.raises(StudyError, match=r"0\.h5: activations cannot be read, the file is damaged"):
        list(islice(ShuffledBatches(shards, 64, 128, 0), 20))


def test_shards_of_two_precisions_are_an_error(tmp_path):
    x, sequence = counting(128), np.arange(128) // 16
    paths = [write_shard(tmp_path / "0.h5", x, sequence)]
    paths.append(write_shard(tmp_path / "1.h5", x, sequence + 8, dtype="float16"))
    with pytest.raises(StudyError, match=r"1\.h5: .* \(stored as float16, expected float32\)"):
        next(iter(ShuffledBatches(ActivationShards(paths), 256, 256, 0)))


@pytest.mark.parametrize(
    "options", [{"chunks": (32, 3)}, {"compression": "gzip"}, {"fletcher32": False}]
)
def test_shards_stored_otherwise_are_an_error(tmp_path, options):
    shards = write_shards(tmp_path, counting(100), [100])
    with h5py.File(shards.paths[0], "a") as file:
        x = file["activations"][:]
        del file["activations"]
        stored = {"chunks": (64, 3), "fletcher32": True, **options}
        file.create_dataset("activations", data=x, **stored)
    with pytest.raises(StudyError, match=r"0\.h5: activations in chunks of .*\(64, 3\) with check"):
        next(iter(ShuffledBatches(shards, 64, 64, 0)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_chunks_are_what_hdf5_reads(tmp_path, dtype):
    """The plain way to the rows of a shard is to slice its dataset."""
    x = np.random.default_rng(0).normal(size=(5 * RUN + 7, 6))
    path = write_shard(tmp_path / "0.h5", x, np.arange(len(x)) // 5, dtype=dtype)
    firsts, places = np.array([320, 0, 192]), np.array([1, 3, 0])  # the last chunk is not full
    into = np.zeros((4, RUN, 6), dtype)
    with read_hdf5(path, format="activations") as file:
        file["activations"].read_chunks(firsts, into, places)
    with h5py.File(path) as plain:
        for first, place in zip(firsts, places, strict=True):
            rows = plain["activations"][first : first + RUN]
            assert np.array_equal(into[place, : len(rows)], rows)
    assert not into[2].any()  # no place of theirs
