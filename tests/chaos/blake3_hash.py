"""BLAKE3 of the specification (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), without keys and of 32 bytes.

It is slow and needs nothing. Where the module `blake3` is installed, that is taken.
"""

import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF
# Columns, then diagonals: four words of the state each.
LINES = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)


def _compress(chaining, words, counter, length, flags):
    v = list(chaining) + list(IV[:4]) + [counter & MASK, counter >> 32, length, flags]
    m = list(words)
    for turn in range(7):
        if turn:
            m = [m[at] for at in PERMUTATION]
        for pair, (a, b, c, d) in enumerate(LINES):
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = (va + vb + m[2 * pair]) & MASK
            vd ^= va
            vd = (vd >> 16) | (vd << 16) & MASK
            vc = (vc + vd) & MASK
            vb ^= vc
            vb = (vb >> 12) | (vb << 20) & MASK
            va = (va + vb + m[2 * pair + 1]) & MASK
            vd ^= va
            vd = (vd >> 8) | (vd << 24) & MASK
            vc = (vc + vd) & MASK
            vb ^= vc
            vb = (vb >> 7) | (vb << 25) & MASK
            v[a], v[b], v[c], v[d] = va, vb, vc, vd
    return [v[at] ^ v[at + 8] for at in range(8)]


def _words(block):
    return struct.unpack("<16I", block.ljust(64, b"\0"))


def _chunk(data, counter, root):
    chaining = IV
    blocks = range(0, max(len(data), 1), 64)
    for start in blocks:
        block = data[start:start + 64]
        last = start == blocks[-1]
        flags = (CHUNK_START if start == 0 else 0) | (CHUNK_END | root if last else 0)
        chaining = _compress(chaining, _words(block), counter, len(block), flags)
    return chaining


def _tree(data, counter, root):
    if len(data) <= 1024:
        return _chunk(data, counter, root)
    # The left side is the largest power of two of chunks that leaves something for the right one.
    chunks = (len(data) - 1) // 1024
    left = 1 << (chunks.bit_length() - 1)
    words = _tree(data[:1024 * left], counter, 0) + _tree(data[1024 * left:], counter + left, 0)
    return _compress(IV, words, 0, 64, PARENT | root)


def _plain(data):
    return struct.pack("<8I", *_tree(bytes(data), 0, ROOT))


try:
    from blake3 import blake3 as _native

    def blake3(data):
        return _native(data).digest()
except ImportError:
    blake3 = _plain
