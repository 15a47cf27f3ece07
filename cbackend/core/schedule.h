/* A schedule: the steps that take a tile of samples through a graph, and the buffers that they work
 * in. There is one for training, forward through the losses and back, and one for predict. Made by
 * the graph alone: what it takes in bytes follows from the number of samples. */
#ifndef FBP_CORE_SCHEDULE_H
#define FBP_CORE_SCHEDULE_H

#include "core/graph.h"

typedef enum {
    FBP_GATHER,   /* an input's samples */
    FBP_FORWARD,  /* a node */
    FBP_ONES,     /* a one after the last column of a value */
    FBP_LOSS_OF,  /* a loss, and its gradient */
    FBP_BACKWARD, /* a node, to its inputs */
    FBP_PASS,     /* a gradient is copied */
    FBP_ADD,      /* a gradient is added to another */
    FBP_ZEROS     /* zeros after the last column of a gradient */
} fbp_step_kind;

typedef struct {
    fbp_step_kind kind;
    int index; /* of the node, the value or the loss */
    int from;  /* FBP_PASS, FBP_ADD: the buffer that is read */
    int to
        [FBP_MAX_INPUTS]; /* buffers that gradients are written to: of a backward's inputs, or of a
                               loss's raw output; -1: none */
} fbp_step;

/* Room for so many elements of each sample, from the step that first writes there to the last that
 * reads. A buffer for the whole `batch` is also read in the weights phase; the others hold a tile
 * of samples, which one thread works on. */
typedef struct {
    int64_t elements, offset; /* of a sample */
    int batch, begin, end;
} fbp_buffer;

/* Where an operand is found while a call runs: a buffer of the batch or of the tile, with what its
 * samples take; a parameter at an offset; a constant; an input in compressed rows. */
typedef enum {
    FBP_NOWHERE = 0,
    FBP_IN_BATCH,
    FBP_IN_TILE,
    FBP_IN_PARAMETERS,
    FBP_IN_GRAPH,
    FBP_IN_SAMPLES
} fbp_where;

typedef struct {
    fbp_where where;
    int input;         /* FBP_IN_SAMPLES */
    size_t offset;     /* elements of a sample in a buffer; bytes in the flat buffer */
    size_t sample;     /* bytes from one sample to the next */
    const void *fixed; /* FBP_IN_GRAPH */
} fbp_spot;

/* The spots of a node's operands, of its results' gradients, and of those gradients of inputs that
 * the weights phase reads. */
typedef struct {
    fbp_spot in[FBP_MAX_INPUTS], out[FBP_MAX_OUTPUTS], dy[FBP_MAX_OUTPUTS], dx[FBP_MAX_INPUTS];
} fbp_spots;

typedef struct {
    int n_steps, n_buffers;
    fbp_step *steps;
    fbp_buffer *buffers;
    int first_loss;   /* a step */
    int *complete_at; /* (n_values) the step before which a gradient is complete, or -1 */
    int *value_at, *gradient_at;           /* (n_values) buffers; -1: none */
    int *kept_at;                          /* (n_nodes, FBP_MAX_OUTPUTS) */
    int *dx_at;                            /* (n_nodes, FBP_MAX_INPUTS) */
    fbp_spots *spots;                      /* (n_nodes) */
    int64_t tile_elements, batch_elements; /* of one sample, in all buffers of a kind */
} fbp_schedule;

/* n_outputs values are wanted at the end of a schedule for predict; a schedule for training is told
 * by outputs being NULL. */
fbp_status fbp_schedule_make(fbp_schedule *schedule, const fbp_graph *graph, int n_outputs,
                             const int *outputs);
void fbp_schedule_free(fbp_schedule *schedule);

#endif
