/* The family of activations: the formulas of math/activations.h with the loops of ops/unary.h. */
#include <math.h>

#include "ops/unary.h"

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "math/activations.h"
#include "math/expand.h"

#define FBP_ROWS "math/activations.h"
#define FBP_TEMPLATE "ops/unary.h"
#include "math/expand.h"

#define ATTR ATTR_ENTRY
#define ROW UNARY_ROW
#define FBP_ROWS_ZEROS FBP_ZEROS_KEPT
#define FBP_ROWS_KIND FBP_ACTIVATION

static const fbp_row rows[] = {
#include "math/activations.h"
};

extern const fbp_family FBP_FAMILY(activation);
const fbp_family FBP_FAMILY(activation) = {rows, sizeof rows / sizeof rows[0]};
