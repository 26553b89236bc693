/*
 * The client: what the user chooses of exits while it runs.
 */
#include "core/client_internal.h"

#include "base/error.h"

const mvpn_exit_choice *mvpn_client_exit_choice(const mvpn_client *client)
{
    return &client->cfg.exit_choice;
}

static bool blocks(const mvpn_exit_choice *choice, const mvpn_ed25519_pub *exit)
{
    for (size_t i = 0; i < choice->blocked_count; i++) {
        if (client_same(&choice->blocked[i], exit)) {
            return true;
        }
    }
    return false;
}

bool client_exit_fits(const mvpn_client *client, const mvpn_ed25519_pub *exit, mvpn_time now)
{
    const mvpn_exit_choice *choice = &client->cfg.exit_choice;
    mvpn_path_constraints wish;
    mvpn_view_info info;
    if (client->cfg.fixed_path.count > 0) {
        return true;
    }
    if (choice->is_open || (choice->has_exit && !client_same(&choice->exit, exit)) ||
        blocks(choice, exit)) {
        return false;
    }
    const mvpn_descriptor *d = mvpn_view_find(client->cfg.env.view, exit);
    if (d == NULL || !mvpn_view_find_info(client->cfg.env.view, exit, &info)) {
        return choice->has_exit ||
               (choice->countries.count == 0 && choice->blocked_countries.count == 0);
    }
    client_init_wish(client, NULL, true, &wish, now);
    wish.unix_now = 0;
    info.is_dead = false;
    info.is_unshown = false;
    enum mvpn_path_block block = mvpn_path_judge_exit(d, &info, &wish);
    return block == MVPN_PATH_OK || block == MVPN_PATH_NO_EXIT;
}

enum mvpn_path_block mvpn_client_judge_exit(const mvpn_client *client,
                                            const mvpn_exit_choice *choice,
                                            const mvpn_descriptor *d, const mvpn_view_info *info,
                                            mvpn_time now)
{
    mvpn_path_constraints wish;
    client_init_wish(client, NULL, true, &wish, now);
    wish.choice = choice != NULL ? choice : wish.choice;
    return mvpn_path_judge_exit(d, info, &wish);
}

enum mvpn_path_block mvpn_client_judge_choice(const mvpn_client *client,
                                              const mvpn_exit_choice *choice, mvpn_time now)
{
    const mvpn_view *view = client->cfg.env.view;
    enum mvpn_path_block worst = MVPN_PATH_NO_EXIT;
    mvpn_path_constraints wish;
    client_init_wish(client, NULL, true, &wish, now);
    wish.choice = choice != NULL ? choice : wish.choice;
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        mvpn_view_info info;
        mvpn_view_get_info(view, i, &info);
        enum mvpn_path_block block = mvpn_path_judge_exit(mvpn_view_at(view, i), &info, &wish);
        if (block == MVPN_PATH_OK) {
            return MVPN_PATH_OK;
        }
        worst = MVPN_MAX(worst, block);
    }
    return worst;
}

/* Circuits on their way to where nobody wants to go any more. Those at the exit of the present
 * session stay as long as it does. */
static void give_up_misfits(mvpn_client *client, mvpn_time now)
{
    for (size_t i = 0; i < SLOTS; i++) {
        slot *s = &client->slots[i];
        bool is_under_way = s->used && (s->role == SLOT_FREE || s->role == SLOT_TAKES);
        const client_session *of = s->session == 0 ? NULL : client_session_find(client, s->session);
        bool is_needed = (of != NULL && of->state == SESSION_LIVE) ||
                         (is_under_way && s->cause != CAUSE_NEW && client->current != NULL &&
                          client_same(slot_exit(s), &client->current->exit));
        if (is_under_way && !is_needed && !client_exit_fits(client, slot_exit(s), now)) {
            client_give_up(client, s, now);
        }
    }
}

/* Is there a path at all? Whatever guard it takes. */
static enum mvpn_path_block probe(const mvpn_client *client, mvpn_time now)
{
    mvpn_path_constraints wish;
    mvpn_path path;
    client_init_wish(client, NULL, true, &wish, now);
    return mvpn_path_select(client->cfg.env.view, &wish, client->cfg.env.rng, &path);
}

enum mvpn_path_block mvpn_client_set_exit_choice(mvpn_client *client,
                                                 const mvpn_exit_choice *choice, mvpn_time now)
{
    const client_session *current = client->current;
    client->cfg.exit_choice = *choice;
    give_up_misfits(client, now);
    client->has_exit = client->has_exit && client_exit_fits(client, &client->exit, now);
    client->misfit =
        current != NULL && !client_exit_fits(client, &current->exit, now) ? MVPN_MAX(now, 1u) : 0;
    client->next_check = now;
    client->next_new = now;
    client->next_build = client->failures == 0 ? now : client->next_build;
    if (current != NULL && client->misfit == 0) {
        client->stats.block = MVPN_PATH_OK;
        return MVPN_PATH_OK;
    }
    if (client->cfg.learner != NULL && !mvpn_learner_is_ready(client->cfg.learner)) {
        return MVPN_PATH_OK; /* nothing is known of exits yet */
    }
    enum mvpn_path_block block = probe(client, now);
    client_note_block(client, block, now);
    if (block != MVPN_PATH_OK) {
        client_session_leave(client, now);
    }
    return block;
}
