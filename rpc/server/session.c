#include "session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime.h"
#include "text.h"
#include "workspace.h"

enum { HANG_UP_GRACE_MS = 1000, TELL_LIMIT_S = 5 };

void __lsan_do_leak_check(void) __attribute__((weak)); /* there in a build with --sanitize */

static const int STOPPING[] = {SIGTERM, SIGINT, SIGHUP};
static sigset_t watched;
static int signals = -1;

/* The last client that was told why its session ended. What a client sends to a closed connection destroys what it has
   not read yet, so this one stays open until another is told. */
static int told_last = -1;

enum outcome { ENDED, CLIENT_GONE, OVERTIME, STOPPED };

static void stop_at_once(int number)
{
    static const char line[] = "rpc server: stopped\n";
    (void)number;
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0) {} /* nobody is left to be told */
    if (__lsan_do_leak_check != NULL)
        __lsan_do_leak_check();
    _exit(0);
}

void prepare_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* whoever started the server may have it ignored, and nothing could be waited for */
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    for (size_t i = 0; i < sizeof STOPPING / sizeof *STOPPING; i++) {
        if (signal(STOPPING[i], stop_at_once) == SIG_IGN && STOPPING[i] == SIGHUP)
            signal(SIGHUP, SIG_IGN); /* nohup is to keep its meaning */
        else
            sigaddset(&watched, STOPPING[i]);
    }
    signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        die(1, "signalfd: %s", strerror(errno));
    sigprocmask(SIG_UNBLOCK, &watched, NULL);
}

/* The session's process: serve the client until it hangs up. */
static void run_session(int client, const char *workspace, pid_t parent)
{
    struct rlimit none = {0, 0};
    char message[1024];
    for (size_t i = 0; i < sizeof STOPPING / sizeof *STOPPING; i++)
        if (sigismember(&watched, STOPPING[i]))
            signal(STOPPING[i], SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &watched, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &none);
    if (getppid() != parent) /* it died before prctl, and no signal will come */
        _exit(1);
    if (!enter_workspace(workspace)) {
        say("session: %s: %s", workspace, strerror(errno));
        _exit(1);
    }
    TVMFFIAny argument = int_value(client), result;
    if (call_global("rpc.ServerLoop", &argument, 1, &result) != 0) {
        take_error(message, sizeof message);
        say("session: %s", message);
        _exit(1);
    }
    _exit(0);
}

/* Whether a signal that stops the server has come; the others only say that it is worth looking again. */
static bool told_to_stop(void)
{
    struct signalfd_siginfo info;
    bool stop = false;
    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info)
        stop = stop || info.ssi_signo != SIGCHLD;
    return stop;
}

/* Wait for the end of the session's process, or bring it about. */
static enum outcome await_end(pid_t session, int client, double limit_s, int *status)
{
    enum outcome outcome = ENDED, late = OVERTIME;
    int64_t deadline = limit_s > 0 ? now_ms() + (int64_t)(limit_s * 1000) : NEVER;
    struct pollfd entries[] = {{.fd = signals, .events = POLLIN}, {.fd = client, .events = POLLRDHUP}};
    while (waitpid(session, status, WNOHANG) != session) {
        int count = poll(entries, 2, ms_until(deadline));
        if (told_to_stop())
            outcome = STOPPED;
        else if (count == 0 && deadline != NEVER && now_ms() >= deadline)
            outcome = late;
        else if (count > 0 && entries[1].revents != 0) {
            entries[1].fd = -1;
            late = CLIENT_GONE;
            deadline = now_ms() + HANG_UP_GRACE_MS;
        }
        if (outcome != ENDED) {
            kill(session, SIGKILL);
            waitpid(session, status, 0);
            break;
        }
    }
    return outcome;
}

/* Tell the client why its session ended, as an RPC exception; it may be gone already. */
static bool tell_client(int client, const char *reason)
{
    char message[1024];
    struct timeval limit = {.tv_sec = TELL_LIMIT_S};
    TVMFFIAny arguments[] = {int_value(client), string_value(reason)}, result;
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (call_global("rpc.ReturnException", arguments, 2, &result) != 0) {
        take_error(message, sizeof message);
        say("client not told: %.*s", (int)strcspn(message, "\n"), message);
        return false;
    }
    shutdown(client, SHUT_WR); /* there is no answer to anything else */
    return true;
}

static const char *name_of(int number)
{
    static const struct {
        int number;
        const char *name;
    } NAMES[] = {{SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},   {SIGILL, "SIGILL"},
                 {SIGFPE, "SIGFPE"},   {SIGKILL, "SIGKILL"}, {SIGTERM, "SIGTERM"}, {SIGTRAP, "SIGTRAP"}};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (NAMES[i].number == number)
            return NAMES[i].name;
    return strsignal(number);
}

/* Log how the session ended; whether the client was told. */
static bool report(int client, enum outcome outcome, int status, double limit_s)
{
    char reason[256];
    if (outcome == CLIENT_GONE)
        say("client gone, session killed");
    if (outcome == OVERTIME) {
        snprintf(reason, sizeof reason, "the session was ended after %g s, the server's --session-limit", limit_s);
        say("%s", reason);
        return tell_client(client, reason);
    }
    if (outcome == ENDED && WIFSIGNALED(status)) {
        say("session ended by %s", name_of(WTERMSIG(status)));
        snprintf(reason, sizeof reason, "the process that ran the job was ended by %s", name_of(WTERMSIG(status)));
        return tell_client(client, reason);
    }
    return false;
}

/* Fork a session and see it through to its end; whether the client was told why. */
static bool run_in_workspace(const char *workspace, int client, const int others[2], double limit_s)
{
    int status = 0;
    pid_t parent = getpid(), session = fork();
    if (session < 0) {
        say("session: fork: %s", strerror(errno)); /* the next client may have more luck */
        return false;
    }
    if (session == 0) {
        const int inherited[] = {others[0], others[1], signals, told_last};
        for (size_t i = 0; i < sizeof inherited / sizeof *inherited; i++)
            close(inherited[i]);
        run_session(client, workspace, parent);
    }
    enum outcome outcome = await_end(session, client, limit_s, &status);
    if (outcome == STOPPED) {
        remove_workspace(workspace);
        stop_at_once(SIGTERM);
    }
    return report(client, outcome, status, limit_s);
}

void serve_session(int client, int listener, int tracker, double limit_s)
{
    char workspace[4096];
    bool told = false;
    sigprocmask(SIG_BLOCK, &watched, NULL); /* from here on a signal is read from the descriptor, not handled */
    int lock = make_workspace(workspace, sizeof workspace);
    if (lock >= 0) {
        const int others[] = {listener, tracker};
        told = run_in_workspace(workspace, client, others, limit_s);
        remove_workspace(workspace);
        close(lock);
    } else {
        say("session: %s: %s", workspace, strerror(errno));
    }
    if (told) {
        int previous = told_last;
        told_last = client;
        client = previous;
    }
    if (client >= 0)
        close(client);
    sigprocmask(SIG_UNBLOCK, &watched, NULL);
}
