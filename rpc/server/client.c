#include "client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"
#include "text.h"

/* TVM's data plane (tvm/rpc/base.py). */
enum { RPC_MAGIC = 0xff271, RPC_CODE_SUCCESS = RPC_MAGIC, RPC_CODE_MISMATCH = RPC_MAGIC + 2 };
enum { POLL_PERIOD_MS = 1000, UNCLAIMED_PERIODS = 5, LONGEST_WORDS = 1024 };

/* Whether the first of the words that a client sends is the one expected, without a hint by the time it takes. */
static bool knows(const char *words, const char *match_key)
{
    char expected[300];
    size_t length = (size_t)snprintf(expected, sizeof expected, "client:%s", match_key);
    unsigned char difference = 0;
    if (strcspn(words, " \t\r\n") != length)
        return false;
    for (size_t i = 0; i < length; i++)
        difference |= (unsigned char)(words[i] ^ expected[i]);
    return difference == 0;
}

/* Magic, length, `client:<match key>`, and options that are not for us; NULL when it is our client. */
static const char *greet(int client, const struct registration *registration)
{
    struct {
        int32_t code, length;
    } header;
    char words[LONGEST_WORDS] = {0};
    int64_t deadline = now_ms() + ANSWER_LIMIT_MS;
    const char *problem = receive_all(client, &header, sizeof header, deadline);
    if (problem != NULL)
        return problem;
    if (header.code != RPC_MAGIC || header.length <= 0 || header.length >= LONGEST_WORDS)
        return "not an RPC client";
    problem = receive_all(client, words, (size_t)header.length, deadline);
    if (problem != NULL)
        return problem;
    if (!knows(words, registration->match_key)) {
        header.code = RPC_CODE_MISMATCH;
        send_all(client, &header.code, sizeof header.code, deadline);
        return "wrong match key";
    }
    header.code = RPC_CODE_SUCCESS;
    header.length = snprintf(words, sizeof words, "server:%s", registration->key);
    problem = send_all(client, &header, sizeof header, deadline);
    return problem != NULL ? problem : send_all(client, words, (size_t)header.length, deadline);
}

/* The next connection, greeted; -1 for anybody but our client. */
static int accept_client(int listener, const struct registration *registration, const char **problem)
{
    int on = 1;
    int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) {
        if (errno != EINTR && errno != ECONNABORTED)
            *problem = strerror(errno);
        return -1;
    }
    const char *reason = greet(client, registration);
    if (reason != NULL) {
        say("client turned away: %s", reason);
        close(client);
        return -1;
    }
    setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return client;
}

const char *wait_for_client(int listener, struct registration *registration, int *client)
{
    int claimed_periods = 0;
    const char *problem = offer_session(registration);
    while (problem == NULL) {
        if (readable(listener, now_ms() + POLL_PERIOD_MS)) {
            *client = accept_client(listener, registration, &problem);
            if (*client >= 0)
                return NULL;
            continue;
        }
        bool claimed = false;
        problem = is_claimed(registration, &claimed);
        claimed_periods = claimed ? claimed_periods + 1 : 0;
        if (problem == NULL && claimed_periods >= UNCLAIMED_PERIODS) { /* whoever got the key died before it came */
            problem = offer_session(registration);
            claimed_periods = 0;
        }
    }
    return problem;
}
