#!/usr/bin/python3
"""A QR code as a terminal shows it, made an image: reads text from stdin, writes a PGM to stdout.

Knows the half blocks, one pair of colours and their reset, as a terminal would; what it does not
know is an error. "--light": a terminal of dark text on light (for text without colours).
"""
import re
import sys

SCALE = 6
BLOCKS = {" ": (0, 0), "\u2584": (0, 1), "\u2580": (1, 0), "\u2588": (1, 1)}
COLOURS = {"16": 0, "231": 255}


def rows_of(line, colours):
    ink, paper = colours
    upper, lower = [], []
    for part in re.split(r"(\033\[[0-9;]*m)", line):
        if part == "\033[0m":
            ink, paper = colours
        elif part.startswith("\033"):
            found = re.fullmatch(r"\033\[38;5;(\d+);48;5;(\d+)m", part)
            ink, paper = COLOURS[found.group(1)], COLOURS[found.group(2)]
        else:
            for char in part:
                top, bottom = BLOCKS[char]
                upper.append(ink if top else paper)
                lower.append(ink if bottom else paper)
    return [upper, lower]


def main():
    colours = (0, 255) if "--light" in sys.argv else (255, 0)
    text = sys.stdin.buffer.read().decode("utf-8")
    rows = [row for line in text.splitlines() for row in rows_of(line, colours)]
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        sys.exit("lines of different lengths")
    out = sys.stdout.buffer
    out.write(b"P5 %d %d 255\n" % (width * SCALE, len(rows) * SCALE))
    for row in rows:
        out.write(bytes(value for value in row for _ in range(SCALE)) * SCALE)


main()
