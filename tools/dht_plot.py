#!/usr/bin/python3
"""Run the DHT simulator at growing sizes and draw hops against the logarithm of the nodes.

    dht_plot.py PROGRAM OUT.svg --plot [--full] [--seed S] [--lookups L] ...

Other arguments go to the program. --full adds 31,623 and 100,000 nodes (many minutes and
gigabytes). Nothing but the standard library; the drawing reads in light and dark.
"""
import json
import math
import subprocess
import sys

SIZES = [100, 316, 1000, 3162, 10000]
SIZES_FULL = [31623, 100000]
# Enough lookups for a mean, a short time: hops do not depend on it.
ARGUMENTS = ["--lookups", "2000", "--warm-s", "120", "--window-s", "60"]
BOUND = 0.5  # slope over log2 N that must not be exceeded
WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 56, 56

STYLE = """
  svg { font: 13px system-ui, sans-serif; color-scheme: light dark; }
  .ground { fill: #ffffff; } text { fill: #24292f; } .axis { stroke: #57606a; }
  .grid { stroke: #d0d7de; } .fit { stroke: #0969da; } .point { fill: #0969da; }
  .bound { stroke: #bc4c00; stroke-dasharray: 6 5; } .quiet { fill: #57606a; }
  .axis, .grid, .fit, .bound { fill: none; stroke-width: 1; } .fit, .bound { stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; } text { fill: #e6edf3; } .axis { stroke: #8b949e; }
    .grid { stroke: #30363d; } .fit { stroke: #58a6ff; } .point { fill: #58a6ff; }
    .bound { stroke: #f0883e; } .quiet { fill: #8b949e; }
  }
"""


def measure(program, size, arguments):
    done = subprocess.run([program, "--json", "--nodes", str(size), *ARGUMENTS, *arguments],
                          stdout=subprocess.PIPE, check=True)
    result = json.loads(done.stdout)
    print(json.dumps(result), flush=True)
    return result


def fit(points):
    """Least squares: slope and intercept."""
    n = len(points)
    mx = sum(x for x, _ in points) / n
    my = sum(y for _, y in points) / n
    slope = sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)
    return slope, my - slope * mx


def draw(results):
    points = [(math.log2(r["nodes"]), r["hops_mean"]) for r in results]
    slope, base = fit(points)
    low, high = math.floor(points[0][0]), math.ceil(points[-1][0])
    y_max = math.ceil(max(BOUND * high, max(y for _, y in points)) + 0.5)

    def sx(x):
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def sy(y):
        return HEIGHT - BOTTOM - y / y_max * (HEIGHT - TOP - BOTTOM)

    def line(kind, x1, y1, x2, y2):
        return (f'<line class="{kind}" x1="{sx(x1):.1f}" y1="{sy(y1):.1f}" '
                f'x2="{sx(x2):.1f}" y2="{sy(y2):.1f}"/>')

    def text(x, y, what, anchor="middle", kind=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{what}</text>'

    first, last = results[0], results[-1]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>Hops of a DHT lookup against the number of nodes</title>",
        "<desc>" + "; ".join(
            f'{r["nodes"]} nodes: {r["hops_mean"]:.2f} hops, {100 * r["success"]:.2f} % found, '
            f'{r["latency_ms_p50"]:.0f} ms median, {r["bytes_per_node_s"]:.0f} bytes/s a node'
            for r in results) + "</desc>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        text(LEFT, 26, "Hops of a lookup (mean)", "start"),
        text(LEFT, 44, f'{last["lookups"]} lookups each, median session {last["session_min"]:g} min, '
             f'loss {100 * last["loss"]:g} %, seed {last["seed"]}', "start", "quiet"),
    ]
    for y in range(y_max + 1):
        out += [line("grid", low, y, high, y), text(LEFT - 10, sy(y) + 4, str(y), "end", "quiet")]
    for result, (x, _) in zip(results, points):
        out.append(text(sx(x), HEIGHT - BOTTOM + 20, f'{result["nodes"]:,}', "middle", "quiet"))
    out += [
        line("axis", low, 0, high, 0), line("axis", low, 0, low, y_max),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "nodes (logarithmic)"),
        line("bound", low, BOUND * low, high, BOUND * high),
        line("fit", low, base + slope * low, high, base + slope * high),
    ]
    for y, kind, what in ((60, "bound", f"bound: {BOUND} log2 N"),
                          (36, "fit", f"measured: {slope:.3f} log2 N {base:+.2f}")):
        y = HEIGHT - BOTTOM - y
        out += [f'<line class="{kind}" x1="{WIDTH - 290}" y1="{y}" x2="{WIDTH - 250}" y2="{y}"/>',
                text(WIDTH - 240, y + 4, what, "start")]
    for x, y in points:
        out += [f'<circle class="point" cx="{sx(x):.1f}" cy="{sy(y):.1f}" r="4.5"/>',
                text(sx(x), sy(y) - 10, f"{y:.2f}")]
    out.append("</svg>")
    print(f"{first['nodes']} to {last['nodes']} nodes: slope {slope:.3f} of log2 N "
          f"(bound {BOUND}): {'holds' if slope <= BOUND else 'EXCEEDED'}")
    return "\n".join(out) + "\n", slope <= BOUND


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, path = sys.argv[1:3]
    arguments = [a for a in sys.argv[3:] if a not in ("--plot", "--full", "--json")]
    sizes = SIZES + (SIZES_FULL if "--full" in sys.argv else [])
    drawing, holds = draw([measure(program, size, arguments) for size in sizes])
    with open(path, "w", encoding="ascii") as f:
        f.write(drawing)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
