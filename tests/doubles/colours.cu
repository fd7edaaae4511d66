// The colour bundle's two networks as kernels, with one block per tile. Sums are integers, so that
// they do not depend on the order of threads. `simulated_gpu/libcuda.c` computes both on the host.

#define PIXELS (512 * 512)
#define FOLDS 5

extern "C" __global__ void segment_colours(const unsigned char *tiles, int *tumor_pixels,
                                           unsigned char *mask)
{
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    const size_t first = (size_t)blockIdx.x * PIXELS;
    for (int i = threadIdx.x; i < PIXELS; i += blockDim.x) {
        const unsigned char tumor = tiles[3 * (first + i)] < 100;
        mask[first + i] = tumor;
        if (tumor) atomicAdd(&count, 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) tumor_pixels[blockIdx.x] = count;
}

extern "C" __global__ void classify_colours(const unsigned char *tiles, float *p_strong)
{
    __shared__ unsigned int green;
    if (threadIdx.x == 0) green = 0;
    __syncthreads();
    const size_t first = (size_t)blockIdx.x * PIXELS;
    unsigned int mine = 0;
    for (int i = threadIdx.x; i < PIXELS; i += blockDim.x) mine += tiles[3 * (first + i) + 1];
    atomicAdd(&green, mine);
    __syncthreads();
    if (threadIdx.x < FOLDS)
        p_strong[blockIdx.x * FOLDS + threadIdx.x] = (float)green / PIXELS / 255.0f;
}
