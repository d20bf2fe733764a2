/* The folder of one session's files. */
#ifndef OFA_TVM_WORKSPACE_H
#define OFA_TVM_WORKSPACE_H

#include <stdbool.h>
#include <stddef.h>

/* Make one in TMPDIR, with a folder "files" for uploads inside; -1, with errno set, if that fails. The descriptor, which
   the session's process inherits, holds a lock that says the workspace is in use. */
int make_workspace(char *path, size_t size);

void remove_workspace(const char *path);

/* Remove what servers that were killed have left. */
void remove_abandoned_workspaces(void);

/* Give clients' functions for files and modules this workspace, and make it the current folder. */
bool enter_workspace(const char *path);

/* Register at the runtime what an RPC client asks a server for. `libraries` is where the runtime lies. */
void register_functions(const char *libraries);

#endif
