/* Memory: the only file that allocates. A call counts what it needs, takes one aligned block, and
 * carves its buffers from it; a pool keeps the blocks of a plan's finished calls for its next
 * ones. */
#ifndef FBP_CORE_ARENA_H
#define FBP_CORE_ARENA_H

#include "core/parallel.h"

#define FBP_ALIGN 64 /* a cache line, and the widest vector */

/* Aligned to FBP_ALIGN and zeroed; NULL, with a message, on failure. */
void *fbp_alloc(size_t bytes);
void fbp_free(void *block);
size_t fbp_block_bytes(size_t bytes); /* what it takes for so many; 0 where that is too much */

/* Adds up the parts of a block first, then hands them out: run the same calls twice, once with base
 * NULL, allocate `used` bytes, and once more with the block. */
typedef struct {
    char *base;
    size_t used;
} fbp_carver;
void *fbp_carve(fbp_carver *carver, int64_t count, size_t size);
size_t fbp_carved_bytes(int64_t count, size_t size); /* what one such part takes */
typedef void (*fbp_carve_fn)(void *call, fbp_carver *carver);

/* Blocks that finished calls leave for later ones, with what they last held. Any thread may carve
 * and give at any time. */
#define FBP_POOL 4
typedef struct {
    void *block;
    size_t bytes;
} fbp_scratch;
typedef struct {
    fbp_scratch kept[FBP_POOL];
    fbp_counter taken[FBP_POOL];
} fbp_pool;

/* Counts what `carve` carves, takes a block of that size, and carves it. */
fbp_status fbp_pool_carve(fbp_pool *pool, fbp_carve_fn carve, void *call, fbp_scratch *scratch);
void fbp_pool_give(fbp_pool *pool, fbp_scratch scratch);
void fbp_pool_free(fbp_pool *pool);

#endif
