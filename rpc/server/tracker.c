#include "tracker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net.h"
#include "text.h"

/* TVM's tracker protocol (tvm/rpc/base.py): little-endian integers, JSON with its length in front. */
enum { TRACKER_MAGIC = 0x2f271, LONGEST_ANSWER = 1 << 20 };
enum { PUT = 3, UPDATE_INFO = 5, GET_PENDING_MATCHKEYS = 7 };

/* The tracker's answer to a message, which is the caller's to free. */
static const char *ask(int tracker, const char *message, char **answer)
{
    int64_t deadline = now_ms() + ANSWER_LIMIT_MS;
    int32_t size = (int32_t)strlen(message);
    int on = 1;
    /* The answer comes in two parts; the second would wait 40 ms for the first to be acknowledged. */
    setsockopt(tracker, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    const char *problem = send_all(tracker, &size, sizeof size, deadline);
    if (problem == NULL)
        problem = send_all(tracker, message, (size_t)size, deadline);
    if (problem == NULL)
        problem = receive_all(tracker, &size, sizeof size, deadline);
    if (problem != NULL)
        return problem;
    if (size <= 0 || size > LONGEST_ANSWER)
        return "the answer is not a tracker's";
    char *text = calloc(1, (size_t)size + 1);
    if (text == NULL)
        return "no memory";
    problem = receive_all(tracker, text, (size_t)size, deadline);
    if (problem == NULL)
        *answer = text;
    else
        free(text);
    return problem;
}

/* Send a message to which the answer is 0. */
static const char *tell(int tracker, const char *message)
{
    char *answer;
    const char *problem = ask(tracker, message, &answer);
    if (problem != NULL)
        return problem;
    problem = strcmp(answer, "0") == 0 ? NULL : "the tracker refused the device";
    free(answer);
    return problem;
}

const char *register_device(struct registration *registration, const char *host, int port)
{
    int32_t magic = TRACKER_MAGIC, answer = 0;
    char message[512];
    int64_t deadline = now_ms() + ANSWER_LIMIT_MS;
    const char *problem = connect_to(host, port, deadline, &registration->connection);
    if (problem != NULL)
        return problem;
    problem = send_all(registration->connection, &magic, sizeof magic, deadline);
    if (problem == NULL)
        problem = receive_all(registration->connection, &answer, sizeof answer, deadline);
    if (problem != NULL)
        return problem;
    if (answer != TRACKER_MAGIC)
        return "not an RPC tracker";
    snprintf(message, sizeof message, "[%d, {\"key\": \"server:%s\", \"addr\": [null, %d]}]", UPDATE_INFO,
             registration->key, registration->port);
    return tell(registration->connection, message);
}

void close_registration(struct registration *registration)
{
    if (registration->connection >= 0)
        close(registration->connection);
    registration->connection = -1;
}

const char *offer_session(struct registration *registration)
{
    uint64_t secret[2];
    char message[1024];
    if (syscall(SYS_getrandom, secret, sizeof secret, 0) != (long)sizeof secret) /* glibc has it since 2.25 only */
        return strerror(errno);
    snprintf(registration->match_key, sizeof registration->match_key, "%s:%016llx%016llx", registration->key,
             (unsigned long long)secret[0], (unsigned long long)secret[1]);
    snprintf(message, sizeof message, "[%d, \"%s\", [%d, \"%s\"], null]", PUT, registration->key, registration->port,
             registration->match_key);
    return tell(registration->connection, message);
}

const char *is_claimed(struct registration *registration, bool *claimed)
{
    char message[16], *pending;
    snprintf(message, sizeof message, "[%d]", GET_PENDING_MATCHKEYS);
    const char *problem = ask(registration->connection, message, &pending);
    if (problem != NULL)
        return problem;
    size_t length = strlen(pending);
    if (length < 2 || *pending != '[' || pending[length - 1] != ']')
        problem = "the answer is not a tracker's";
    /* The list holds the key as it was sent, or, beyond ASCII, escaped: its random part is plain in any case. */
    *claimed = strstr(pending, strrchr(registration->match_key, ':')) == NULL;
    free(pending);
    return problem;
}
