/* TVM's runtime, found at run time, so that this program can be built without it. */
#ifndef OFA_TVM_RUNTIME_H
#define OFA_TVM_RUNTIME_H

#include <tvm/ffi/c_api.h>

/* Load libtvm_ffi, libtvm_runtime and, where it is there, libtvm_runtime_extra from a folder, or die. */
void load_runtime(const char *folder);

/* Make a C function known to the runtime, and so to clients, under a name. */
void register_function(const char *name, TVMFFISafeCallType function);

/* Call a function of the runtime; 0 or, with the error raised, -1. The result is the caller's. */
int call_global(const char *name, TVMFFIAny *arguments, int count, TVMFFIAny *result);

/* Take the raised error away and put its message, cut to fit, into a buffer. */
void take_error(char *message, size_t size);

/* Raise an error from a function of ours; returns what that function is to return. */
int raise_error(const char *kind, const char *message);

/* The string of an argument, or NULL where it is none or has a NUL inside. It lives as long as the argument. */
const char *string_argument(const TVMFFIAny *argument);

/* A text as result of a function; returns what the function is to return. */
int return_string(const char *text, TVMFFIAny *result);

TVMFFIAny int_value(int64_t value);
TVMFFIAny string_value(const char *text);

#endif
