"""HDF5's checksum of chunks, computed without Python's lock.

numcodecs has this checksum too, but holds the lock, divides at every word, and writes a sum that is
a multiple of 65535 otherwise than HDF5.
"""

import numpy as np

from sae_stitching.base.compiled import compiled


@compiled(nogil=True)
def first_damaged(words, places, checksums):
    """First of the chunks ``words[places[n]]`` whose checksum is not ``checksums[n]``, or −1.

    Parameters
    ----------
    words : (place, word) uint16
        Contents, in the machine's order of bytes.
    places : (n) int
    checksums : (n) uint32
    """
    for n in range(len(places)):
        if _fletcher32(words[places[n]]) != checksums[n]:
            return n
    return -1


@compiled(nogil=True)
def _fletcher32(words):
    # Sums modulo 65535, of the words read as big-endian: to swap the bytes of a word is to multiply
    # it by 256 modulo 65535, and so for their sum.
    first, second = np.uint64(0), np.uint64(0)
    for word in words:
        first += np.uint64(word)
        second += first
    return (_folded(second) << np.uint32(16)) | _folded(first)


@compiled(nogil=True)
def _folded(total):
    # Of a sum that is not zero, 65535 stands for zero.
    rest = (total % np.uint64(65535)) * np.uint64(256) % np.uint64(65535)
    return np.uint32(65535 if rest == 0 and total != 0 else rest)
