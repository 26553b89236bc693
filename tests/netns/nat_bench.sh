#!/bin/bash
# What a NAT relay costs: a client (client) and a relay at home (birch), played by nat_bench, at the
# real meshvpn-relay (alder). Time added, and datagrams a second and core.
#
#     client --- inet --- birch
#                 +------ alder
#
#     nat_bench.sh [--json]
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
LAB_RELAYS="alder birch"
LAB_EXITS=
LAB_ENTRIES=

case ${1:-} in
"" | --json) ;;
*) lab_die "usage: nat_bench.sh [--json]" ;;
esac
[ -x "$LAB_BUILD/tests/netns/nat_bench" ] || lab_die "nat_bench is not built in $LAB_BUILD; run ./run build"
lab_begin
lab_internet
mesh_need_programs
mkdir -p "$LAB_DIR/sock"
mesh_bootstrap init "$LAB_DIR/net" --name lab
for node in alder birch; do
    mesh_bootstrap add-node "$LAB_DIR/net" "$node" --address "$(lab_addr4 "$node"):$LAB_PORT" \
        --country "$(lab_country "$node")" --provider "$node-hosting" --bandwidth-mbit 1000 --listed --nat-relay
    mesh_configure "$node"
done
mesh_relays_start alder
"$LAB_BUILD/tests/netns/nat_bench" "$LAB_DIR/net/network.conf" alder "${MESH_PIDS[alder]}" \
    "$LAB_DIR/net/nodes/birch" "/run/netns/$(lab_ns client)" "$(lab_addr4 client):0" \
    "/run/netns/$(lab_ns birch)" "$(lab_addr4 birch):0" ${1:+"$1"} || mesh_fail "nat_bench failed" alder
