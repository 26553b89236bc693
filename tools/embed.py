#!/usr/bin/python3
"""Write a C header with the bytes of files: embed.py OUT PREFIX FILE...

Each file becomes `static const unsigned char PREFIX_name_ext[]`, without a final zero.
"""

import os
import sys


def main():
    out, prefix, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    lines = ["/* Made by tools/embed.py; not to be edited. */"]
    for path in files:
        name = prefix + "_" + "".join(c if c.isalnum() else "_" for c in os.path.basename(path))
        with open(path, "rb") as file:
            content = file.read()
        lines.append("static const unsigned char %s[] = {" % name)
        for at in range(0, len(content), 20):
            lines.append("    " + " ".join("%d," % byte for byte in content[at:at + 20]))
        lines.append("};")
    with open(out, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
