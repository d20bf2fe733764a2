#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "text.h"

static const char TOO_LATE[] = "timed out";

/* Wait until one of these events; false when the deadline has passed. */
static bool wait_for(int connection, short events, int64_t deadline)
{
    struct pollfd entry = {.fd = connection, .events = events};
    int count;
    do
        count = poll(&entry, 1, ms_until(deadline));
    while (count < 0 && errno == EINTR);
    return count > 0;
}

static const char *resolve(const char *host, int port, struct addrinfo **addresses)
{
    char service[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    snprintf(service, sizeof service, "%d", port);
    int problem = getaddrinfo(host, service, &hints, addresses);
    return problem == 0 ? NULL : gai_strerror(problem);
}

static const char *connect_address(const struct addrinfo *address, int64_t deadline, int *connection)
{
    int error = 0, on = 1;
    socklen_t size = sizeof error;
    int candidate = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (candidate < 0)
        return strerror(errno);
    if (connect(candidate, address->ai_addr, address->ai_addrlen) != 0) {
        error = errno;
        if (error == EINPROGRESS) {
            if (!wait_for(candidate, POLLOUT, deadline))
                error = ETIMEDOUT;
            else
                getsockopt(candidate, SOL_SOCKET, SO_ERROR, &error, &size);
        }
    }
    if (error != 0) {
        close(candidate);
        return strerror(error);
    }
    setsockopt(candidate, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a message goes out in two parts */
    *connection = candidate;
    return NULL;
}

const char *connect_to(const char *host, int port, int64_t deadline, int *connection)
{
    struct addrinfo *addresses;
    const char *problem = resolve(host, port, &addresses);
    if (problem != NULL)
        return problem;
    for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next) {
        problem = connect_address(address, deadline, connection);
        if (problem == NULL)
            break;
    }
    freeaddrinfo(addresses);
    return problem;
}

int listen_on(const char *host, int port)
{
    struct addrinfo *addresses;
    int on = 1;
    const char *problem = resolve(host, port, &addresses);
    if (problem != NULL)
        die(2, "cannot listen on %s:%d: %s", host, port, problem);
    int listener = socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, addresses->ai_addr, addresses->ai_addrlen) != 0 || listen(listener, 128) != 0)
        die(2, "cannot listen on %s:%d: %s", host, port, strerror(errno));
    freeaddrinfo(addresses);
    return listener;
}

int port_of(int listener)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    int listening = 0;
    socklen_t flag_size = sizeof listening;
    if (getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listening, &flag_size) != 0 || !listening ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        die(2, "--listen-fd %d is no listening socket", listener);
    fcntl(listener, F_SETFD, FD_CLOEXEC);
    if (strncmp(host, "127.", 4) != 0 && strcmp(host, "::1") != 0)
        say("warning: %s is reachable from other machines, and TVM RPC runs any code it is sent, without a"
            " password; use this on a trusted network only, or loopback and an SSH tunnel",
            host);
    int number = 0;
    sscanf(port, "%d", &number);
    return number;
}

const char *send_all(int connection, const void *data, size_t size, int64_t deadline)
{
    for (const char *at = data; size > 0;) {
        if (!wait_for(connection, POLLOUT, deadline))
            return TOO_LATE;
        ssize_t count = send(connection, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno != EAGAIN && errno != EINTR)
            return strerror(errno);
        if (count > 0)
            at += count, size -= (size_t)count;
    }
    return NULL;
}

const char *receive_all(int connection, void *data, size_t size, int64_t deadline)
{
    for (char *at = data; size > 0;) {
        if (!wait_for(connection, POLLIN, deadline))
            return TOO_LATE;
        ssize_t count = recv(connection, at, size, MSG_DONTWAIT);
        if (count == 0)
            return "connection closed";
        if (count < 0 && errno != EAGAIN && errno != EINTR)
            return strerror(errno);
        if (count > 0)
            at += count, size -= (size_t)count;
    }
    return NULL;
}

void watch_peer(int connection)
{
    static const struct {
        int level, name, value;
    } OPTIONS[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 15},
        {IPPROTO_TCP, TCP_KEEPINTVL, 5}, {IPPROTO_TCP, TCP_KEEPCNT, 3}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 30000},
    };
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++)
        setsockopt(connection, OPTIONS[i].level, OPTIONS[i].name, &OPTIONS[i].value, sizeof OPTIONS[i].value);
}
