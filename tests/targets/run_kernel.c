/* Calls one compiled kernel without TVM: float32 arrays come from files, the last one is the output and goes back.
 *
 *   run_kernel FILE:DIM,DIM,... FILE:DIM,DIM,... ...
 *
 * Built with -DKERNEL=<the kernel's symbol>.
 */
#include <dlpack/dlpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

enum { MAX_TENSORS = 8, MAX_DIMENSIONS = 8 };

extern int KERNEL(void* handle, const TVMFFIAny* arguments, int32_t count, TVMFFIAny* result);

/* What a kernel needs of TVM: errors, and scratch memory through pointers that TVM sets when it loads a library. */
void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; ++i) fputs(parts[i], stderr);
  fputc('\n', stderr);
}

static void* allocate(int device, int id, uint64_t size, int code, int bits) {
  void* memory = NULL;
  (void)device, (void)id, (void)code, (void)bits;
  return posix_memalign(&memory, 64, size) ? NULL : memory;
}

static int release(int device, int id, void* memory) {
  (void)device, (void)id;
  free(memory);
  return 0;
}

void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void*) = release;

static void copy(const char* path, const char* mode, void* data, size_t size) {
  FILE* file = fopen(path, mode);
  size_t done = !file ? 0 : mode[0] == 'r' ? fread(data, 1, size, file) : fwrite(data, 1, size, file);
  if (done != size || fclose(file)) {
    perror(path);
    exit(2);
  }
}

int main(int count, char** arguments) {
  static int64_t shapes[MAX_TENSORS][MAX_DIMENSIONS];
  static DLTensor tensors[MAX_TENSORS];
  TVMFFIAny packed[MAX_TENSORS], result;
  size_t size = 0;
  int n = count - 1;
  if (n < 1 || n > MAX_TENSORS) return 2;
  for (int i = 0; i < n; ++i) {
    DLTensor* tensor = &tensors[i];
    char* dimensions = strrchr(arguments[i + 1], ':');
    *dimensions++ = '\0';
    size = sizeof(float);
    for (char* word = strtok(dimensions, ","); word; word = strtok(NULL, ",")) {
      shapes[i][tensor->ndim] = atol(word);
      size *= (size_t)shapes[i][tensor->ndim++];
    }
    tensor->shape = shapes[i];
    tensor->device.device_type = kDLCPU;
    tensor->dtype = (DLDataType){kDLFloat, 32, 1};
    if (posix_memalign(&tensor->data, 64, size)) return 2;
    copy(arguments[i + 1], "rb", tensor->data, size);
    memset(&packed[i], 0, sizeof packed[i]);
    packed[i].type_index = kTVMFFIDLTensorPtr;
    packed[i].v_ptr = tensor;
  }
  memset(&result, 0, sizeof result);
  if (KERNEL(NULL, packed, n, &result)) return 1;
  copy(arguments[n], "wb", tensors[n - 1].data, size);
  return 0;
}
