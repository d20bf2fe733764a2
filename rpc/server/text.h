/* What the server says to whoever started it, and time. */
#ifndef OFA_TVM_TEXT_H
#define OFA_TVM_TEXT_H

#include <stdint.h>
#include <stdio.h>

/* One line of the log, on stderr. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line of the log, then the end of the process with this exit status. */
void die(int status, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* Milliseconds of a clock that is never set. */
int64_t now_ms(void);

/* Milliseconds until a deadline, for poll: 0 when it has passed, -1 (for ever) when the deadline is NEVER. */
#define NEVER INT64_MAX
int ms_until(int64_t deadline);

/* The text as a JSON string, or null for NULL. */
void write_json_string(FILE *out, const char *text);

#endif
