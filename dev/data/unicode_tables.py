"""Writes llmc/tokenizer/unicode_table.h, the Unicode classes that tokenizers' split patterns name, and nfc_table.h, what normalisation
to NFC needs, from Python's unicodedata.

    pip install unicodedata2==16.0.0      # not needed with Python 3.14, whose own unicodedata is Unicode 16
    python dev/data/unicode_tables.py

The version matters: tiktoken and tokenizers both use 16, and a letter that one of them does not know yet is split
differently.
"""
import os
try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

VERSION = "16.0.0"
CLASSES = ["OTHER", "SPACE", "NUMBER", "UPPER", "LOWER", "LETTER", "MARK"]


def class_of(c):
    category = unicodedata.category(chr(c))
    if category in ("Zs", "Zl", "Zp") or 9 <= c <= 13 or c == 0x85: return "SPACE"  # the property White_Space
    if category in ("Lu", "Lt"): return "UPPER"
    if category == "Ll": return "LOWER"
    if category in ("Lm", "Lo"): return "LETTER"
    return {"N": "NUMBER", "M": "MARK"}.get(category[0], "OTHER")


def wrapped(words):
    lines, line = [], "   "
    for word in words:
        if len(line) + len(word) + 2 > 120: lines, line = lines + [line], "   "
        line += f" {word},"
    return "\n".join(lines + [line])


def write_nfc(path):
    """Decompositions of one step; combining classes as runs. Hangul syllables are computed, not listed."""
    pairs, singles, runs, last = [], [], [], 0
    for c in range(0x110000):
        k = unicodedata.combining(chr(c))
        if k != last: runs.append(f"{c << 8 | k:#x}")
        last = k
        d = unicodedata.decomposition(chr(c))
        if not d or d[0] == "<" or 0xAC00 <= c < 0xD7A4: continue
        parts = [int(x, 16) for x in d.split()]
        composes = len(parts) == 2 and unicodedata.normalize("NFC", chr(c)) == chr(c)
        if len(parts) == 1: singles.append(f"{{{c:#x}, {parts[0]:#x}}}")
        else: pairs.append(f"{{{c:#x}, {parts[0]:#x}, {parts[1]:#x}, {int(composes)}}}")
    with open(path, "w") as f:
        f.write(f"// nfc_table.h: written by dev/data/unicode_tables.py from Unicode {VERSION}. Do not edit.\n"
                "#pragma once\n#include <cstdint>\n\n"
                "// Canonical decompositions of one step into two characters; composes: the two become the one again in NFC.\n"
                "struct CanonicalPair { uint32_t code, first, second; bool composes; };\n"
                f"constexpr CanonicalPair CANONICAL_PAIRS[{len(pairs)}] = {{\n{wrapped(pairs)}\n}};\n\n"
                "// Characters that NFC replaces by another one.\n"
                "struct CanonicalSingle { uint32_t code, becomes; };\n"
                f"constexpr CanonicalSingle CANONICAL_SINGLES[{len(singles)}] = {{\n{wrapped(singles)}\n}};\n\n"
                "// Runs of one canonical combining class: first code point * 256 + class, up to the next run.\n"
                f"constexpr uint32_t COMBINING_RUNS[{len(runs)}] = {{\n{wrapped(runs)}\n}};\n")
    print(f"{len(pairs)} pairs, {len(singles)} singles, {len(runs)} runs, {os.path.getsize(path)} bytes")


def main():
    assert unicodedata.unidata_version == VERSION, f"this is Unicode {unicodedata.unidata_version}: pip install unicodedata2=={VERSION}"
    runs, last = [], None
    for c in range(0x110000):
        k = CLASSES.index(class_of(c))
        if k != last: runs.append(c << 3 | k)
        last = k
    lines, line = [], "   "
    for run in runs:
        word = f" {run:x},".replace(" ", " 0x")
        if len(line) + len(word) > 120: lines, line = lines + [line], "   "
        line += word
    path = os.path.join(os.path.dirname(__file__), "../../llmc/tokenizer/unicode_table.h")
    with open(path, "w") as f:
        f.write(f"// unicode_table.h: written by dev/data/unicode_tables.py from Unicode {VERSION}. Do not edit.\n"
                "#pragma once\n#include <cstdint>\n\n"
                "// OTHER is everything else: punctuation, symbols, controls, unassigned. UPPER is Lu and Lt, LOWER is Ll, LETTER is\n"
                "// Lm and Lo, MARK is all of M, SPACE is the property White_Space.\n"
                f"enum UnicodeClass : uint8_t {{ {', '.join('U_' + c for c in CLASSES)} }};\n\n"
                "// Runs of code points of one class: first code point * 8 + class, up to the next run.\n"
                f"constexpr uint32_t UNICODE_RUNS[{len(runs)}] = {{\n" + "\n".join(lines + [line]) + "\n};\n")
    print(f"{len(runs)} runs, {os.path.getsize(path)} bytes")
    write_nfc(os.path.join(os.path.dirname(__file__), "../../llmc/tokenizer/nfc_table.h"))


main()
