/* Aligned, counted allocation. The counter lets a test show that the steady state allocates nothing,
 * and the planned failure lets one show that every allocation may fail. */
#include "core/arena.h"

#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"
#include "core/status.h"

static fbp_counter allocations;
static fbp_counter until_failure; /* 0: never */

int64_t fbp_allocation_count(void) { return fbp_counter_read(&allocations); }

void fbp_fail_allocation(int64_t nth) { fbp_counter_set(&until_failure, nth); }

static int planned_to_fail(void) {
    return fbp_counter_read(&until_failure) > 0 && fbp_counter_add(&until_failure, -1) == 0;
}

static void *aligned_block(size_t bytes) {
#if defined(_WIN32)
    return _aligned_malloc(bytes, FBP_ALIGN);
#else
    return aligned_alloc(FBP_ALIGN, bytes);
#endif
}

void *fbp_alloc(size_t bytes) {
    size_t rounded = (bytes + FBP_ALIGN) / FBP_ALIGN * FBP_ALIGN; /* never 0 */
    void *block = rounded < bytes || planned_to_fail() ? NULL : aligned_block(rounded);
    if (block == NULL) {
        fbp_fail(FBP_NO_MEMORY, "out of memory: %.1f MB of scratch could not be allocated",
                 (double)bytes / 1e6);
        return NULL;
    }
    fbp_counter_add(&allocations, 1);
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
