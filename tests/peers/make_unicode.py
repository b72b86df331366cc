"""Writes models/unicode_tables.c from Python's unicodedata: letters and numbers (\\p{L}, \\p{N}), simple lower case, canonical
decomposition, composition and combining classes. Hangul is arithmetic and left out.

    python tests/peers/make_unicode.py > models/unicode_tables.c"""
import sys
import unicodedata as u

ALL = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xAC00 + 11172)


def ranges(values):
    """[(first, last, value)] of equal neighbours; None is left out."""
    out = []
    for c, v in values:
        if v is None:
            continue
        if out and out[-1][1] == c - 1 and out[-1][2] == v:
            out[-1][1] = c
        else:
            out.append([c, c, v])
    return out


def lower():
    """[(first, last, step, delta)]"""
    out = []
    for c in ALL:
        to = chr(c).lower()
        if to == chr(c) or len(to) != 1:
            continue
        d = ord(to) - c
        if out and out[-1][3] == d and (c - out[-1][1] in (1, 2)) and (out[-1][1] == out[-1][0] or c - out[-1][1] == out[-1][2]):
            out[-1][2] = c - out[-1][1]
            out[-1][1] = c
        else:
            out.append([c, c, 1, d])
    return out


def canonical():
    """[(composed, first, second, may be composed again)]; second 0: one character only."""
    out = []
    for c in ALL:
        d = u.decomposition(chr(c))
        if not d or d.startswith("<") or c in HANGUL:
            continue
        parts = [int(x, 16) for x in d.split()]
        back = len(parts) == 2 and u.normalize("NFC", chr(c)) == chr(c)
        out.append((c, parts[0], parts[1] if len(parts) == 2 else 0, int(back)))
    return out


def emit(head, rows, fmt):
    print(head)
    line = "   "
    for r in rows:
        piece = " " + fmt(r) + ","
        if len(line) + len(piece) > 190:
            print(line)
            line = "   "
        line += piece
    print(line)
    print("};")


def main():
    num = lambda c: f"{c:#x}" if c > 9 else str(c)
    print(f"""/* Tables of the Unicode Character Database {u.unidata_version}, written by tests/peers/make_unicode.py: do not edit. How they are read: unicode.c. */
#include "models/unicode.h"
""")
    kinds = [(c, {"L": 1, "N": 2}.get(u.category(chr(c))[0])) for c in ALL]
    rows = ranges(kinds)
    emit("const lk_unicode_range lk_unicode_kinds[] = {", rows, lambda r: f"{{{num(r[0])},{num(r[1])},{r[2]}}}")
    print(f"const int lk_unicode_n_kinds = {len(rows)};\n")
    rows = ranges([(c, u.combining(chr(c)) or None) for c in ALL])
    emit("const lk_unicode_range lk_unicode_classes[] = {", rows, lambda r: f"{{{num(r[0])},{num(r[1])},{r[2]}}}")
    print(f"const int lk_unicode_n_classes = {len(rows)};\n")
    rows = lower()
    emit("const lk_unicode_case lk_unicode_lower[] = {", rows, lambda r: f"{{{num(r[0])},{num(r[1])},{r[2]},{r[3]}}}")
    print(f"const int lk_unicode_n_lower = {len(rows)};\n")
    rows = canonical()
    emit("const lk_unicode_pair lk_unicode_pairs[] = {", rows, lambda r: f"{{{num(r[0])},{num(r[1])},{num(r[2])},{r[3]}}}")
    print(f"const int lk_unicode_n_pairs = {len(rows)};")


sys.exit(main())
