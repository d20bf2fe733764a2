/* Sockets on which every wait has a limit. A function that can fail returns what went wrong, or NULL. */
#ifndef OFA_TVM_NET_H
#define OFA_TVM_NET_H

#include <stddef.h>
#include <stdint.h>

const char *connect_to(const char *host, int port, int64_t deadline, int *connection);

/* Listen on exactly this address, or die. */
int listen_on(const char *host, int port);

/* The port that a listening socket has, and a warning where other machines can reach it. */
int port_of(int listener);

const char *send_all(int connection, const void *data, size_t size, int64_t deadline);
const char *receive_all(int connection, void *data, size_t size, int64_t deadline);

/* Have the kernel find out within half a minute that the peer's machine is gone, silent or amid what is sent to it. */
void watch_peer(int connection);

#endif
