#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net.h"
#include "text.h"

/* TVM's data plane (tvm/rpc/base.py). */
enum { RPC_MAGIC = 0xff271, RPC_CODE_SUCCESS = RPC_MAGIC, RPC_CODE_MISMATCH = RPC_MAGIC + 2 };
enum { POLL_PERIOD_MS = 1000, UNCLAIMED_PERIODS = 5, GREETING_LIMIT_MS = 10000, MOST_GREETINGS = 8 };
enum { HEADER = 8, LONGEST_WORDS = 1024 };

/* What a connection has sent so far of TVM's handshake: magic, length, `client:<match key>` and options. */
struct greeting {
    int connection;
    int64_t deadline;
    size_t received;
    struct {
        int32_t code, length;
        char words[LONGEST_WORDS];
    } data;
};

/* The listening socket, and those who have connected and not said yet who they are. */
struct door {
    int listener, count;
    bool refused;
    struct greeting greetings[MOST_GREETINGS];
};

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

/* Take what has come; what is wrong with it, or NULL. */
static const char *read_greeting(struct greeting *greeting, bool *complete)
{
    size_t wanted = HEADER + (greeting->received < HEADER ? 0 : (size_t)greeting->data.length);
    char *at = (char *)&greeting->data + greeting->received;
    ssize_t count = recv(greeting->connection, at, wanted - greeting->received, MSG_DONTWAIT);
    if (count == 0)
        return "connection closed";
    if (count < 0)
        return errno == EAGAIN || errno == EINTR ? NULL : strerror(errno);
    greeting->received += (size_t)count;
    if (greeting->received != wanted)
        return NULL;
    *complete = wanted > HEADER;
    if (!*complete && (greeting->data.code != RPC_MAGIC || greeting->data.length <= 0 ||
                       greeting->data.length >= LONGEST_WORDS))
        return "not an RPC client";
    return NULL;
}

/* Let our client in, or say why it is not ours. */
static const char *answer(const struct greeting *greeting, const struct registration *registration)
{
    struct {
        int32_t code, length;
        char name[300];
    } answer = {.code = RPC_CODE_SUCCESS};
    if (!knows(greeting->data.words, registration->match_key)) {
        answer.code = RPC_CODE_MISMATCH;
        send_all(greeting->connection, &answer.code, sizeof answer.code, now_ms());
        return "wrong match key";
    }
    answer.length = snprintf(answer.name, sizeof answer.name, "server:%s", registration->key);
    return send_all(greeting->connection, &answer, HEADER + (size_t)answer.length, now_ms());
}

static void forget(struct door *door, int place)
{
    door->count--;
    memmove(&door->greetings[place], &door->greetings[place + 1],
            (size_t)(door->count - place) * sizeof *door->greetings);
}

static void turn_away(struct door *door, int place, const char *reason)
{
    say("client turned away: %s", reason);
    close(door->greetings[place].connection);
    forget(door, place);
}

/* Take the next connection, whose greeting is then awaited; whether this machine could. */
static bool accept_connection(struct door *door)
{
    int connection = accept4(door->listener, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EAGAIN))
        return true;
    if (connection < 0) {
        if (!door->refused)
            say("cannot accept a client: %s; trying again every second", strerror(errno));
        door->refused = true;
        return false;
    }
    door->refused = false;
    if (door->count == MOST_GREETINGS)
        turn_away(door, 0, "too many connections that say nothing");
    door->greetings[door->count++] =
        (struct greeting){.connection = connection, .deadline = now_ms() + GREETING_LIMIT_MS};
    return true;
}

/* Wait for a connection or for more of a greeting, until the deadline or that of the oldest greeting. */
static void await_event(const struct door *door, int64_t deadline, struct pollfd *entries)
{
    for (int i = 0; i < door->count; i++)
        entries[i] = (struct pollfd){.fd = door->greetings[i].connection, .events = POLLIN};
    entries[door->count] = (struct pollfd){.fd = door->listener, .events = POLLIN};
    if (door->count > 0 && door->greetings[0].deadline < deadline)
        deadline = door->greetings[0].deadline;
    if (poll(entries, (nfds_t)door->count + 1, ms_until(deadline)) < 0)
        for (int i = 0; i <= door->count; i++)
            entries[i].revents = 0;
}

/* Our client's connection, or -1 if it does not come before the deadline. */
static int next_client(struct door *door, const struct registration *registration, int64_t deadline)
{
    struct pollfd entries[MOST_GREETINGS + 1];
    while (now_ms() < deadline) {
        while (door->count > 0 && door->greetings[0].deadline <= now_ms())
            turn_away(door, 0, "timed out");
        await_event(door, deadline, entries);
        bool connected = entries[door->count].revents != 0;
        for (int i = door->count - 1; i >= 0; i--) { /* backwards: whoever is turned away leaves no gap before others */
            bool complete = false;
            struct greeting *greeting = &door->greetings[i];
            const char *problem = entries[i].revents != 0 ? read_greeting(greeting, &complete) : NULL;
            if (problem == NULL && complete)
                problem = answer(greeting, registration);
            if (problem != NULL) {
                turn_away(door, i, problem);
            } else if (complete) {
                int client = greeting->connection;
                forget(door, i);
                return client;
            }
        }
        if (connected && !accept_connection(door))
            poll(NULL, 0, ms_until(deadline));
    }
    return -1;
}

static const char *wait_at(struct door *door, struct registration *registration, int *client)
{
    int claimed_periods = 0;
    const char *problem = offer_session(registration);
    while (problem == NULL) {
        *client = next_client(door, registration, now_ms() + POLL_PERIOD_MS);
        if (*client >= 0)
            return NULL;
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

const char *wait_for_client(int listener, struct registration *registration, int *client)
{
    struct door door = {.listener = listener};
    const char *problem = wait_at(&door, registration, client);
    for (int i = 0; i < door.count; i++) /* a session's process is not to have them */
        close(door.greetings[i].connection);
    if (problem == NULL)
        watch_peer(*client);
    return problem;
}
