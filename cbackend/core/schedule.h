/* A schedule: the steps that take a tile of samples through a graph, and the buffers that they work
 * in. There is one for training, forward through the losses and back, and one for predict. Made by
 * the graph alone: what it takes in bytes follows from the number of samples. */
#ifndef FBP_CORE_SCHEDULE_H
#define FBP_CORE_SCHEDULE_H

#include "core/graph.h"

typedef enum {
    FBP_GATHER,    /* an input's samples */
    FBP_FORWARD,   /* a node */
    FBP_ONES,      /* a one after the last column of a value */
    FBP_LOSS_OF,   /* a loss, and its gradient */
    FBP_BACKWARD,  /* a node, to its inputs */
    FBP_PASS,      /* a gradient is copied */
    FBP_ADD,       /* a gradient is added to another */
    FBP_ZEROS,     /* zeros after the last column of a gradient */
    FBP_SUM,       /* a node's part of the gradient of a value that samples share, over the batch */
    FBP_GRADIENTS, /* of parameters, in a plan with checkpoints: of the uses that have their turn */
    FBP_STORE,     /* a buffer of the tile is rounded, and stored for the batch */
    FBP_LOAD       /* and taken up again */
} fbp_step_kind;

/* Who takes a step: each thread with its tiles; or, at a meeting of all, with the whole batch
 * there, one thread for all, or all of them with parts of the sum that it is, or with tiles of
 * parameters. Steps between two meetings are a segment of the rows phase. */
typedef enum { FBP_BY_TILES = 0, FBP_BY_ONE, FBP_BY_PARTS, FBP_BY_PARAMETERS } fbp_crew;

typedef struct {
    fbp_step_kind kind;
    fbp_crew by;
    int index;   /* of the node, the value, the loss or the turn */
    int from;    /* FBP_PASS, FBP_ADD: the buffer that is read; FBP_STORE, FBP_LOAD: the buffer;
                    FBP_SUM: the node's input */
    int add;     /* FBP_SUM: to what is there */
    int again;   /* FBP_FORWARD, FBP_ONES: on the way back, in a checkpoint */
    int runs_on; /* FBP_SUM: over all batches of a step */
    fbp_step_kind of;       /* FBP_STORE, FBP_LOAD: the step that has written it or needs it */
    int to[FBP_MAX_INPUTS]; /* buffers that gradients are written to: of a backward's inputs, of a
                               loss's raw output or of a sum's value; FBP_ONES: that of the value;
                               -1: none */
} fbp_step;

/* Where an operand is found while a call runs: a buffer of the batch or of the tile, with what its
 * samples take; one that all samples share; a parameter at an offset; a constant; an input in
 * compressed rows. */
typedef enum {
    FBP_NOWHERE = 0,
    FBP_IN_GRAPH,
    FBP_IN_BATCH,
    FBP_IN_TILE,
    FBP_IN_COMMON,
    FBP_IN_PARAMETERS,
    FBP_IN_SAMPLES
} fbp_where;

/* Room for so many elements of each sample, or of all in common, from the step that first writes
 * there to the last that reads; if `kept`, gradients of parameters are formed from it. What is
 * kept, or is there at a meeting, has room for the whole batch; else a tile of samples, on which
 * one thread works. */
typedef struct {
    int64_t elements, offset;
    int64_t stride; /* elements from one sample to the next */
    int64_t store;  /* in a mixed plan, where elements of a sample are stored in 16 bits; or -1 */
    fbp_where where;
    fbp_content content;
    int kept, begin, end;
    int waits;        /* for the gradients of parameters that are yet to be formed from it */
    int pause, again; /* after the one and before the other step its room is free */
} fbp_buffer;

/* Of a pointer of a node's calls. Calls are many and may be small, so what a node has stands close
 * together, and only what its function reads or writes is looked up. */
typedef struct {
    fbp_where where;
    int slot;          /* the pointer: bytes from the start of the fbp_arrays */
    size_t offset;     /* elements of a sample in a buffer; bytes in common or the flat buffer;
                          FBP_IN_SAMPLES: the input's number */
    size_t sample;     /* bytes from one sample to the next */
    const void *fixed; /* FBP_IN_GRAPH; NULL: nowhere */
} fbp_spot;

/* The spots of a node: of forward, when it first runs and when it runs again (the same where no
 * node does); and of backward, the first of which are those of its sums over samples. */
typedef struct {
    const fbp_spot *first, *again, *back;
    int n_forward, n_back, n_sum;
} fbp_spots;

typedef struct {
    int n_steps, n_buffers, n_meetings;
    int first_apart; /* the step from which on all go back through what is derived; or n_steps */
    int goes_apart;  /* there is such a step wherever something derived goes back */
    int n_derived;   /* the first steps: forward, of what parameters and constants alone make */
    fbp_step *steps;
    fbp_buffer *buffers;
    int first_loss;   /* a step */
    int coupled;      /* the first node that runs and reads a whole batch's samples; -1: none */
    int *complete_at; /* (n_values) the step before which a gradient is complete, or -1 */
    int *value_at, *gradient_at; /* (n_values) buffers; -1: none */
    int *kept_at;                /* (n_nodes, FBP_MAX_OUTPUTS) */
    int *dx_at;          /* (n_nodes, FBP_MAX_INPUTS) gradients that the weights phase reads */
    fbp_spots *spots;    /* (n_nodes) */
    fbp_spot *all_spots; /* those of all nodes */
    /* Of checkpoints: where values lie that nodes yield when they run again, for their own
     * checkpoint alone (-1: they do not). */
    int *again_at;      /* (n_values) */
    double flops_again; /* of a sample */
    /* Gradients of parameters are formed in turns, each in a step of its own, as those are there
     * from which they are formed: a node's uses in turn turn_of[node]. 0 of them: all are formed in
     * the weights phase. */
    int n_turns, *turn_of;                 /* (n_nodes) */
    int64_t tile_elements, batch_elements; /* of one sample, in all buffers of a kind */
    int64_t stored_elements;               /* likewise, of numbers of 16 bits */
    int64_t common_elements;
} fbp_schedule;

/* n_outputs values are wanted at the end of a schedule for predict; a schedule for training is told
 * by outputs being NULL. */
fbp_status fbp_schedule_make(fbp_schedule *schedule, const fbp_graph *graph, int n_outputs,
                             const int *outputs);
void fbp_schedule_free(fbp_schedule *schedule);

/* The first step of making one, and the last: buffers share room where their times do not meet, and
 * spots. */
fbp_status fbp_schedule_allocate(fbp_schedule *schedule, const fbp_graph *graph);
/* Between them, in a mixed plan: what is kept is stored in 16 bits, by further steps. */
fbp_status fbp_schedule_store(fbp_schedule *schedule, const fbp_graph *graph);
void fbp_schedule_place(fbp_schedule *schedule, const fbp_graph *graph, int training);
/* The buffer of a value as node n finds it when it runs again and back. */
int fbp_back_at(const fbp_schedule *schedule, const fbp_graph *graph, int n, int v);

#endif
