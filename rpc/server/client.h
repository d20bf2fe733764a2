/* How a client that was given the offer is recognised. */
#ifndef OFA_TVM_CLIENT_H
#define OFA_TVM_CLIENT_H

#include "tracker.h"

/* Offer a session and wait for the client that knows its match key; what went wrong with the tracker, or NULL. */
const char *wait_for_client(int listener, struct registration *registration, int *client);

#endif
