/* A simulated CUDA driver with one device in host memory. It has the calls that her2d's runtime uses,
 * as NVIDIA's header declares them.
 *
 * Every stream is a thread that does its work in order after a random delay, so that missing events
 * lead to wrong results. "Kernels" are host functions (cuLaunchHostFunc). Like the real driver it needs
 * a current context, and repeats a lost device's error in all later calls. It ends a capture at every
 * call that is not allowed in one, and also at recording an event, which the real driver allows.
 *
 * Environment:
 *
 * SIMULATED_GPU_REPORT: file to which a line of JSON is added when the process ends: resources that
 * were not freed, and errors.
 *
 * SIMULATED_GPU_LOSE: file; if it exists, the next host function deletes it, and the device is lost.
 */
#define _GNU_SOURCE
#include <cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEEPEST_STACK 16
#define LONGEST_DELAY_US 300
#define DEVICE_BYTES ((size_t)1 << 30)
#define CAPABILITY_MAJOR 8
#define CAPABILITY_MINOR 6

enum kind { COPY, CALL, RECORD, WAIT };

struct event {
    unsigned long recorded, done;
};

struct op {
    enum kind kind;
    void *to;
    const void *from;
    size_t nbytes;
    CUhostFn call;
    void *argument;
    struct event *event;
    unsigned long generation;
    struct op *next;
};

struct ops {
    struct op *first, *last;
    size_t count;
};

struct stream {
    pthread_t thread;
    struct ops queue, captured;
    bool busy, closing, capturing;
    int forbidden_before; /* when its capture began */
    pthread_t capturer;
};

struct graph {
    struct ops ops;
    int owners;
};

struct block {
    char *start;
    size_t nbytes;
    bool pinned;
    struct block *next;
};

/* One lock for all state; every change wakes all waiting threads. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct block *blocks;
static size_t used;
static CUresult lost;
static int retained, under_way, capturing;
static struct {
    int streams, events, graphs, launches, calls, uploads;
} live;
static struct {
    int no_context, pageable, unknown_memory, released_busy, forbidden;
} wrong;
static char primary; /* its address is the context */
static __thread void *stack[DEEPEST_STACK];
static __thread int depth;
static __thread int capturing_here;

/* Check the context at the beginning of a call. The lock is held. */
static CUresult refused(void) {
    if (lost) return lost;
    if (depth == 0 || stack[depth - 1] == NULL || retained == 0) {
        wrong.no_context++;
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    return CUDA_SUCCESS;
}

/* A call that may wait for the device, or change it, ends the captures of its thread. */
static CUresult refused_in_capture(void) {
    if (capturing_here == 0) return refused();
    wrong.forbidden++;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

#define LOCKED(...)                                                                                \
    do {                                                                                           \
        pthread_mutex_lock(&lock);                                                                 \
        CUresult status = CUDA_SUCCESS;                                                            \
        __VA_ARGS__;                                                                               \
        pthread_mutex_unlock(&lock);                                                               \
        return status;                                                                             \
    } while (0)

static bool inside(const void *at, size_t nbytes, bool pinned) {
    const char *start = at;
    for (struct block *block = blocks; block; block = block->next)
        if (block->pinned == pinned && block->start <= start &&
            start + nbytes <= block->start + block->nbytes)
            return true;
    return false;
}

static void append(struct ops *ops, struct op one) {
    struct op *op = malloc(sizeof *op);
    *op = one;
    op->next = NULL;
    if (ops->last) ops->last->next = op;
    else ops->first = op;
    ops->last = op;
    ops->count++;
}

static void lose_if_told(void) {
    const char *file = getenv("SIMULATED_GPU_LOSE");
    if (file && unlink(file) == 0) lost = CUDA_ERROR_LAUNCH_FAILED;
}

/* The lock is held, but not while the work is done. */
static void perform(const struct op *op) {
    switch (op->kind) {
    case COPY:
        pthread_mutex_unlock(&lock);
        memcpy(op->to, op->from, op->nbytes);
        pthread_mutex_lock(&lock);
        break;
    case CALL:
        lose_if_told();
        if (lost) break;
        pthread_mutex_unlock(&lock);
        op->call(op->argument);
        pthread_mutex_lock(&lock);
        break;
    case RECORD:
        if (op->event->done < op->generation) op->event->done = op->generation;
        break;
    case WAIT:
        while (op->event->done < op->generation && !lost) pthread_cond_wait(&changed, &lock);
        break;
    }
}

static void *work(void *argument) {
    struct stream *stream = argument;
    unsigned seed = (unsigned)(size_t)stream;
    pthread_mutex_lock(&lock);
    for (;;) {
        struct op *op = stream->queue.first;
        if (op == NULL && stream->closing) break;
        if (op == NULL) {
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        stream->queue.first = op->next;
        if (op->next == NULL) stream->queue.last = NULL;
        stream->busy = true;
        pthread_mutex_unlock(&lock);
        usleep(rand_r(&seed) % LONGEST_DELAY_US);
        pthread_mutex_lock(&lock);
        if (!lost) perform(op);
        free(op);
        stream->busy = false;
        under_way--;
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    free(stream);
    return NULL;
}

/* The lock is held. */
static CUresult give(struct stream *stream, struct op op) {
    CUresult status = refused();
    if (status) return status;
    if (stream->capturing) {
        if (op.kind == RECORD || op.kind == WAIT) {
            wrong.forbidden++;
            return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
        append(&stream->captured, op);
        return CUDA_SUCCESS;
    }
    append(&stream->queue, op);
    under_way++;
    pthread_cond_broadcast(&changed);
    return CUDA_SUCCESS;
}

static CUresult give_copy(CUstream stream, void *to, const void *from, size_t nbytes, bool known,
                          bool pinned) {
    LOCKED({
        wrong.unknown_memory += !known;
        wrong.pageable += !pinned;
        status = known ? give((struct stream *)stream,
                              (struct op){.kind = COPY, .to = to, .from = from, .nbytes = nbytes})
                       : CUDA_ERROR_INVALID_VALUE;
    });
}

/* ---- the device ---- */

CUresult cuInit(unsigned flags) {
    (void)flags;
    return lost;
}
CUresult cuDriverGetVersion(int *version) {
    *version = 13000;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *count) {
    *count = 1;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    (void)device;
    snprintf(name, (size_t)length, "Simulated GPU");
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    (void)device;
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? CAPABILITY_MAJOR
             : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? CAPABILITY_MINOR
                                                                         : 0;
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == CUDA_ERROR_OUT_OF_MEMORY     ? "out of memory"
            : error == CUDA_ERROR_LAUNCH_FAILED   ? "unspecified launch failure"
            : error == CUDA_ERROR_INVALID_CONTEXT ? "invalid device context"
                                                  : "an error of the simulated driver";
    return CUDA_SUCCESS;
}

/* ---- contexts ---- */

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    (void)device;
    LOCKED({
        status = lost;
        if (!lost) retained++;
        *context = (CUcontext)&primary;
    });
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    (void)device;
    LOCKED({
        if (retained == 0) status = CUDA_ERROR_INVALID_CONTEXT;
        else if (--retained == 0 && under_way) wrong.released_busy++;
    });
}
CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    (void)device;
    *flags = 0;
    LOCKED(*active = retained > 0);
}
/* By NVIDIA's reference it may also return the error of an earlier, asynchronous launch. */
CUresult cuCtxPushCurrent(CUcontext context) {
    if (lost) return lost;
    if (depth == DEEPEST_STACK) return CUDA_ERROR_UNKNOWN;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext *context) {
    if (lost) return lost;
    if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
    *context = stack[--depth];
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = depth ? stack[depth - 1] : NULL;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) {
    *device = 0;
    LOCKED(status = refused());
}
CUresult cuCtxSynchronize(void) {
    LOCKED({
        status = capturing ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : refused();
        wrong.forbidden += capturing > 0;
        while (!status && under_way && !lost) pthread_cond_wait(&changed, &lock);
        if (lost) status = lost;
    });
}

/* ---- memory ---- */

static CUresult allocate(void **found, size_t nbytes, bool pinned) {
    LOCKED({
        status = refused_in_capture();
        if (!status && nbytes == 0) status = CUDA_ERROR_INVALID_VALUE;
        if (!status && !pinned && used + nbytes > DEVICE_BYTES) status = CUDA_ERROR_OUT_OF_MEMORY;
        if (!status) {
            struct block *block = malloc(sizeof *block);
            *block = (struct block){aligned_alloc(4096, (nbytes + 4095) & ~(size_t)4095), nbytes,
                                    pinned, blocks};
            memset(block->start, 0xA5, nbytes);
            blocks = block;
            used += pinned ? 0 : nbytes;
            *found = block->start;
        }
    });
}
static CUresult release(void *at, bool pinned) {
    LOCKED({
        status = refused_in_capture();
        struct block **link = &blocks;
        while (*link && ((*link)->start != at || (*link)->pinned != pinned)) link = &(*link)->next;
        if (!status && *link == NULL) status = CUDA_ERROR_INVALID_VALUE;
        if (!status) {
            struct block *block = *link;
            *link = block->next;
            used -= pinned ? 0 : block->nbytes;
            memset(block->start, 0x5A, block->nbytes);
            free(block->start);
            free(block);
        }
    });
}
CUresult cuMemAlloc(CUdeviceptr *found, size_t nbytes) {
    return allocate((void **)found, nbytes, false);
}
CUresult cuMemFree(CUdeviceptr at) { return release((void *)at, false); }
CUresult cuMemHostAlloc(void **found, size_t nbytes, unsigned flags) {
    (void)flags;
    return allocate(found, nbytes, true);
}
CUresult cuMemFreeHost(void *at) { return release(at, true); }
CUresult cuMemGetInfo(size_t *unused, size_t *all) {
    LOCKED({
        status = refused();
        *all = DEVICE_BYTES;
        *unused = *all - used;
    });
}

#undef cuMemcpyHtoDAsync
#undef cuMemcpyDtoHAsync
#undef cuMemcpyDtoDAsync
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t nbytes, CUstream stream) {
    pthread_mutex_lock(&lock);
    bool known = inside((void *)to, nbytes, false);
    bool pinned = inside(from, nbytes, true);
    live.uploads++;
    pthread_mutex_unlock(&lock);
    return give_copy(stream, (void *)to, from, nbytes, known, pinned);
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t nbytes, CUstream stream) {
    pthread_mutex_lock(&lock);
    bool known = inside((void *)from, nbytes, false);
    bool pinned = inside(to, nbytes, true);
    pthread_mutex_unlock(&lock);
    return give_copy(stream, to, (void *)from, nbytes, known, pinned);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t nbytes, CUstream stream) {
    pthread_mutex_lock(&lock);
    bool known = inside((void *)to, nbytes, false) && inside((void *)from, nbytes, false);
    pthread_mutex_unlock(&lock);
    return give_copy(stream, (void *)to, (void *)from, nbytes, known, true);
}

/* ---- streams and events ---- */

CUresult cuStreamCreate(CUstream *found, unsigned flags) {
    (void)flags;
    LOCKED({
        status = refused_in_capture();
        if (!status) {
            struct stream *stream = calloc(1, sizeof *stream);
            pthread_create(&stream->thread, NULL, work, stream);
            pthread_detach(stream->thread);
            live.streams++;
            *found = (CUstream)stream;
        }
    });
}
CUresult cuStreamDestroy(CUstream stream) {
    LOCKED({
        status = refused();
        if (!status) {
            ((struct stream *)stream)->closing = true;
            live.streams--;
            pthread_cond_broadcast(&changed);
        }
    });
}
CUresult cuEventCreate(CUevent *found, unsigned flags) {
    (void)flags;
    LOCKED({
        status = refused();
        if (!status) live.events++;
        *found = (CUevent)calloc(1, sizeof(struct event));
    });
}
/* Its memory stays allocated, because enqueued work may still wait for it. */
CUresult cuEventDestroy(CUevent event) {
    (void)event;
    LOCKED({
        status = refused();
        if (!status) live.events--;
    });
}
CUresult cuEventRecord(CUevent handle, CUstream stream) {
    struct event *event = (struct event *)handle;
    LOCKED({
        unsigned long generation = event->recorded + 1;
        status = give((struct stream *)stream,
                      (struct op){.kind = RECORD, .event = event, .generation = generation});
        if (!status) event->recorded = generation;
    });
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent handle, unsigned flags) {
    (void)flags;
    struct event *event = (struct event *)handle;
    LOCKED(status = give((struct stream *)stream,
                         (struct op){.kind = WAIT, .event = event, .generation = event->recorded}));
}
CUresult cuEventSynchronize(CUevent handle) {
    struct event *event = (struct event *)handle;
    LOCKED({
        status = refused_in_capture();
        while (!status && event->done < event->recorded && !lost)
            pthread_cond_wait(&changed, &lock);
        if (lost) status = lost;
    });
}
CUresult cuLaunchHostFunc(CUstream stream, CUhostFn call, void *argument) {
    LOCKED({
        status = give((struct stream *)stream,
                      (struct op){.kind = CALL, .call = call, .argument = argument});
        live.calls += !status;
    });
}

/* ---- kernels: those of `colours.cu`, by name ---- */

#define PIXELS (512 * 512)
#define FOLDS 5

struct launch {
    void (*kernel)(size_t tile, void *const *parameters);
    size_t tiles;
    void *parameters[3];
};

static void segment_colours(size_t tile, void *const *parameters) {
    const unsigned char *pixels = (const unsigned char *)parameters[0] + 3 * PIXELS * tile;
    unsigned char *mask = (unsigned char *)parameters[2] + PIXELS * tile;
    int count = 0;
    for (int i = 0; i < PIXELS; i++) count += mask[i] = pixels[3 * i] < 100;
    ((int *)parameters[1])[tile] = count;
}
static void classify_colours(size_t tile, void *const *parameters) {
    const unsigned char *pixels = (const unsigned char *)parameters[0] + 3 * PIXELS * tile;
    unsigned green = 0;
    for (int i = 0; i < PIXELS; i++) green += pixels[3 * i + 1];
    for (int fold = 0; fold < FOLDS; fold++)
        ((float *)parameters[1])[FOLDS * tile + fold] = (float)green / PIXELS / 255.0f;
}
static void CUDA_CB run_kernel(void *argument) {
    const struct launch *launch = argument;
    for (size_t tile = 0; tile < launch->tiles; tile++) launch->kernel(tile, launch->parameters);
}
CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    (void)device;
    *major = CAPABILITY_MAJOR;
    *minor = CAPABILITY_MINOR;
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned count,
                            CUjit_option *options, void **values) {
    (void)image, (void)count, (void)options, (void)values;
    *module = (CUmodule)&primary;
    LOCKED(status = refused_in_capture());
}
CUresult cuModuleUnload(CUmodule module) {
    (void)module;
    LOCKED(status = refused());
}
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    (void)module;
    void *found = strcmp(name, "segment_colours") == 0    ? (void *)segment_colours
                  : strcmp(name, "classify_colours") == 0 ? (void *)classify_colours
                                                          : NULL;
    *function = (CUfunction)found;
    return found ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    (void)attribute, (void)function;
    *value = 0;
    return CUDA_SUCCESS;
}
/* Deprecated since CUDA 4. PyCUDA calls it before a launch, which states the shape again. */
CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) {
    (void)function, (void)x, (void)y, (void)z;
    return CUDA_SUCCESS;
}
/* The launch is never freed, because a graph may refer to it. */
CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        CUstream stream, void **parameters, void **extra) {
    (void)grid_y, (void)grid_z, (void)block_x, (void)block_y, (void)block_z, (void)shared;
    struct launch *launch = calloc(1, sizeof *launch);
    if (parameters || extra[0] != CU_LAUNCH_PARAM_BUFFER_POINTER) return CUDA_ERROR_NOT_SUPPORTED;
    launch->kernel = (void (*)(size_t, void *const *))function;
    launch->tiles = grid_x;
    memcpy(launch->parameters, extra[1], *(size_t *)extra[3]);
    return cuLaunchHostFunc(stream, run_kernel, launch);
}

/* ---- graphs ---- */

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    struct stream *stream = (struct stream *)handle;
    LOCKED({
        status = refused();
        if (!status && (stream->capturing || mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
            status = CUDA_ERROR_ILLEGAL_STATE;
        if (!status) {
            stream->capturing = true;
            stream->forbidden_before = wrong.forbidden;
            stream->capturer = pthread_self();
            stream->captured = (struct ops){0};
            capturing++;
            capturing_here++;
        }
    });
}
CUresult cuStreamEndCapture(CUstream handle, CUgraph *found) {
    struct stream *stream = (struct stream *)handle;
    LOCKED({
        status = refused();
        *found = NULL;
        if (!status && !stream->capturing) status = CUDA_ERROR_ILLEGAL_STATE;
        if (!status && !pthread_equal(stream->capturer, pthread_self()))
            status = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
        if (!status) {
            stream->capturing = false;
            capturing--;
            capturing_here--;
            if (wrong.forbidden != stream->forbidden_before)
                status = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        }
        if (!status) {
            struct graph *graph = malloc(sizeof *graph);
            *graph = (struct graph){stream->captured, 1};
            live.graphs++;
            *found = (CUgraph)graph;
        }
    });
}
CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count) {
    *count = ((struct graph *)graph)->ops.count;
    return nodes ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *found, CUgraph graph, unsigned long long flags) {
    (void)flags;
    LOCKED({
        status = refused();
        if (!status) ((struct graph *)graph)->owners++;
        live.graphs += !status;
        *found = (CUgraphExec)graph;
    });
}
static CUresult give_up(struct graph *graph) {
    LOCKED({
        status = lost;
        live.graphs--;
        if (--graph->owners == 0) free(graph);
    });
}
CUresult cuGraphDestroy(CUgraph graph) { return give_up((struct graph *)graph); }
CUresult cuGraphExecDestroy(CUgraphExec graph) { return give_up((struct graph *)graph); }
CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) {
    LOCKED({
        live.launches++;
        for (struct op *op = ((struct graph *)graph)->ops.first; op && !status; op = op->next)
            status = give((struct stream *)stream, *op);
    });
}

/* ---- the report ---- */

__attribute__((destructor)) static void report(void) {
    const char *file = getenv("SIMULATED_GPU_REPORT");
    FILE *to = file ? fopen(file, "a") : NULL;
    if (to == NULL) return;
    int device = 0, pinned = 0;
    for (struct block *block = blocks; block; block = block->next)
        *(block->pinned ? &pinned : &device) += 1;
    fprintf(to,
            "{\"retained\": %d, \"device_blocks\": %d, \"pinned_blocks\": %d, \"streams\": %d, "
            "\"events\": %d,"
            " \"graphs\": %d, \"launches\": %d, \"calls\": %d, \"uploads\": %d, "
            "\"without_context\": %d,"
            " \"from_pageable\": %d, \"unknown_memory\": %d, \"released_busy\": %d, "
            "\"forbidden_in_capture\": %d,"
            " \"lost\": %d}\n",
            retained, device, pinned, live.streams, live.events, live.graphs, live.launches,
            live.calls, live.uploads, wrong.no_context, wrong.pageable, wrong.unknown_memory,
            wrong.released_busy, wrong.forbidden, (int)lost);
    fclose(to);
}
