#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include "device_info.h"
#include "text.h"

static const char HELP[] =
    "usage: ofa_tvm-rpc-server --tracker HOST:PORT --key KEY [options]\n"
    "\n"
    "Register this device at an RPC tracker and serve its clients, each in a process of its own.\n"
    "\n"
    "  --tracker HOST:PORT      where to register\n"
    "  --key KEY                device key: the name of the target, such as rasp4\n"
    "  --host HOST              address to listen on (default: 127.0.0.1)\n"
    "  --port N                 port to listen on (default: any free one)\n"
    "  --listen-fd N            serve on this inherited listening socket instead\n"
    "  --threads N              threads a kernel may use (default: 1)\n"
    "  --session-limit SECONDS  end a session that lasts longer (default: 0, no limit)\n"
    "  --libraries DIR          folder of libtvm_ffi.so and libtvm_runtime.so (default: this program's folder)\n"
    "  --device-info [ROOT]     print what is known of this device as JSON, and end\n"
    "  --version, --help        print, and end\n";

static int whole_number(const char *name, const char *text, int least, int most)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end != '\0' || errno != 0 || number < least || number > most)
        die(2, "%s %s is not a whole number from %d to %d", name, text, least, most);
    return (int)number;
}

static double seconds(const char *name, const char *text)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= 0) || number > 1e6)
        die(2, "%s %s is not a number of seconds", name, text);
    return number;
}

/* Without the brackets that an IPv6 address may have. */
static char *bare_host(char *host)
{
    size_t length = strlen(host);
    if (length > 2 && host[0] == '[' && host[length - 1] == ']') {
        memmove(host, host + 1, length - 2);
        host[length - 2] = '\0';
    }
    return host;
}

static void tracker_address(struct options *options, const char *text)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || (size_t)(colon - text) >= sizeof options->tracker_host)
        die(2, "--tracker %s is not HOST:PORT, such as 127.0.0.1:9190 or [::1]:9190", text);
    options->tracker = text;
    int length = (int)(colon - text);
    if (memchr(text, ':', (size_t)length) != NULL && (*text != '[' || colon[-1] != ']'))
        die(2, "--tracker %s: write an IPv6 address in brackets: [%.*s]%s", text, length, text, colon);
    snprintf(options->tracker_host, sizeof options->tracker_host, "%.*s", length, text);
    bare_host(options->tracker_host);
    options->tracker_port = whole_number("--tracker's port", colon + 1, 1, 65535);
}

/* A key goes as it is into JSON and into words divided by blanks and colons. */
static const char *device_key(const char *text)
{
    for (const char *at = text; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && (unsigned char)*at < 0x80 && strchr("_.-", *at) == NULL)
            text = "";
    if (*text == '\0' || strlen(text) > 200)
        die(2, "--key is to be 1 to 200 letters, digits, dots, hyphens or underscores, such as rasp4");
    return text;
}

static void own_folder(char *folder, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", folder, size - 1);
    if (length < 0)
        die(2, "cannot tell where this program lies: %s; say --libraries DIR", strerror(errno));
    folder[length] = '\0';
    *strrchr(folder, '/') = '\0';
}

static void print_version(void)
{
    printf("ofa_tvm rpc server, native, for %s, tvm-ffi %d.%d\n", TARGET_ARCH, TVM_FFI_VERSION_MAJOR,
           TVM_FFI_VERSION_MINOR);
}

static void print_device_info(const struct options *options, const char *root)
{
    char *json = device_info(root, options->libraries);
    puts(json);
    free(json);
}

struct options parse_options(int count, char **arguments)
{
    enum { TRACKER, KEY, HOST, PORT, LISTEN_FD, THREADS, SESSION_LIMIT, LIBRARIES, DEVICE_INFO, VERSION, HELP_ASKED };
    static const struct option NAMES[] = {
        {"tracker", required_argument, NULL, TRACKER},
        {"key", required_argument, NULL, KEY},
        {"host", required_argument, NULL, HOST},
        {"port", required_argument, NULL, PORT},
        {"listen-fd", required_argument, NULL, LISTEN_FD},
        {"threads", required_argument, NULL, THREADS},
        {"session-limit", required_argument, NULL, SESSION_LIMIT},
        {"libraries", required_argument, NULL, LIBRARIES},
        {"device-info", no_argument, NULL, DEVICE_INFO},
        {"version", no_argument, NULL, VERSION},
        {"help", no_argument, NULL, HELP_ASKED},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.host = "127.0.0.1", .listen_fd = -1, .threads = 1};
    int ask_device_info = 0;
    opterr = 0;
    for (int option; (option = getopt_long(count, arguments, ":", NAMES, NULL)) != -1;) {
        switch (option) {
        case TRACKER: tracker_address(&options, optarg); break;
        case KEY: options.key = device_key(optarg); break;
        case HOST: options.host = bare_host(optarg); break;
        case PORT: options.port = whole_number("--port", optarg, 0, 65535); break;
        case LISTEN_FD: options.listen_fd = whole_number("--listen-fd", optarg, 0, INT_MAX); break;
        case THREADS: options.threads = whole_number("--threads", optarg, 1, 1024); break;
        case SESSION_LIMIT: options.session_limit_s = seconds("--session-limit", optarg); break;
        case LIBRARIES: snprintf(options.libraries, sizeof options.libraries, "%s", optarg); break;
        case DEVICE_INFO: ask_device_info = 1; break;
        case VERSION: print_version(); exit(0);
        case HELP_ASKED: fputs(HELP, stdout); exit(0);
        case ':': die(2, "%s needs a value; see --help", arguments[optind - 1]);
        default: die(2, "unknown option %s; see --help", arguments[optind - 1]);
        }
    }
    if (options.libraries[0] == '\0')
        own_folder(options.libraries, sizeof options.libraries);
    if (ask_device_info) {
        print_device_info(&options, optind < count ? arguments[optind] : "");
        exit(0);
    }
    if (optind < count)
        die(2, "unexpected %s; see --help", arguments[optind]);
    if (options.tracker_port == 0 || options.key == NULL)
        die(2, "--tracker HOST:PORT and --key KEY are needed; see --help");
    return options;
}
