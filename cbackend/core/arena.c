/* Aligned, counted allocation. The counter lets a test show that the steady state allocates
 * nothing, and the planned failure lets one show that every allocation may fail. */
#define _DEFAULT_SOURCE /* posix_memalign, madvise */
#include "core/arena.h"

#include <stdlib.h>
#include <string.h>

#include "core/status.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

static fbp_counter allocations, allocated;
static fbp_counter until_failure; /* 0: never */

int64_t fbp_allocation_count(void) { return fbp_counter_read(&allocations); }

int64_t fbp_allocated_bytes(void) { return fbp_counter_read(&allocated); }

void fbp_fail_allocation(int64_t nth) { fbp_counter_set(&until_failure, nth); }

static int planned_to_fail(void) {
    return fbp_counter_read(&until_failure) > 0 && fbp_counter_add(&until_failure, -1) == 0;
}

/* A block that holds large pages lies in them wherever Linux has some to give: a step passes
 * through all of its buffers, and would look up the address of each small page anew. It is no
 * larger for that. */
static void *aligned_block(size_t bytes) {
#if defined(_WIN32)
    return _aligned_malloc(bytes, FBP_ALIGN);
#elif defined(__linux__)
    const size_t page = (size_t)1 << 21;
    if (bytes < page) return aligned_alloc(FBP_ALIGN, bytes);
    void *block = NULL;
    if (posix_memalign(&block, page, bytes) != 0) return NULL;
    (void)madvise(block, bytes / page * page, MADV_HUGEPAGE); /* a wish */
    return block;
#else
    return aligned_alloc(FBP_ALIGN, bytes);
#endif
}

size_t fbp_block_bytes(size_t bytes) {
    return bytes > SIZE_MAX - FBP_ALIGN ? 0 : (bytes + FBP_ALIGN) / FBP_ALIGN * FBP_ALIGN;
}

void *fbp_alloc(size_t bytes) {
    size_t rounded = fbp_block_bytes(bytes);
    void *block = rounded == 0 || planned_to_fail() ? NULL : aligned_block(rounded);
    if (block == NULL) {
        fbp_fail(FBP_NO_MEMORY, "out of memory: %.1f MB of scratch could not be allocated",
                 (double)bytes / 1e6);
        return NULL;
    }
    fbp_counter_add(&allocations, 1);
    fbp_counter_add(&allocated, (int64_t)rounded);
    return memset(block, 0, rounded);
}

void fbp_free(void *block) {
#if defined(_WIN32)
    _aligned_free(block);
#else
    free(block);
#endif
}

void *fbp_carve(fbp_carver *carver, int64_t count, size_t size) {
    void *part = carver->base == NULL ? NULL : carver->base + carver->used;
    size_t most = SIZE_MAX / 4; /* more than this stays too much, and fbp_alloc refuses it */
    if ((size_t)count > (most - FBP_ALIGN) / size || carver->used > most)
        carver->used = most + 1;
    else
        carver->used += ((size_t)count * size + FBP_ALIGN - 1) / FBP_ALIGN * FBP_ALIGN;
    return part;
}

size_t fbp_carved_bytes(int64_t count, size_t size) {
    fbp_carver one = {NULL, 0};
    fbp_carve(&one, count, size);
    return one.used;
}

/* ---- blocks of finished calls, kept for the next ---- */

static fbp_status take(fbp_pool *pool, size_t bytes, fbp_scratch *scratch) {
    for (int i = 0; i < FBP_POOL; i++) {
        if (fbp_counter_add(&pool->taken[i], 1) == 1) { /* slot i is ours */
            fbp_scratch found = pool->kept[i];
            pool->kept[i].block = NULL;
            pool->kept[i].bytes = 0;
            fbp_counter_add(&pool->taken[i], -1);
            if (found.bytes >= bytes) {
                *scratch = found;
                return FBP_OK;
            }
            fbp_free(found.block);
        } else {
            fbp_counter_add(&pool->taken[i], -1);
        }
    }
    scratch->block = fbp_alloc(bytes);
    scratch->bytes = bytes;
    return scratch->block == NULL ? FBP_NO_MEMORY : FBP_OK;
}

fbp_status fbp_pool_carve(fbp_pool *pool, fbp_carve_fn carve, void *call, fbp_scratch *scratch) {
    fbp_carver counting = {NULL, 0};
    carve(call, &counting);
    fbp_status status = take(pool, counting.used, scratch);
    if (status != FBP_OK) return status;
    fbp_carver carving = {scratch->block, 0};
    carve(call, &carving);
    return FBP_OK;
}

/* Larger blocks are not worth holding on to: clearing them costs more than finding them. */
static const size_t most_kept = (size_t)16 << 20;

void fbp_pool_give(fbp_pool *pool, fbp_scratch scratch) {
    for (int i = 0; i < FBP_POOL && scratch.block != NULL && scratch.bytes <= most_kept; i++) {
        if (fbp_counter_add(&pool->taken[i], 1) == 1 && pool->kept[i].block == NULL) {
            pool->kept[i] = scratch;
            scratch.block = NULL;
        }
        fbp_counter_add(&pool->taken[i], -1);
    }
    fbp_free(scratch.block);
}

void fbp_pool_free(fbp_pool *pool) {
    for (int i = 0; i < FBP_POOL; i++) fbp_free(pool->kept[i].block);
}
