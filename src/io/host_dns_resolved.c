#include "io/host_dns_resolved.h"

#include <dbus/dbus.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"

#define NAME "org.freedesktop.resolve1"
#define PATH "/org/freedesktop/resolve1"
#define MANAGER NAME ".Manager"
#define CALL_MS 1500
#define SERVERS_MAX 2

struct mvpn_dns_resolved {
    DBusConnection *bus;
    int fd;
    bool is_set;
    int32_t index;
    mvpn_addr servers[SERVERS_MAX];
    size_t count;
};

/* ---- calls ---- */

static int told(const DBusError *e, const char *method, mvpn_fault *fault)
{
    if (dbus_error_has_name(e, DBUS_ERROR_NO_REPLY) || dbus_error_has_name(e, DBUS_ERROR_TIMEOUT) ||
        dbus_error_has_name(e, DBUS_ERROR_TIMED_OUT)) {
        return mvpn_fault_set(
            fault, MVPN_E_TIMEOUT,
            "systemd-resolved does not answer (%s): restart it (systemctl restart "
            "systemd-resolved)",
            method);
    }
    if (dbus_error_has_name(e, DBUS_ERROR_DISCONNECTED)) {
        return mvpn_fault_set(fault, MVPN_E_CLOSED, "the system bus is gone");
    }
    if (dbus_error_has_name(e, DBUS_ERROR_SERVICE_UNKNOWN) ||
        dbus_error_has_name(e, DBUS_ERROR_NAME_HAS_NO_OWNER)) {
        return mvpn_fault_set(fault, MVPN_E_UNKNOWN, "systemd-resolved does not run");
    }
    return mvpn_fault_set(fault, MVPN_E_REFUSED, "systemd-resolved refuses %s: %.200s", method,
                          e->message != NULL ? e->message : "no reason");
}

static DBusMessage *new_call(const char *interface, const char *method)
{
    DBusMessage *m = dbus_message_new_method_call(NAME, PATH, interface, method);
    if (m != NULL) {
        dbus_message_set_auto_start(m, false); /* it would be waited for */
    }
    return m;
}

/* Takes `m`. Older ones do not know every method: `is_optional`. */
static int call(mvpn_dns_resolved *r, DBusMessage *m, bool is_optional, DBusMessage **ret,
                mvpn_fault *fault)
{
    DBusError e = DBUS_ERROR_INIT;
    int code = 0;
    if (m == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for a call");
    }
    DBusMessage *reply = dbus_connection_send_with_reply_and_block(r->bus, m, CALL_MS, &e);
    if (reply == NULL) {
        bool is_fine = is_optional && dbus_error_has_name(&e, DBUS_ERROR_UNKNOWN_METHOD);
        code = is_fine ? 0 : told(&e, dbus_message_get_member(m), fault);
        dbus_error_free(&e);
    } else if (ret != NULL) {
        *ret = reply;
    } else {
        dbus_message_unref(reply);
    }
    dbus_message_unref(m);
    return code;
}

static DBusMessage *link_call(const mvpn_dns_resolved *r, const char *method)
{
    DBusMessage *m = new_call(MANAGER, method);
    if (m != NULL && !dbus_message_append_args(m, DBUS_TYPE_INT32, &r->index, DBUS_TYPE_INVALID)) {
        dbus_message_unref(m);
        m = NULL;
    }
    return m;
}

static int set_text(mvpn_dns_resolved *r, const char *method, const char *text, mvpn_fault *fault)
{
    DBusMessage *m = link_call(r, method);
    if (m != NULL) {
        (void)dbus_message_append_args(m, DBUS_TYPE_STRING, &text, DBUS_TYPE_INVALID);
    }
    return call(r, m, true, NULL, fault);
}

/* ---- what is set: SetLinkDNS(i a(iay)), SetLinkDomains(i a(sb)), SetLinkDefaultRoute(i b) ---- */

static void append_server(DBusMessageIter *list, const mvpn_addr *server)
{
    DBusMessageIter entry, bytes;
    int32_t family = server->family == 4 ? AF_INET : AF_INET6;
    const uint8_t *ip = server->ip;
    (void)dbus_message_iter_open_container(list, DBUS_TYPE_STRUCT, NULL, &entry);
    (void)dbus_message_iter_append_basic(&entry, DBUS_TYPE_INT32, &family);
    (void)dbus_message_iter_open_container(&entry, DBUS_TYPE_ARRAY, "y", &bytes);
    (void)dbus_message_iter_append_fixed_array(&bytes, DBUS_TYPE_BYTE, &ip,
                                               (int)mvpn_addr_ip_len(server));
    (void)dbus_message_iter_close_container(&entry, &bytes);
    (void)dbus_message_iter_close_container(list, &entry);
}

static int set_servers(mvpn_dns_resolved *r, mvpn_fault *fault)
{
    DBusMessageIter args, list;
    DBusMessage *m = link_call(r, "SetLinkDNS");
    if (m != NULL) {
        dbus_message_iter_init_append(m, &args);
        (void)dbus_message_iter_open_container(&args, DBUS_TYPE_ARRAY, "(iay)", &list);
        for (size_t i = 0; i < r->count; i++) {
            append_server(&list, &r->servers[i]);
        }
        (void)dbus_message_iter_close_container(&args, &list);
    }
    return call(r, m, false, NULL, fault);
}

/* "~.": every name is this link's. */
static int set_domains(mvpn_dns_resolved *r, mvpn_fault *fault)
{
    DBusMessageIter args, list, entry;
    const char *root = ".";
    dbus_bool_t only_route = true;
    DBusMessage *m = link_call(r, "SetLinkDomains");
    if (m != NULL) {
        dbus_message_iter_init_append(m, &args);
        (void)dbus_message_iter_open_container(&args, DBUS_TYPE_ARRAY, "(sb)", &list);
        (void)dbus_message_iter_open_container(&list, DBUS_TYPE_STRUCT, NULL, &entry);
        (void)dbus_message_iter_append_basic(&entry, DBUS_TYPE_STRING, &root);
        (void)dbus_message_iter_append_basic(&entry, DBUS_TYPE_BOOLEAN, &only_route);
        (void)dbus_message_iter_close_container(&list, &entry);
        (void)dbus_message_iter_close_container(&args, &list);
    }
    return call(r, m, false, NULL, fault);
}

static int set_default_route(mvpn_dns_resolved *r, mvpn_fault *fault)
{
    dbus_bool_t yes = true;
    DBusMessage *m = link_call(r, "SetLinkDefaultRoute");
    if (m != NULL) {
        (void)dbus_message_append_args(m, DBUS_TYPE_BOOLEAN, &yes, DBUS_TYPE_INVALID);
    }
    return call(r, m, true, NULL, fault);
}

/* What it knows from before is of another path, and of another exit. */
static int set_link(mvpn_dns_resolved *r, mvpn_fault *fault)
{
    int code = set_servers(r, fault);
    code = code != 0 ? code : set_domains(r, fault);
    code = code != 0 ? code : set_default_route(r, fault);
    code = code != 0 ? code : set_text(r, "SetLinkLLMNR", "no", fault);
    code = code != 0 ? code : set_text(r, "SetLinkMulticastDNS", "no", fault);
    code = code != 0 ? code : set_text(r, "SetLinkDNSOverTLS", "no", fault);
    return code != 0 ? code : call(r, new_call(MANAGER, "FlushCaches"), true, NULL, fault);
}

/* ---- is it still so? The manager's properties "DNS" a(iiay) and "Domains" a(isb) ---- */

static int get_property(mvpn_dns_resolved *r, const char *name, DBusMessage **ret,
                        mvpn_fault *fault)
{
    const char *interface = MANAGER;
    DBusMessage *m = new_call(DBUS_INTERFACE_PROPERTIES, "Get");
    if (m != NULL) {
        (void)dbus_message_append_args(m, DBUS_TYPE_STRING, &interface, DBUS_TYPE_STRING, &name,
                                       DBUS_TYPE_INVALID);
    }
    return call(r, m, false, ret, fault);
}

/* Into the list of structs in the variant; false if it is none. */
static bool enter_list(DBusMessage *reply, DBusMessageIter *ret)
{
    DBusMessageIter args, variant;
    if (!dbus_message_iter_init(reply, &args) ||
        dbus_message_iter_get_arg_type(&args) != DBUS_TYPE_VARIANT) {
        return false;
    }
    dbus_message_iter_recurse(&args, &variant);
    if (dbus_message_iter_get_arg_type(&variant) != DBUS_TYPE_ARRAY ||
        dbus_message_iter_get_element_type(&variant) != DBUS_TYPE_STRUCT) {
        return false;
    }
    dbus_message_iter_recurse(&variant, ret);
    return true;
}

static bool read_int(DBusMessageIter *entry, int32_t *ret)
{
    if (dbus_message_iter_get_arg_type(entry) != DBUS_TYPE_INT32) {
        return false;
    }
    dbus_message_iter_get_basic(entry, ret);
    (void)dbus_message_iter_next(entry);
    return true;
}

/* The next server of ours in the list; false: there is none, or it cannot be read. */
static bool is_server(DBusMessageIter *entry, const mvpn_addr *wanted)
{
    DBusMessageIter bytes;
    const uint8_t *ip = NULL;
    int32_t family = 0;
    int n = 0;
    if (!read_int(entry, &family) || dbus_message_iter_get_arg_type(entry) != DBUS_TYPE_ARRAY ||
        dbus_message_iter_get_element_type(entry) != DBUS_TYPE_BYTE) {
        return false;
    }
    dbus_message_iter_recurse(entry, &bytes);
    dbus_message_iter_get_fixed_array(&bytes, &ip, &n);
    return family == (wanted->family == 4 ? AF_INET : AF_INET6) &&
           (size_t)n == mvpn_addr_ip_len(wanted) && memcmp(ip, wanted->ip, (size_t)n) == 0;
}

static bool has_servers(const mvpn_dns_resolved *r, DBusMessage *reply)
{
    DBusMessageIter list, entry;
    size_t found = 0;
    if (!enter_list(reply, &list)) {
        return false;
    }
    for (; dbus_message_iter_get_arg_type(&list) == DBUS_TYPE_STRUCT;
         (void)dbus_message_iter_next(&list)) {
        int32_t index = 0;
        dbus_message_iter_recurse(&list, &entry);
        if (!read_int(&entry, &index) || index != r->index) {
            continue;
        }
        if (found == r->count || !is_server(&entry, &r->servers[found])) {
            return false;
        }
        found++;
    }
    return found == r->count;
}

static bool has_domain(const mvpn_dns_resolved *r, DBusMessage *reply)
{
    DBusMessageIter list, entry;
    if (!enter_list(reply, &list)) {
        return false;
    }
    for (; dbus_message_iter_get_arg_type(&list) == DBUS_TYPE_STRUCT;
         (void)dbus_message_iter_next(&list)) {
        int32_t index = 0;
        const char *domain = "";
        dbus_message_iter_recurse(&list, &entry);
        if (!read_int(&entry, &index) ||
            dbus_message_iter_get_arg_type(&entry) != DBUS_TYPE_STRING) {
            continue;
        }
        dbus_message_iter_get_basic(&entry, &domain);
        if (index == r->index && strcmp(domain, ".") == 0) {
            return true;
        }
    }
    return false;
}

static int check(mvpn_dns_resolved *r, bool *ret_is_set, mvpn_fault *fault)
{
    DBusMessage *dns = NULL, *domains = NULL;
    int code = get_property(r, "DNS", &dns, fault);
    code = code != 0 ? code : get_property(r, "Domains", &domains, fault);
    if (code == 0) {
        *ret_is_set = has_servers(r, dns) && has_domain(r, domains);
    }
    if (dns != NULL) {
        dbus_message_unref(dns);
    }
    if (domains != NULL) {
        dbus_message_unref(domains);
    }
    return code;
}

/* ---- life ---- */

static void leave_bus(mvpn_dns_resolved *r)
{
    if (r->bus != NULL) {
        dbus_connection_close(r->bus);
        dbus_connection_unref(r->bus);
    }
    r->bus = NULL;
    r->fd = -1;
}

static int join_bus(mvpn_dns_resolved *r, mvpn_fault *fault)
{
    DBusError e = DBUS_ERROR_INIT;
    if (r->bus != NULL && dbus_connection_get_is_connected(r->bus)) {
        return 0;
    }
    leave_bus(r);
    r->bus = dbus_bus_get_private(DBUS_BUS_SYSTEM, &e);
    if (r->bus == NULL) {
        int code = mvpn_fault_set(fault, MVPN_E_SYSTEM, "cannot reach the system bus: %.200s",
                                  e.message != NULL ? e.message : "no reason");
        dbus_error_free(&e);
        return code;
    }
    dbus_connection_set_exit_on_disconnect(r->bus, false);
    /* It comes and goes: told, instead of found out a moment later. Not waited for. */
    dbus_bus_add_match(r->bus,
                       "type='signal',sender='" DBUS_SERVICE_DBUS
                       "',interface='" DBUS_INTERFACE_DBUS "',member='NameOwnerChanged',arg0='" NAME
                       "'",
                       NULL);
    dbus_connection_flush(r->bus);
    (void)dbus_connection_get_unix_fd(r->bus, &r->fd);
    return 0;
}

int mvpn_dns_resolved_open(mvpn_dns_resolved **ret, mvpn_fault *fault)
{
    mvpn_dns_resolved *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the name servers");
    }
    r->fd = -1;
    int code = join_bus(r, fault);
    if (code == 0 && !dbus_bus_name_has_owner(r->bus, NAME, NULL)) {
        code = mvpn_fault_set(fault, MVPN_E_UNKNOWN, "systemd-resolved does not run");
    }
    if (code != 0) {
        mvpn_dns_resolved_close(r);
        return code;
    }
    *ret = r;
    return 0;
}

void mvpn_dns_resolved_close(mvpn_dns_resolved *r)
{
    if (r != NULL) {
        leave_bus(r);
        free(r);
    }
}

int mvpn_dns_resolved_fd(const mvpn_dns_resolved *r)
{
    return r->fd;
}

int mvpn_dns_resolved_set(mvpn_dns_resolved *r, uint32_t index, const mvpn_addr *servers,
                          size_t count, mvpn_fault *fault)
{
    r->index = (int32_t)index;
    r->count = MVPN_MIN(count, (size_t)SERVERS_MAX);
    memcpy(r->servers, servers, r->count * sizeof(r->servers[0]));
    int code = join_bus(r, fault);
    return code != 0 ? code : set_link(r, fault);
}

/* Signals only wake; what they say is looked up. */
static void drain(mvpn_dns_resolved *r)
{
    DBusMessage *m = NULL;
    (void)dbus_connection_read_write(r->bus, 0);
    while ((m = dbus_connection_pop_message(r->bus)) != NULL) {
        dbus_message_unref(m);
    }
}

int mvpn_dns_resolved_tend(mvpn_dns_resolved *r, bool *ret_repaired, mvpn_fault *fault)
{
    bool is_set = false;
    *ret_repaired = false;
    int code = join_bus(r, fault);
    if (code != 0) {
        return code;
    }
    drain(r);
    code = check(r, &is_set, fault);
    if (code != 0 || is_set) {
        return code;
    }
    code = set_link(r, fault);
    *ret_repaired = code == 0;
    return code;
}

int mvpn_dns_resolved_restore(mvpn_dns_resolved *r, mvpn_fault *fault)
{
    mvpn_fault why = {.text = ""};
    int code = join_bus(r, fault);
    code = code != 0 ? code : call(r, link_call(r, "RevertLink"), false, NULL, &why);
    if (code == MVPN_E_REFUSED && strstr(why.text, "not known") != NULL) {
        return 0; /* "Link N not known": the device went first */
    }
    if (code != 0 && why.text[0] != '\0') {
        (void)mvpn_fault_set(fault, code, "%s", why.text);
    }
    return code == MVPN_E_UNKNOWN ? 0 : code; /* it forgets all links at its end */
}
