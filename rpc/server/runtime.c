#include "runtime.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

static struct {
    __typeof__(&TVMFFIFunctionGetGlobal) get_global;
    __typeof__(&TVMFFIFunctionSetGlobal) set_global;
    __typeof__(&TVMFFIFunctionCreate) create_function;
    __typeof__(&TVMFFIFunctionCall) call;
    __typeof__(&TVMFFIObjectDecRef) release;
    __typeof__(&TVMFFIStringFromByteArray) make_string;
    __typeof__(&TVMFFIErrorSetRaisedFromCStr) raise;
    __typeof__(&TVMFFIErrorMoveFromRaised) take_raised;
} ffi;

static void *open_library(const char *folder, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL)
        die(2, "%s; --libraries names the folder of TVM's runtime", dlerror());
    return library;
}

static void find(void *library, const char *name, void *place)
{
    void *symbol = dlsym(library, name);
    if (symbol == NULL)
        die(2, "libtvm_ffi.so has no %s: it is not the version this server was built for", name);
    memcpy(place, &symbol, sizeof symbol); /* ISO C has no cast from an object's to a function's pointer */
}

void load_runtime(const char *folder)
{
    void *library = open_library(folder, "libtvm_ffi.so");
    find(library, "TVMFFIFunctionGetGlobal", &ffi.get_global);
    find(library, "TVMFFIFunctionSetGlobal", &ffi.set_global);
    find(library, "TVMFFIFunctionCreate", &ffi.create_function);
    find(library, "TVMFFIFunctionCall", &ffi.call);
    find(library, "TVMFFIObjectDecRef", &ffi.release);
    find(library, "TVMFFIStringFromByteArray", &ffi.make_string);
    find(library, "TVMFFIErrorSetRaisedFromCStr", &ffi.raise);
    find(library, "TVMFFIErrorMoveFromRaised", &ffi.take_raised);
    open_library(folder, "libtvm_runtime.so");
    char extra[4200];
    snprintf(extra, sizeof extra, "%s/libtvm_runtime_extra.so", folder);
    if (access(extra, F_OK) == 0) /* sort and random fill: what tuning needs, and kernels do without */
        open_library(folder, "libtvm_runtime_extra.so");
}

void register_function(const char *name, TVMFFISafeCallType function)
{
    TVMFFIObjectHandle handle;
    TVMFFIByteArray bytes = {name, strlen(name)};
    if (ffi.create_function(NULL, function, NULL, &handle) != 0 || ffi.set_global(&bytes, handle, 1) != 0)
        die(1, "cannot register %s", name);
    ffi.release(handle);
}

int call_global(const char *name, TVMFFIAny *arguments, int count, TVMFFIAny *result)
{
    TVMFFIObjectHandle function = NULL;
    TVMFFIByteArray bytes = {name, strlen(name)};
    memset(result, 0, sizeof *result);
    if (ffi.get_global(&bytes, &function) != 0)
        return -1;
    if (function == NULL)
        return raise_error("RuntimeError", "TVM's runtime lacks a function that this server needs");
    int status = ffi.call(function, arguments, count, result);
    ffi.release(function);
    return status;
}

void take_error(char *message, size_t size)
{
    TVMFFIObjectHandle error = NULL;
    ffi.take_raised(&error);
    if (error == NULL) {
        snprintf(message, size, "unknown error");
        return;
    }
    const TVMFFIErrorCell *cell = (const void *)((const char *)error + sizeof(TVMFFIObject));
    snprintf(message, size, "%.*s", (int)(cell->message.size < size ? cell->message.size : size), cell->message.data);
    ffi.release(error);
}

int raise_error(const char *kind, const char *message)
{
    ffi.raise(kind, message);
    return -1;
}

const char *string_argument(const TVMFFIAny *argument)
{
    if (argument->type_index == kTVMFFIRawStr)
        return argument->v_c_str;
    if (argument->type_index == kTVMFFISmallStr)
        return strlen(argument->v_bytes) == argument->small_str_len ? argument->v_bytes : NULL;
    if (argument->type_index != kTVMFFIStr)
        return NULL;
    const TVMFFIByteArray *bytes = (const void *)((const char *)argument->v_obj + sizeof(TVMFFIObject));
    return strlen(bytes->data) == bytes->size ? bytes->data : NULL;
}

int return_string(const char *text, TVMFFIAny *result)
{
    TVMFFIByteArray bytes = {text, strlen(text)};
    return ffi.make_string(&bytes, result);
}

TVMFFIAny int_value(int64_t value)
{
    TVMFFIAny any = {.type_index = kTVMFFIInt, .v_int64 = value};
    return any;
}

TVMFFIAny string_value(const char *text)
{
    TVMFFIAny any = {.type_index = kTVMFFIRawStr, .v_c_str = text};
    return any;
}
