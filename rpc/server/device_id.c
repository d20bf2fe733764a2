#include "device_id.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "text.h"

enum { LONGEST_ID = 128, MACHINE_ID = 32 };

/* The first bytes of a file as a string, which ends where they have a NUL; empty where there is none. */
static void read_start(const char *root, const char *path, char text[LONGEST_ID + 1])
{
    char full[4096];
    snprintf(full, sizeof full, "%s%s", root, path);
    FILE *file = fopen(full, "re");
    text[file != NULL ? fread(text, 1, LONGEST_ID, file) : 0] = '\0';
    if (file != NULL)
        fclose(file);
}

void write_device_id(FILE *out, const char *root)
{
    static const char *const SERIALS[] = {"/proc/device-tree/serial-number",
                                          "/sys/firmware/devicetree/base/serial-number"};
    char text[LONGEST_ID + 1];
    for (size_t i = 0; i < 2; i++) {
        read_start(root, SERIALS[i], text);
        bool printable = *text != '\0';
        for (const char *at = text; *at != '\0'; at++)
            printable = printable && *at > ' ' && *at <= '~';
        if (printable && text[strspn(text, "0")] != '\0') { /* all zeros where nobody wrote one */
            write_json_string(out, text);
            return;
        }
    }
    read_start(root, "/etc/machine-id", text);
    if (strspn(text, "0123456789abcdef") != MACHINE_ID || (text[MACHINE_ID] != '\n' && text[MACHINE_ID] != '\0')) {
        write_json_string(out, NULL);
        return;
    }
    uint64_t number = 0xcbf29ce484222325; /* FNV-1a of 64 bits */
    for (const char *at = "ofa_tvm:"; *at != '\0'; at++)
        number = (number ^ (unsigned char)*at) * 0x100000001b3;
    for (size_t i = 0; i < MACHINE_ID; i++)
        number = (number ^ (unsigned char)text[i]) * 0x100000001b3;
    fprintf(out, "\"%016llx\"", (unsigned long long)number);
}
