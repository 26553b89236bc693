/*
 * Intrusive doubly linked list. A node that is in no list has next == NULL.
 */
#ifndef MVPN_BASE_LIST_H
#define MVPN_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct mvpn_list {
    struct mvpn_list *next;
    struct mvpn_list *prev;
} mvpn_list;

static inline void mvpn_list_init(mvpn_list *head)
{
    head->next = head;
    head->prev = head;
}

static inline bool mvpn_list_is_empty(const mvpn_list *head)
{
    return head->next == head;
}

static inline bool mvpn_list_is_linked(const mvpn_list *node)
{
    return node->next != NULL;
}

static inline void mvpn_list_append(mvpn_list *head, mvpn_list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/** Take `node` out of its list; harmless if it is in none. */
static inline void mvpn_list_remove(mvpn_list *node)
{
    if (node->next == NULL) {
        return;
    }
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = NULL;
    node->prev = NULL;
}

/** The first node, taken out, or NULL. */
static inline mvpn_list *mvpn_list_pop(mvpn_list *head)
{
    if (mvpn_list_is_empty(head)) {
        return NULL;
    }
    mvpn_list *node = head->next;
    mvpn_list_remove(node);
    return node;
}

#define MVPN_LIST_FOREACH(it, head) for (mvpn_list *it = (head)->next; it != (head); it = it->next)
/** As above; the body may remove `it`. */
#define MVPN_LIST_FOREACH_SAFE(it, tmp, head)                                                      \
    for (mvpn_list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)

#endif
