/* The family of elementwise functions: the formulas of math/functions.h with the loops of
 * ops/unary.h. */
#include <math.h>

#include "ops/unary.h"

#define FBP_TEMPLATE "math/elementary.h"
#include "math/expand.h"
#define FBP_TEMPLATE "math/functions.h"
#include "math/expand.h"

#define FBP_ROWS "math/functions.h"
#define FBP_TEMPLATE "ops/unary.h"
#include "math/expand.h"

#define ATTR ATTR_ENTRY
#define ROW UNARY_ROW
#define FBP_ROWS_ZEROS FBP_ZEROS_NEVER
#define FBP_ROWS_KIND FBP_FUNCTION

static const fbp_row rows[] = {
#include "math/functions.h"
};

extern const fbp_family FBP_FAMILY(function);
const fbp_family FBP_FAMILY(function) = {rows, sizeof rows / sizeof rows[0]};
