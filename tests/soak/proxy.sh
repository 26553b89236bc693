#!/bin/bash
# Downloads through the proxy, each beside one through a TUN device on the same path.
#
#     proxy.sh [--pairs N] [--mb N] [--json]
exec "$(dirname "$0")/../netns/proxy.sh" --pairs 5 --mb 200 "$@"
