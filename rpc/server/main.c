/* RPC server for a device without a fit Python: what rpc/server.py does, over the C ABI of tvm-ffi.

   It has no threads: a session is a child process that is killed when its client hangs up, and the client is told
   when the child dies. TVM's runtime is loaded before the first fork, which takes milliseconds and starts no thread. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client.h"
#include "net.h"
#include "options.h"
#include "runtime.h"
#include "session.h"
#include "text.h"
#include "tracker.h"
#include "workspace.h"

enum { RECONNECT_PERIOD_S = 1 };

static void prepare_environment(int threads)
{
    char count[16];
    snprintf(count, sizeof count, "%d", threads);
    setenv("TVM_NUM_THREADS", count, 1);
    setenv("OMP_NUM_THREADS", count, 1);
}

/* Register at the tracker and serve one client after the other, for ever. */
static void serve(const struct options *options, int listener, int port)
{
    struct registration registration = {.connection = -1, .key = options->key, .port = port};
    for (bool outage = false;;) {
        int client = -1;
        const char *problem = NULL;
        if (registration.connection < 0) {
            problem = register_device(&registration, options->tracker_host, options->tracker_port);
            if (problem == NULL) {
                say("%s registered at %s", options->key, options->tracker);
                outage = false;
            }
        }
        if (problem == NULL)
            problem = wait_for_client(listener, &registration, &client);
        if (problem != NULL) {
            if (!outage)
                say("tracker %s: %s; trying again every second", options->tracker,
                    problem);
            outage = true;
            close_registration(&registration);
            sleep(RECONNECT_PERIOD_S);
            continue;
        }
        serve_session(client, listener, registration.connection, options->session_limit_s);
    }
}

int main(int count, char **arguments)
{
    struct options options = parse_options(count, arguments);
    prepare_environment(options.threads);
    prepare_signals();
    int listener = options.listen_fd >= 0 ? options.listen_fd : listen_on(options.host, options.port);
    int port = port_of(listener);
    load_runtime(options.libraries);
    register_functions(options.libraries);
    remove_abandoned_workspaces();
    serve(&options, listener, port);
}
