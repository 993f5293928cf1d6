"""Counter-based random streams: one per (episode, source), all episodes of a batch at once.

A value is a hash of (episode key, source, index), so an episode's draws depend on its own seed only:
not on the batch it runs in, not on the actions, not on how much another source has drawn.
The hash is SplitMix64's finaliser (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195).
"""

from __future__ import annotations

import zlib
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from .compiling import COMPILED, compiled

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11, _S40 = (np.uint64(s) for s in (30, 27, 31, 11, 40))
TWO_PI = np.float32(2.0 * np.pi)
_NORMAL_SIZE = 1 << 16


def _normal_quantiles() -> npt.NDArray[np.float32]:
    table = np.array([NormalDist().inv_cdf((i + 0.5) / _NORMAL_SIZE) for i in range(_NORMAL_SIZE)])
    return (table / table.std()).astype(np.float32)


_NORMAL_TABLE = _normal_quantiles()


def mix64(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit words in place (SplitMix64 finaliser) and return them."""
    scratch = x >> _S30
    x ^= scratch
    x *= _M1
    np.right_shift(x, _S27, out=scratch)
    x ^= scratch
    x *= _M2
    np.right_shift(x, _S31, out=scratch)
    x ^= scratch
    return x


def episode_keys(seeds: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Turn episode seeds (B,) of any non-negative integers into well-spread 64-bit keys (B,)."""
    return mix64(np.array(seeds, dtype=np.uint64, ndmin=1) * GOLDEN + GOLDEN)


def salt(name: str) -> np.uint64:
    """A well-spread 64-bit word for a name."""
    return np.uint64((zlib.crc32(name.encode()) + 1) * int(GOLDEN) & 0xFFFFFFFFFFFFFFFF)


@compiled
def _fill_words(
    keys: npt.NDArray[np.uint64], index: npt.NDArray[np.uint64], out: npt.NDArray[np.uint64]
) -> None:
    """`mix64` of every index and key into ``out`` (N, B) in one pass; only ever run compiled."""
    for n in range(index.size):
        for b in range(keys.size):
            x = index[n] + keys[b]
            x = (x ^ (x >> _S30)) * _M1
            x = (x ^ (x >> _S27)) * _M2
            out[n, b] = x ^ (x >> _S31)


@compiled
def _fill_halves(
    keys: npt.NDArray[np.uint64],
    index: npt.NDArray[np.uint64],
    unused: np.uint64,
    out: npt.NDArray[np.uint32],
) -> None:
    """The upper bits of the halves of each word, lower half first, into ``out`` (N, P, B); only ever run compiled."""
    count = out.shape[1]
    pairs = (count + 1) // 2
    unwanted = np.empty(keys.size, np.uint32)
    for n in range(out.shape[0]):
        for j in range(count // 2):
            _fill_both(keys, index[n * pairs + j], unused, out[n, 2 * j], out[n, 2 * j + 1])
        if count % 2 == 1:
            _fill_both(keys, index[n * pairs + pairs - 1], unused, out[n, count - 1], unwanted)


@compiled
def _fill_both(
    keys: npt.NDArray[np.uint64],
    index: np.uint64,
    unused: np.uint64,
    lower: npt.NDArray[np.uint32],
    upper: npt.NDArray[np.uint32],
) -> None:
    """One index of `_fill_halves`, apart from it so that the compiler takes eight keys at once."""
    shift, mask = np.uint64(32) + unused, np.uint64(0xFFFFFFFF) >> unused
    for b in range(keys.size):
        x = index + keys[b]
        x = (x ^ (x >> _S30)) * _M1
        x = (x ^ (x >> _S27)) * _M2
        x = x ^ (x >> _S31)
        upper[b] = np.uint32(x >> shift)
        lower[b] = np.uint32((x >> unused) & mask)


@compiled
def _look_up(
    table: npt.NDArray[np.float32], words: npt.NDArray[np.uint64], out: npt.NDArray[np.float32]
) -> None:
    """Table entries of quarters of each word (N, B) into ``out`` (up to 4, N, B); only ever run compiled."""
    for n in range(words.shape[0]):
        for i in range(out.shape[0]):
            shift = np.uint64(16 * i)
            for b in range(words.shape[1]):
                out[i, n, b] = table[(words[n, b] >> shift) & np.uint64(0xFFFF)]


@compiled
def _middles(words: npt.NDArray[np.uint64], out: npt.NDArray[np.float32]) -> None:
    """Quarters of each word (N / 4, B) as uniforms (N, B); only ever run compiled."""
    for n in range(out.shape[0]):
        shift = np.uint64(16 * (n % 4))
        for b in range(out.shape[1]):
            quarter = (words[n // 4, b] >> shift) & np.uint64(0xFFFF)
            out[n, b] = (np.float32(quarter) + np.float32(0.5)) * np.float32(2.0**-16)


class Stream:
    """The draws of one source for a batch of episodes.

    Args:
        keys: episode keys (B,), from `episode_keys`.
        source: name of the source ("arrivals", "link:uplink", ...); other names give independent draws.
    """

    def __init__(self, keys: npt.NDArray[np.uint64], source: str) -> None:
        """Derive this source's keys and start counting at zero."""
        # An array, because NumPy warns when a scalar wraps around (wanted here), not when an array does.
        salt = np.array([zlib.crc32(source.encode()) + 1], dtype=np.uint64)
        self.keys = mix64(keys ^ (salt * GOLDEN))
        self._drawn = 0

    def words(self, *shape: int) -> npt.NDArray[np.uint64]:
        """Draw fresh 64-bit words of shape (*shape, B)."""
        n = int(np.prod(shape, dtype=np.int64)) if shape else 1
        index = np.arange(self._drawn + 1, self._drawn + 1 + n, dtype=np.uint64) * GOLDEN
        self._drawn += n
        if not COMPILED:
            return mix64(index[:, None] + self.keys).reshape(*shape, self.keys.size)
        words = np.empty((n, self.keys.size), dtype=np.uint64)
        _fill_words(self.keys, index, words)
        return words.reshape(*shape, self.keys.size)

    def halves(
        self, rows: int, columns: int, bits: int, out: npt.NDArray[np.uint32] | None = None
    ) -> npt.NDArray[np.uint32]:
        """Draw numbers of ``bits`` (at most 32) bits (rows, columns, B); two neighbours share a 64-bit word."""
        pairs, unused = -(-columns // 2), 32 - bits
        if out is None:
            out = np.empty((rows, columns, self.keys.size), dtype=np.uint32)
        if COMPILED:
            index = np.arange(self._drawn + 1, self._drawn + 1 + rows * pairs, dtype=np.uint64) * GOLDEN
            self._drawn += rows * pairs
            _fill_halves(self.keys, index, np.uint64(unused), out)
            return out
        words = self.words(rows, pairs)
        both = words.view(np.uint32).reshape(*words.shape, 2)
        for c in range(columns):
            np.right_shift(both[:, c // 2, :, c % 2], np.uint32(unused), out=out[:, c])
        return out

    def uniform(self, *shape: int) -> npt.NDArray[np.float32]:
        """Draw float32 uniforms in [0, 1) of shape (*shape, B)."""
        # 24 bits fill a float32's mantissa exactly, so 1.0 cannot come out.
        return (self.words(*shape) >> _S40).astype(np.float32) * np.float32(2.0**-24)

    def normal(self, *shape: int) -> npt.NDArray[np.float32]:
        """Draw float32 standard normals of shape (*shape, B) (Box and Muller 1958, one of the pair)."""
        words = self.words(*shape)
        first = ((words >> _S40).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
        second = (words & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)
        return np.sqrt(np.float32(-2.0) * np.log(first)) * np.cos(TWO_PI * second)

    def four_normals(self, *shape: int, used: int = 4) -> npt.NDArray[np.float32]:
        """Draw four standard normals a cell from one word: 16-bit quantiles, cut at 4.2 sigma.

        Returns:
            the first ``used`` of the four (used, *shape, B).
        """
        words = self.words(*shape)
        out = np.empty((used, *words.shape), dtype=np.float32)
        if COMPILED:
            flat = words.reshape(-1, self.keys.size)
            _look_up(_NORMAL_TABLE, flat, out.reshape(used, *flat.shape))
            return out
        quarters = words.view(np.uint16).reshape(*words.shape, 4)
        for i in range(used):
            np.take(_NORMAL_TABLE, quarters[..., i], out=out[i], mode="clip")
        return out

    def cheap_normals(self, rows: int) -> npt.NDArray[np.float32]:
        """Draw standard normals (rows, B), four to a word, for long columns of noise."""
        out = np.empty((-(-rows // 4), 4, self.keys.size), dtype=np.float32)
        if COMPILED:
            _look_up(_NORMAL_TABLE, self.words(out.shape[0]), out.swapaxes(0, 1))
        else:
            np.take(_NORMAL_TABLE, self._quarters(rows), out=out, mode="clip")
        return out.reshape(-1, self.keys.size)[:rows]

    def cheap_uniforms(self, rows: int) -> npt.NDArray[np.float32]:
        """Draw uniforms (rows, B) on a grid of 65,536, four to a word, for long columns of noise."""
        if COMPILED:
            words = self.words(-(-rows // 4))
            out = np.empty((rows, self.keys.size), dtype=np.float32)
            _middles(words, out)
            return out
        middle = (self._quarters(rows).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-16)
        return middle.reshape(-1, self.keys.size)[:rows]

    def _quarters(self, rows: int) -> npt.NDArray[np.uint16]:
        """16-bit numbers (ceil(rows / 4), 4, B)."""
        words = self.words(-(-rows // 4))
        return words.view(np.uint16).reshape(*words.shape, 4).transpose(0, 2, 1)

    def exponential(self, *shape: int) -> npt.NDArray[np.float32]:
        """Draw float32 unit exponentials of shape (*shape, B)."""
        first = ((self.words(*shape) >> _S40).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
        return -np.log(first)

    def integers(self, high: int, *shape: int) -> npt.NDArray[np.int64]:
        """Draw integers in [0, high) of shape (*shape, B)."""
        return (self.uniform(*shape).astype(np.float64) * high).astype(np.int64)
