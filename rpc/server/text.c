#include "text.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

static void say_arguments(const char *format, va_list arguments)
{
    char line[2048]; /* one write a line, so that a session's output does not get between */
    int length = snprintf(line, sizeof line - 1, "rpc server: ");
    vsnprintf(line + length, sizeof line - 1 - (size_t)length, format, arguments);
    fprintf(stderr, "%s\n", line);
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_arguments(format, arguments);
    va_end(arguments);
}

void die(int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_arguments(format, arguments);
    va_end(arguments);
    exit(status);
}

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int ms_until(int64_t deadline)
{
    if (deadline == NEVER)
        return -1;
    int64_t left = deadline - now_ms();
    return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

void write_json_string(FILE *out, const char *text)
{
    if (text == NULL) {
        fputs("null", out);
        return;
    }
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20 || *at >= 0x7f) /* nothing here says what bytes beyond ASCII mean */
            fprintf(out, "\\u%04x", *at < 0x20 ? *at : 0xfffd);
        else
            fputc(*at, out);
    }
    fputc('"', out);
}
