/*
 * RelayData: several small IP packets in one cell, or one packet in several cells.
 * (docs/protocol.md §7) Used by the client and by the exit's side of a circuit.
 */
#ifndef MVPN_CORE_PACKING_H
#define MVPN_CORE_PACKING_H

#include "base/packet.h"
#include "base/time.h"

/* Packets in assembly per session, and how long one may take. */
#define MVPN_ASSEMBLIES_MAX 64
#define MVPN_ASSEMBLY_LIFETIME MVPN_S(2)

/** Collects IP packets into RelayData bodies. Flush it at the end of each batch. */
typedef struct mvpn_packer {
    mvpn_packet *cell; /* being filled, or NULL */
    uint16_t room;     /* data bytes of a full cell */
    uint16_t next_id;  /* of fragmented packets */
} mvpn_packer;

void mvpn_packer_init(mvpn_packer *packer, unsigned profile);

/**
 * Add one IP packet (taken). Bodies that are ready are appended to `cells`, each at most the
 * profile's room. MVPN_E_NOMEM (drop): the pool is empty and the packet is lost.
 */
MVPN_WUR int mvpn_packer_add(mvpn_packer *packer, mvpn_packet_pool *pool, mvpn_packet *packet,
                             mvpn_packet_queue *cells);
/** Hand over the body being filled, if any. */
void mvpn_packer_flush(mvpn_packer *packer, mvpn_packet_queue *cells);
void mvpn_packer_done(mvpn_packer *packer, mvpn_packet_pool *pool);

typedef struct mvpn_reassembly mvpn_reassembly;

/** Takes RelayData bodies apart. The table for fragments comes into being with the first fragment.
 */
typedef struct mvpn_unpacker {
    mvpn_reassembly *reassembly;
    unsigned held; /* packets of the pool in assembly */
} mvpn_unpacker;

/**
 * Take one RelayData body (taken); whole IP packets are appended to `packets`. MVPN_E_FORMAT
 * (drop): the body is malformed; packets before the fault have been delivered. MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_unpacker_take(mvpn_unpacker *unpacker, mvpn_packet_pool *pool, mvpn_packet *body,
                                mvpn_time now, mvpn_packet_queue *packets);
/** Give back what has waited too long: a sender that falls silent must not keep packets. */
void mvpn_unpacker_expire(mvpn_unpacker *unpacker, mvpn_packet_pool *pool, mvpn_time now);
void mvpn_unpacker_done(mvpn_unpacker *unpacker, mvpn_packet_pool *pool);

#endif
