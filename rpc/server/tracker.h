/* How a device offers itself at the tracker. Functions return what went wrong, or NULL. */
#ifndef OFA_TVM_TRACKER_H
#define OFA_TVM_TRACKER_H

#include <stdbool.h>

#define ANSWER_LIMIT_MS 10000

/* The connection that keeps a device in the tracker's list, and the key of its next client. */
struct registration {
    int connection; /* -1: none */
    const char *key;
    int port;
    char match_key[256];
};

const char *register_device(struct registration *registration, const char *host, int port);

void close_registration(struct registration *registration);

/* Put one free session into the tracker's queue, under a fresh match key. */
const char *offer_session(struct registration *registration);

/* Whether the tracker has given the offered session to a client. */
const char *is_claimed(struct registration *registration, bool *claimed);

#endif
