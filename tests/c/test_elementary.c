/* The elementary functions, and the activations made of them, against the C library: in float against
 * its double, in double against its long double. On every instruction set that runs here:
 *
 *     test_elementary                 every 4099th float, and 100,000 doubles
 *     test_elementary --exhaustive    every float, and 20 million doubles; prints the worst of each
 *
 * Errors of values are counted in units in the last place of the exact value, where a denormal's last
 * place is the smallest denormal; those of derivatives in eps times the largest magnitude that the
 * derivative takes. What other tests hold for every row of the table is not repeated here.
 *
 * The file includes itself, once for each type of the witnesses. */
#ifndef real

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <tgmath.h>

#include "fbp.h"

#define real double
#define W(name) name##_double
#include "test_elementary.c"
#undef real
#undef W
#define real long double
#define W(name) name##_long
#include "test_elementary.c"
#undef real
#undef W

enum { ELEMENTARY = -1 };

/* The bounds that math/elementary.h and math/activations.h state. */
typedef struct {
    const char *name;
    int order; /* ELEMENTARY, or the derivative of an activation */
    double (*exact_double)(double);
    long double (*exact_long)(long double);
    double bound[2]; /* by fbp_dtype; ulp, for derivatives eps of the largest */
} function;

#define OF(name) name##_double, name##_long
static const function functions[] = {
    {"exp", ELEMENTARY, OF(exp_of), {1, 1}},
    {"expm1", ELEMENTARY, OF(expm1_of), {2, 2}},
    {"log", ELEMENTARY, OF(log_of), {1, 1}},
    {"log1p", ELEMENTARY, OF(log1p_of), {2, 2}},
    {"tanh", ELEMENTARY, OF(tanh_of), {3, 3}},
    {"logistic", ELEMENTARY, OF(logistic), {3, 3}},
    {"softplus", ELEMENTARY, OF(softplus), {2, 2}},
    {"erf", ELEMENTARY, OF(erf_of), {2, 2}},
    {"erfc", ELEMENTARY, OF(erfc_of), {4, 4}},
    {"elu", 0, OF(elu), {2, 2}},
    {"selu", 0, OF(selu), {4, 4}},
    {"softsign", 0, OF(softsign), {2, 2}},
    {"silu", 0, OF(silu), {4, 4}},
    {"gelu", 0, OF(gelu), {4, 5}},
    {"gelu_tanh", 0, OF(gelu_tanh), {4, 5}},
    {"mish", 0, OF(mish), {4, 4}},
    {"logistic", 1, OF(logistic_slope), {4, 4}},
    {"tanh", 1, OF(tanh_slope), {4, 4}},
    {"elu", 1, OF(elu_slope), {4, 4}},
    {"selu", 1, OF(selu_slope), {4, 4}},
    {"softplus", 1, OF(logistic), {4, 4}},
    {"softsign", 1, OF(softsign_slope), {4, 4}},
    {"silu", 1, OF(silu_slope), {4, 4}},
    {"gelu", 1, OF(gelu_slope), {4, 4}},
    {"gelu_tanh", 1, OF(gelu_tanh_slope), {4, 4}},
    {"mish", 1, OF(mish_slope), {4, 4}},
    {"logistic", 2, OF(logistic_curvature), {4, 4}},
    {"tanh", 2, OF(tanh_curvature), {4, 4}},
    {"softplus", 2, OF(logistic_slope), {4, 4}},
    {"softsign", 2, OF(softsign_curvature), {4, 4}},
    {"silu", 2, OF(silu_curvature), {4, 4}},
    {"gelu", 2, OF(gelu_curvature), {4, 4}},
    {"gelu_tanh", 2, OF(gelu_tanh_curvature), {4, 4}},
    {"mish", 2, OF(mish_curvature), {4, 4}},
};

enum { chunk = 4096, most_isas = 8 };

/* What one instruction set has shown of one function. */
typedef struct {
    double ulp, at; /* the worst value's error, and its argument */
    double error;   /* the worst absolute error */
    int wrong;      /* an infinity, NaN or sign that is not the exact one's */
    double wrong_at;
} finding;

static int failures;

static void compute(const function *f, fbp_dtype dtype, int64_t n, const void *x, void *y) {
    const double attrs[] = {1.0}; /* beta of silu, alpha of elu */
    fbp_status status =
        f->order == ELEMENTARY
            ? fbp_elementary_run(f->name, dtype, n, x, y)
            : fbp_activation_run(fbp_row_find(FBP_ACTIVATION, f->name), dtype, attrs, f->order, n, x, y);
    if (status != FBP_OK) {
        failures++;
        printf("%s: %s\n", f->name, fbp_message());
    }
}

/* The last place of an exact value in the type. */
static long double last_place(long double exact, fbp_dtype dtype) {
    const int digits = dtype == FBP_F32 ? FLT_MANT_DIG : DBL_MANT_DIG;
    const int lowest = dtype == FBP_F32 ? FLT_MIN_EXP : DBL_MIN_EXP;
    int exponent = lowest;
    if (exact != 0) (void)frexpl(exact, &exponent);
    return ldexpl(1, (exponent > lowest ? exponent : lowest) - digits);
}

static void note(finding *found, double x, double y, long double exact, fbp_dtype dtype, int order) {
    const long double largest = dtype == FBP_F32 ? (long double)FLT_MAX : (long double)DBL_MAX;
    const int overflows = fabsl(exact) > largest;
    int right = isnan(exact) ? isnan(y) : !isnan(y);
    if (right && overflows) right = (isinf(y) || fabs(y) == (double)largest) && (y > 0) == (exact > 0);
    if (right && !overflows) right = !isinf(y);
    /* Where a function is odd, so is our zero; an underflowed value may lose its sign. */
    if (right && exact == 0 && order < 1) right = y != 0 || signbit(y) == signbit(exact);
    if (!right) {
        found->wrong = 1;
        found->wrong_at = x;
        return;
    }
    if (isnan(exact) || overflows) return;
    const double error = (double)fabsl((long double)y - exact);
    if (error == 0) return;
    const double ulp = (double)((long double)error / last_place(exact, dtype));
    if (ulp > found->ulp) {
        found->ulp = ulp;
        if (order < 1) found->at = x;
    }
    if (error > found->error) {
        found->error = error;
        if (order >= 1) found->at = x;
    }
}
