#include "workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device_info.h"
#include "runtime.h"

static char current[4096];
static const char *libraries_folder;

static void pattern_of_workspaces(char *path, size_t size, const char *end)
{
    const char *parent = getenv("TMPDIR");
    snprintf(path, size, "%s/ofa_tvm_rpc_%s", parent != NULL && *parent != '\0' ? parent : "/tmp", end);
}

/* A descriptor with the workspace's lock, or -1 where somebody else has it or owns the folder. */
static int claim(const char *path)
{
    struct stat status;
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return -1;
    if (fstat(folder, &status) == 0 && status.st_uid == geteuid() && flock(folder, LOCK_EX | LOCK_NB) == 0)
        return folder;
    close(folder);
    return -1;
}

int make_workspace(char *path, size_t size)
{
    char files[4200];
    pattern_of_workspaces(path, size, "XXXXXX");
    if (mkdtemp(path) == NULL)
        return -1;
    snprintf(files, sizeof files, "%s/files", path);
    int folder = claim(path);
    if (folder >= 0 && mkdir(files, 0700) == 0)
        return folder;
    int reason = errno;
    if (folder >= 0)
        close(folder);
    rmdir(path);
    errno = reason;
    return -1;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status, (void)kind, (void)where;
    remove(path); /* whatever stays, the rest is to go */
    return 0;
}

void remove_workspace(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void remove_abandoned_workspaces(void)
{
    char pattern[4200];
    glob_t found;
    pattern_of_workspaces(pattern, sizeof pattern, "*");
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            int folder = claim(found.gl_pathv[i]);
            if (folder >= 0) {
                remove_workspace(found.gl_pathv[i]);
                close(folder);
            }
        }
    }
    globfree(&found);
}

bool enter_workspace(const char *path)
{
    snprintf(current, sizeof current, "%s", path);
    return chdir(path) == 0;
}

static bool stays_inside(const char *name)
{
    if (*name == '\0' || *name == '/')
        return false;
    for (const char *part = name; part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return false;
    }
    return true;
}

/* Path of the file that a client's argument names, or an error raised for the client. */
static int path_of(const TVMFFIAny *arguments, int count, char *path, size_t size)
{
    const char *name = count == 1 ? string_argument(arguments) : NULL;
    char message[512];
    if (name == NULL)
        return raise_error("TypeError", "the name of a file is needed");
    if (!stays_inside(name)) {
        snprintf(message, sizeof message, "file %.400s would lie outside the session's folder", name);
        return raise_error("ValueError", message);
    }
    if ((size_t)snprintf(path, size, "%s/files/%s", current, name) >= size)
        return raise_error("ValueError", "the name of the file is too long");
    return 0;
}

static int work_path(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)
{
    char path[8192];
    (void)self;
    return path_of(arguments, count, path, sizeof path) == 0 ? return_string(path, result) : -1;
}

static int load_module(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)
{
    char path[8192];
    (void)self;
    if (path_of(arguments, count, path, sizeof path) != 0)
        return -1;
    const char *end = strrchr(path, '.');
    if (end != NULL && (strcmp(end, ".tar") == 0 || strcmp(end, ".o") == 0))
        return raise_error("ValueError", "the native RPC server has no linker: export the library as .so");
    TVMFFIAny argument = string_value(path);
    return call_global("ffi.ModuleLoadFromFile", &argument, 1, result);
}

static int describe_device(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)
{
    (void)self, (void)arguments, (void)count;
    char *json = device_info("", libraries_folder);
    int status = return_string(json, result);
    free(json);
    return status;
}

void register_functions(const char *libraries)
{
    libraries_folder = libraries;
    register_function("tvm.rpc.server.workpath", work_path);
    register_function("tvm.rpc.server.load_module", load_module);
    register_function("ofa_tvm.device_info", describe_device);
}
