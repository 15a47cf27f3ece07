/* What went wrong in a step of training, found and told. */
#ifndef FBP_CORE_CULPRIT_H
#define FBP_CORE_CULPRIT_H

#include "core/pass.h"

/* The culprit's node, and FBP_NOT_FINITE with a message, after a step on this batch; epoch, step and
 * in_weights are known. squares (n_tiles, 2): those of each tile's weights and of its bias. */
fbp_status fbp_explain(fbp_pass *pass, const fbp_batch *batch, const double *squares,
                       fbp_culprit *culprit);

#endif
