#!/usr/bin/python3
"""What udp_flow's records say of moments between two times. Standard library only.

    nat_flow.py now                              the clock of the records, microseconds
    nat_flow.py between FILE FROM_US TO_US       JSON of the packets sent between these times: how many, lost,
                                                 late, twice; the longest time in which none of them came
"""

import json
import sys
import time


def read(path):
    sent = corrupt = 0
    packets = []
    with open(path, encoding="ascii") as lines:
        for line in lines:
            words = line.split()
            if words[0] == "sent":
                sent = int(words[1])
            elif words[0] == "corrupt":
                corrupt = int(words[1])
            else:
                packets.append(tuple(map(int, words)))
    return sent, corrupt, packets


def between(path, begin, end):
    """Of a lost packet nobody knows when it was sent: it belongs here if its neighbours do."""
    sent, corrupt, packets = read(path)
    inside = [p for p in packets if begin <= p[1] < end]
    numbers = [p[0] for p in inside]
    first = max((p[0] + 1 for p in packets if p[1] < begin), default=0)
    last = min((p[0] for p in packets if p[1] >= end), default=sent)
    times = sorted([begin, end] + [p[2] for p in inside])
    longest, at = max((b - a, a) for a, b in zip(times, times[1:]))
    delays = sorted(p[2] - p[1] for p in inside)
    highest = late = 0
    for number in numbers:
        late += number < highest
        highest = max(highest, number)
    return {"came": len(inside), "lost": max(0, last - first - len(set(numbers))),
            "twice": len(numbers) - len(set(numbers)), "late": late, "corrupt": corrupt,
            "gap_ms": round(longest / 1000, 1), "gap_at_ms": round((at - begin) / 1000, 1),
            "delay_ms": round(delays[len(delays) // 2] / 1000, 2) if delays else None}


def main():
    words = sys.argv[1:]
    if words == ["now"]:
        print(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
    elif len(words) == 4 and words[0] == "between":
        print(json.dumps(between(words[1], int(words[2]), int(words[3]))))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
