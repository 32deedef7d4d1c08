/* A CUDA driver without a GPU: as much of libcuda as jetlift asks of pycuda, on the host's memory.
 *
 * Everything is done at once. Memory, streams, events and graphs are counted, so that a test can see
 * what was not given back (stub_live). A call without a current context is refused, as CUDA does.
 * STUB_CUDA_FAILS names one function that fails, and with which error, as in "cuInit=100".
 *
 * Only what pycuda and jetlift's cuda_graph.py call is here; the names are those that cuda.h of
 * CUDA 12 and 13 gives the functions. What else pycuda links is appended by the test, answering
 * CUDA_ERROR_NOT_SUPPORTED.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_VALUE = 1, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201 };
enum { CAPTURE_INVALIDATED = 901 };

static int live, launches, retained;
static __thread int depth;
static int capturing;

int stub_live(void) { return live; }
int stub_launches(void) { return launches; }
int stub_depth(void) { return depth; }
int stub_retained(void) { return retained; }

static int failure(const char *name)
{
    const char *wanted = getenv("STUB_CUDA_FAILS");
    size_t length = strlen(name);
    if (wanted == NULL || strncmp(wanted, name, length) != 0 || wanted[length] != '=')
        return 0;
    return atoi(wanted + length + 1);
}

#define MAY_FAIL() do { int status = failure(__func__); if (status) return status; } while (0)
#define IN_CONTEXT() do { MAY_FAIL(); if (depth == 0) return INVALID_CONTEXT; } while (0)

static int take(void **out, size_t bytes)
{
    if (posix_memalign(out, 4096, bytes))
        return 2; /* CUDA_ERROR_OUT_OF_MEMORY */
    memset(*out, 0xCD, bytes);
    live += 1;
    return 0;
}

static int give_back(void *memory)
{
    if (memory == NULL)
        return INVALID_VALUE;
    free(memory);
    live -= 1;
    return 0;
}

int cuInit(unsigned flags) { MAY_FAIL(); return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetErrorString(int error, const char **text)
{
    static char told[64];
    if (error == NO_DEVICE) {
        *text = "no CUDA-capable device is detected";
        return 0;
    }
    snprintf(told, sizeof told, "stub error %d", error);
    *text = told;
    return 0;
}

int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal)
{
    MAY_FAIL();
    *device = ordinal;
    return ordinal == 0 ? 0 : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Stub GPU"); return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device)
{
    MAY_FAIL();
    retained += 1;
    *context = (void *)0x1000;
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) { retained -= 1; return 0; }
int cuCtxPushCurrent_v2(void *context) { MAY_FAIL(); depth += 1; return 0; }
int cuCtxPopCurrent_v2(void **context)
{
    if (depth == 0)
        return INVALID_CONTEXT;
    depth -= 1;
    return 0;
}

int cuMemAlloc_v2(void **out, size_t bytes) { IN_CONTEXT(); return take(out, bytes); }
int cuMemFree_v2(void *memory) { IN_CONTEXT(); return give_back(memory); }
int cuMemHostAlloc(void **out, size_t bytes, unsigned flags) { IN_CONTEXT(); return take(out, bytes); }
int cuMemFreeHost(void *memory) { IN_CONTEXT(); return give_back(memory); }
int cuMemHostGetDevicePointer_v2(void **out, void *host, unsigned flags) { IN_CONTEXT(); *out = host; return 0; }
int cuMemcpyHtoDAsync_v2(void *to, const void *of, size_t bytes, void *stream)
{
    IN_CONTEXT();
    memcpy(to, of, bytes);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, const void *of, size_t bytes, void *stream)
{
    IN_CONTEXT();
    memcpy(to, of, bytes);
    return 0;
}

int cuStreamCreate(void **out, unsigned flags)
{
    IN_CONTEXT();
    return flags == 1 ? take(out, 1) : INVALID_VALUE; /* CU_STREAM_NON_BLOCKING */
}
int cuStreamDestroy_v2(void *stream) { IN_CONTEXT(); return give_back(stream); }
int cuStreamSynchronize(void *stream) { IN_CONTEXT(); return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { IN_CONTEXT(); return 0; }
int cuEventCreate(void **out, unsigned flags) { IN_CONTEXT(); return take(out, 1); }
int cuEventDestroy_v2(void *event) { IN_CONTEXT(); return give_back(event); }
int cuEventRecord(void *event, void *stream) { IN_CONTEXT(); return 0; }
int cuEventSynchronize(void *event) { IN_CONTEXT(); return 0; }
int cuEventElapsedTime(float *ms, void *from, void *to) { IN_CONTEXT(); *ms = 0.25f; return 0; }
int cuEventElapsedTime_v2(float *ms, void *from, void *to) { IN_CONTEXT(); *ms = 0.25f; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { IN_CONTEXT(); *free = *total = (size_t)1 << 30; return 0; }

int cuStreamBeginCapture_v2(void *stream, int mode)
{
    IN_CONTEXT();
    if (capturing || mode != 1) /* CU_STREAM_CAPTURE_MODE_THREAD_LOCAL */
        return INVALID_VALUE;
    capturing = 1;
    return 0;
}
int cuStreamEndCapture(void *stream, void **graph)
{
    if (!capturing)
        return CAPTURE_INVALIDATED;
    capturing = 0;
    MAY_FAIL();
    return take(graph, 1);
}
int cuGraphInstantiateWithFlags(void **out, void *graph, unsigned long long flags) { MAY_FAIL(); return take(out, 1); }
int cuGraphLaunch(void *graph, void *stream) { IN_CONTEXT(); launches += 1; return 0; }
int cuGraphDestroy(void *graph) { return give_back(graph); }
int cuGraphExecDestroy(void *graph) { IN_CONTEXT(); return give_back(graph); }
