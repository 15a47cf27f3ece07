"""Philox4x32-10 (Salmon et al., 2011) in NumPy, and the draws that math/rng.h promises to masks."""

import numpy as np

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox(key, counter):
    """Ten rounds: key of 2 words and counter of 4, arrays or numbers below 2^32."""
    k0, k1 = (int(word) for word in key)
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (b >> HALF) ^ c1 ^ np.uint64(k0),
            b & LOW,
            (a >> HALF) ^ c3 ^ np.uint64(k1),
            a & LOW,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def mask_draws(seed, step, stream, positions):
    """32 random bits for each position of a mask."""
    positions = np.asarray(positions, np.uint64)
    block = positions // 64 * 16 + positions % 16
    counter = (
        block & LOW,
        block >> HALF | np.uint64(step // 2**31 % 2**16 * 2**16),
        stream,
        2**31 + step % 2**31,
    )
    words = np.stack(np.broadcast_arrays(*philox((seed % 2**32, seed // 2**32), counter)))
    return np.take_along_axis(words, (positions // 16 % 4)[None].astype(int), 0)[0]
