#include "device_info.h"

#include <ctype.h>
#include <glob.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "device_id.h"
#include "text.h"

#define CPUFREQ "/sys/devices/system/cpu/cpu0/cpufreq/"

enum { LINE = 8192 };

/* Arm's part numbers, which /proc/cpuinfo gives in place of a name; the same table is in device_info.py. */
static const struct {
    const char *part, *name;
} ARM_PARTS[] = {
    {"0xd03", "Cortex-A53"},    {"0xd04", "Cortex-A35"},    {"0xd05", "Cortex-A55"},  {"0xd07", "Cortex-A57"},
    {"0xd08", "Cortex-A72"},    {"0xd09", "Cortex-A73"},    {"0xd0a", "Cortex-A75"},  {"0xd0b", "Cortex-A76"},
    {"0xd0c", "Neoverse-N1"},   {"0xd0d", "Cortex-A77"},    {"0xd40", "Neoverse-V1"}, {"0xd41", "Cortex-A78"},
    {"0xd42", "Cortex-A78AE"},  {"0xd44", "Cortex-X1"},     {"0xd46", "Cortex-A510"}, {"0xd47", "Cortex-A710"},
    {"0xd48", "Cortex-X2"},     {"0xd49", "Neoverse-N2"},   {"0xd4d", "Cortex-A715"}, {"0xd4e", "Cortex-X3"},
    {"0xd4f", "Neoverse-V2"},   {"0xd80", "Cortex-A520"},   {"0xd81", "Cortex-A720"}, {"0xd82", "Cortex-X4"},
};

#define ARM_PART_COUNT (sizeof ARM_PARTS / sizeof *ARM_PARTS)

static FILE *open_under(const char *root, const char *path)
{
    char full[LINE];
    snprintf(full, sizeof full, "%s%s", root, path);
    return fopen(full, "re");
}

/* The first line of a file without its end; false where there is none. */
static bool first_line(const char *root, const char *path, char *line, int size)
{
    FILE *file = open_under(root, path);
    bool found = file != NULL && fgets(line, size, file) != NULL;
    if (file != NULL)
        fclose(file);
    if (found)
        line[strcspn(line, "\n")] = '\0';
    return found && *line != '\0';
}

/* The value of a line `name : value`, or NULL; the line is cut. */
static char *value_of(char *line, const char *name)
{
    size_t length = strlen(name);
    if (strncmp(line, name, length) != 0 || strchr("\t :", line[length]) == NULL)
        return NULL;
    char *value = strchr(line, ':');
    if (value == NULL)
        return NULL;
    value += 1 + strspn(value + 1, " \t");
    size_t end = strlen(value);
    while (end > 0 && isspace((unsigned char)value[end - 1]))
        end--;
    value[end] = '\0';
    return value;
}

/* `"name": ` and a number's thousandths (or MiB of kB); null where the text has none. */
static void write_number(FILE *out, const char *name, const char *text, long divisor)
{
    if (text != NULL && isdigit((unsigned char)*text))
        fprintf(out, ", \"%s\": %ld", name, atol(text) / divisor);
    else
        fprintf(out, ", \"%s\": null", name);
}

static void write_features(FILE *out, char *features)
{
    fputs(", \"cpu_features\": [", out);
    char *state, *word = features != NULL ? strtok_r(features, " ", &state) : NULL;
    for (bool first = true; word != NULL; word = strtok_r(NULL, " ", &state), first = false) {
        fputs(first ? "" : ", ", out);
        write_json_string(out, word);
    }
    fputs("]", out);
}

/* The names of all kinds of Arm core, in the order of their first appearance. */
static void add_part(char *model, size_t size, const char *part, bool *seen)
{
    for (size_t i = 0; i < ARM_PART_COUNT; i++)
        if (strcmp(ARM_PARTS[i].part, part) == 0 && !seen[i]) {
            size_t length = strlen(model);
            snprintf(model + length, size - length, "%s%s", length > 0 ? " + " : "", ARM_PARTS[i].name);
            seen[i] = true;
        }
}

/* The model's name, or those of all kinds of Arm core, and the first core's features. */
static void write_cpu(FILE *out, const char *root)
{
    char line[LINE], features[LINE] = "", model[512] = "", *value;
    bool arm = false, named = false, seen[ARM_PART_COUNT] = {false};
    FILE *file = open_under(root, "/proc/cpuinfo");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if ((value = value_of(line, "model name")) != NULL) {
            if (!named && *value != '\0')
                snprintf(model, sizeof model, "%s", value);
            named = named || *value != '\0';
        } else if ((value = value_of(line, "CPU implementer")) != NULL) {
            arm = strcmp(value, "0x41") == 0;
        } else if ((value = value_of(line, "CPU part")) != NULL && !named && arm) {
            add_part(model, sizeof model, value, seen);
        } else if (*features == '\0' &&
                   ((value = value_of(line, "flags")) != NULL || (value = value_of(line, "Features")) != NULL)) {
            snprintf(features, sizeof features, "%s", value);
        }
    }
    if (file != NULL)
        fclose(file);
    fputs(", \"cpu_model\": ", out);
    write_json_string(out, *model != '\0' ? model : NULL);
    write_features(out, features);
}

static void write_memory(FILE *out, const char *root)
{
    static const char *const NAMES[][2] = {{"MemTotal", "memory_total_mib"}, {"MemAvailable", "memory_available_mib"}};
    for (size_t i = 0; i < 2; i++) {
        char line[LINE], *value = NULL;
        FILE *file = open_under(root, "/proc/meminfo");
        while (file != NULL && value == NULL && fgets(line, sizeof line, file) != NULL)
            value = value_of(line, NAMES[i][0]);
        if (file != NULL)
            fclose(file);
        write_number(out, NAMES[i][1], value, 1024);
    }
}

static void write_temperature(FILE *out, const char *root)
{
    char pattern[LINE], line[64];
    bool known = false;
    long hottest = 0;
    glob_t zones;
    snprintf(pattern, sizeof pattern, "%s/sys/class/thermal/thermal_zone*/temp", root);
    if (glob(pattern, 0, NULL, &zones) == 0) {
        for (size_t i = 0; i < zones.gl_pathc; i++) {
            char *end;
            if (!first_line("", zones.gl_pathv[i], line, sizeof line))
                continue;
            long milli = strtol(line, &end, 10);
            if (end != line && (!known || milli > hottest))
                hottest = milli, known = true;
        }
    }
    globfree(&zones);
    if (known)
        fprintf(out, ", \"temperature_c\": %.1f", (double)hottest / 1000);
    else
        fputs(", \"temperature_c\": null", out);
}

static void write_clocks(FILE *out, const char *root)
{
    static const char *const NAMES[][2] = {{CPUFREQ "scaling_cur_freq", "clock_mhz"},
                                           {CPUFREQ "cpuinfo_max_freq", "max_clock_mhz"}};
    char line[256];
    fputs(", \"governor\": ", out);
    write_json_string(out, first_line(root, CPUFREQ "scaling_governor", line, sizeof line) ? line : NULL);
    for (size_t i = 0; i < 2; i++)
        write_number(out, NAMES[i][1], first_line(root, NAMES[i][0], line, sizeof line) ? line : NULL, 1000);
}

/* The file `versions`, a line `name version` for each library. */
static void write_versions(FILE *out, const char *libraries)
{
    char line[512], name[256], version[256];
    bool first = true;
    FILE *file = open_under(libraries, "/versions");
    fputs(", \"versions\": {", out);
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%255s %255s", name, version) != 2)
            continue;
        fputs(first ? "" : ", ", out);
        write_json_string(out, name);
        fputs(": ", out);
        write_json_string(out, version);
        first = false;
    }
    if (file != NULL)
        fclose(file);
    fputs("}", out);
}

/* Those the server was given, such as by taskset. */
static long usable_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
}

char *device_info(const char *root, const char *libraries)
{
    char *json = NULL, system[200], emulated[LINE];
    size_t size;
    struct utsname name;
    FILE *out = open_memstream(&json, &size);
    if (out == NULL)
        die(1, "no memory");
    uname(&name);
    snprintf(system, sizeof system, "%s %s", name.sysname, name.release);
    fputs("{\"server\": \"native\", \"hostname\": ", out);
    write_json_string(out, name.nodename);
    fputs(", \"id\": ", out);
    write_device_id(out, root);
    fputs(", \"system\": ", out);
    write_json_string(out, system);
    fputs(", \"machine\": ", out);
    write_json_string(out, name.machine);
    write_cpu(out, root);
    fprintf(out, ", \"cores\": %ld", usable_cores());
    write_memory(out, root);
    write_temperature(out, root);
    write_clocks(out, root);
    snprintf(emulated, sizeof emulated, "%s/etc/ofa_tvm-emulated", root);
    fprintf(out, ", \"emulated\": %s", access(emulated, F_OK) == 0 ? "true" : "false");
    write_versions(out, libraries);
    fputs("}", out);
    fclose(out);
    return json;
}
