/* The command line. */
#ifndef OFA_TVM_OPTIONS_H
#define OFA_TVM_OPTIONS_H

struct options {
    const char *tracker; /* as it was given */
    char tracker_host[256];
    int tracker_port;
    const char *key;
    const char *host;
    int port;
    int listen_fd; /* -1: bind host and port */
    int threads;
    double session_limit_s; /* 0: none */
    char libraries[4096];
};

/* The options given; a mistake ends the process with one line and status 2. */
struct options parse_options(int count, char **arguments);

#endif
