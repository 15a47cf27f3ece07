/* Memory: the only file that allocates. An arena is one aligned block from which a call carves its
 * scratch; a pool keeps the arenas of a plan for its next calls. */
#ifndef FBP_CORE_ARENA_H
#define FBP_CORE_ARENA_H

#include "fbp.h"

#define FBP_ALIGN 64 /* a cache line, and the widest vector */

void *fbp_alloc(
    size_t bytes); /* aligned to FBP_ALIGN and zeroed; NULL, with a message, on failure */
void fbp_free(void *block);

/* Adds up the parts of a block first, then hands them out: run the same calls twice, once with base
 * NULL, allocate `used` bytes, and once more with the block. */
typedef struct {
    char *base;
    size_t used;
} fbp_carver;
void *fbp_carve(fbp_carver *carver, int64_t count, size_t size);

#endif
