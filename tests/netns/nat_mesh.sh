# shellcheck shell=bash
# A MeshVPN network with homes behind NATs in it; sourced after lab.sh, nat.sh and mesh.sh.
#
#     inet --- boot (entry), $LAB_RELAYS: public, each a NAT relay for others but $NATMESH_GUARD (a relay
#       |                   extends no circuit to a relay that it serves: it would be two hops of it)
#       |----- homes of nat.sh: relays or exits that are found by their NAT relays (protocol.md §14)
#
#     natmesh_internet; natmesh_home one port; natmesh_home two double --exit
#     mesh_relays_start boot alder birch; mesh_relay_start one; natmesh_knows 20 one boot

NATMESH_GUARD=
NATMESH_MODE=found # both: those in the open are in the network file (mesh_create)
NATMESH_PAIRS=$LAB_HERE/nat_pairs.py

# natmesh_internet: the router, client, web, entry and NAT relays, and a network of theirs.
natmesh_internet() {
    local node
    lab_internet
    MESH_MODE=$NATMESH_MODE
    mesh_need_programs
    mkdir -p "$LAB_DIR/sock"
    mesh_bootstrap init "$LAB_DIR/net" --name lab
    for node in $LAB_ENTRIES; do
        mesh_add_node "$node"
    done
    for node in $LAB_RELAYS; do
        # shellcheck disable=SC2046 # no word if it is the guard
        mesh_add_node "$node" $([ "$node" = "$NATMESH_GUARD" ] || echo --nat-relay)
    done
}

# natmesh_home NAME TYPE [--exit] [OPTION...]: a home of that type (options: nat.sh's) with a relay in it.
natmesh_home() {
    local name=$1 type=$2 exit=
    shift 2
    if [ "${1:-}" = --exit ]; then
        exit=--exit
        LAB_EXITS="$LAB_EXITS $name"
        shift
    fi
    nat_home "$name" "$type" "$@"
    natmesh_member "$name" "$type" $exit
}

# natmesh_member NAME TYPE [OPTION...]: keys and configuration; without a NAT an ordinary relay's.
natmesh_member() {
    local name=$1 type=$2 where=(--home)
    shift 2
    if [ "$type" = public ]; then
        where=(--address "${NAT_WAN[$name]}:$LAB_PORT")
        [ "$NATMESH_MODE" = found ] || where+=(--listed)
    fi
    mesh_bootstrap add-node "$LAB_DIR/net" "$name" "${where[@]}" --country IT --provider "$name-isp" \
        --bandwidth-mbit 1000 "$@"
    mesh_configure "$name"
}

# natmesh_ready SECONDS NODE...: until each of them can be reached, and knows what NAT it has.
natmesh_ready() {
    local seconds=$1
    shift
    "$LAB_PYTHON" "$NATMESH_PAIRS" wait "$LAB_DIR/sock" "$seconds" "$@"
}

# natmesh_knows SECONDS NODE BY...: until each of those has NODE in its view.
natmesh_knows() {
    local seconds=$1 node=$2
    shift 2
    "$LAB_PYTHON" "$NATMESH_PAIRS" knows "$LAB_DIR/sock" "$seconds" "$node" "$@"
}

# natmesh_cut BOX BOX: what the one sends to the other is lost on the way, and the other way round.
natmesh_cut() {
    lab_in inet nft -f - <<RULES
table ip cut {
  chain forward {
    type filter hook forward priority 0;
    ip saddr ${NAT_WAN[$1]} ip daddr ${NAT_WAN[$2]} drop
    ip saddr ${NAT_WAN[$2]} ip daddr ${NAT_WAN[$1]} drop
  }
}
RULES
}

natmesh_uncut() {
    lab_in inet nft delete table ip cut
}
