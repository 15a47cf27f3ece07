/* The elementary functions, and the activations made of them, against the C library: in float
 * against its double, in double against its long double. On every instruction set that runs here:
 *
 *     test_elementary                 every 16411th float, and 100,000 doubles
 *     test_elementary --exhaustive    every float, 64th for derivatives, and 10 million doubles;
 *                                     takes an hour and prints the worst of each
 *
 * Errors of values are counted in units in the last place of the exact value, where a denormal's
 * last place is the smallest denormal; those of derivatives in eps times the largest magnitude that
 * the derivative takes. What other tests hold for every row of the table is not repeated here. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <tgmath.h>

#include "fbp.h"

#define real double
#define W(name) name##_double
#include "witnesses.h"
#undef real
#undef W
#define real long double
#define W(name) name##_long
#include "witnesses.h"
#undef real
#undef W

enum { ELEMENTARY = -1 };

/* The bounds that math/elementary.h, trigonometry.h and activations.h state. */
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
    {"expm1", ELEMENTARY, OF(expm1_of), {1.5, 2}},
    {"log", ELEMENTARY, OF(log_of), {1, 1}},
    {"log1p", ELEMENTARY, OF(log1p_of), {1.5, 1.5}},
    {"tanh", ELEMENTARY, OF(tanh_of), {2.5, 3}},
    {"logistic", ELEMENTARY, OF(logistic), {2.5, 2.5}},
    {"softplus", ELEMENTARY, OF(softplus), {2, 2}},
    {"erf", ELEMENTARY, OF(erf_of), {1.5, 2}},
    {"erfc", ELEMENTARY, OF(erfc_of), {4, 4}},
    {"cospi", ELEMENTARY, OF(cospi_of), {2, 2}},
    {"elu", 0, OF(elu), {4, 4}},
    {"selu", 0, OF(selu), {4, 4}},
    {"softsign", 0, OF(softsign), {4, 4}},
    {"silu", 0, OF(silu), {4, 4}},
    {"gelu", 0, OF(gelu), {4, 4}},
    {"gelu_tanh", 0, OF(gelu_tanh), {4, 4}},
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
    {"logistic", 2, OF(logistic_curvature), {8, 8}},
    {"tanh", 2, OF(tanh_curvature), {8, 8}},
    {"softplus", 2, OF(logistic_slope), {8, 8}},
    {"softsign", 2, OF(softsign_curvature), {8, 8}},
    {"silu", 2, OF(silu_curvature), {8, 8}},
    {"gelu", 2, OF(gelu_curvature), {8, 8}},
    {"gelu_tanh", 2, OF(gelu_tanh_curvature), {8, 8}},
    {"mish", 2, OF(mish_curvature), {8, 8}},
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
    fbp_status status = f->order == ELEMENTARY
                            ? fbp_elementary_run(f->name, dtype, n, x, y)
                            : fbp_activation_run(fbp_row_find(FBP_ACTIVATION, f->name), dtype,
                                                 attrs, f->order, n, x, y);
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

static void note(finding *found, double x, double y, long double exact, fbp_dtype dtype,
                 int order) {
    if (isnan(exact) && isnan(y)) return;
    const long double largest = dtype == FBP_F32 ? (long double)FLT_MAX : (long double)DBL_MAX;
    const int overflows = fabsl(exact) > largest;
    int right = !isnan(exact) && !isnan(y);
    if (right && overflows)
        right = (isinf(y) || fabs(y) == (double)largest) && (y > 0) == (exact > 0);
    if (right && !overflows) right = !isinf(y);
    /* Where a function is odd, so is our zero; an underflowed value may lose its sign. */
    if (right && exact == 0 && order < 1) right = y != 0 || !signbit(y) == !signbit(exact);
    if (!right) {
        found->wrong = 1;
        found->wrong_at = x;
        return;
    }
    if (overflows) return;
    const long double distance = fabsl((long double)y - exact);
    const double error = (double)distance, ulp = (double)(distance / last_place(exact, dtype));
    if (ulp > found->ulp) {
        found->ulp = ulp;
        if (order < 1) found->at = x;
    }
    if (error > found->error) {
        found->error = error;
        if (order >= 1) found->at = x;
    }
}

static double at(fbp_dtype dtype, const void *x, int64_t i) {
    return dtype == FBP_F32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

static int n_isas;

/* Adds a chunk of n arguments to what is found of f on each instruction set; returns the largest
 * magnitude of the exact values. */
static double examine(const function *f, fbp_dtype dtype, int64_t n, const void *x,
                      finding found[most_isas]) {
    static long double exact[chunk];
    static double y[chunk];
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const double xi = at(dtype, x, i);
        exact[i] = dtype == FBP_F32 ? (long double)f->exact_double(xi) : f->exact_long(xi);
        /* Where > raises a flag for NaN, the processor stops for a hundred cycles. */
        if (isgreater(fabsl(exact[i]), (long double)largest)) largest = (double)fabsl(exact[i]);
    }
    for (int isa = 0; isa < n_isas; isa++) {
        fbp_isa_force(fbp_isa_name(isa));
        compute(f, dtype, n, x, y);
        for (int64_t i = 0; i < n; i++) {
            const float as_float = (float)exact[i];
            const double as_double = (double)exact[i];
            if (dtype == FBP_F32 ? memcmp((float *)y + i, &as_float, sizeof as_float) != 0
                                 : memcmp(y + i, &as_double, sizeof as_double) != 0)
                note(&found[isa], at(dtype, x, i), at(dtype, y, i), exact[i], dtype, f->order);
        }
    }
    return largest;
}

/* Arguments for double: a quarter with any bits, a quarter of magnitudes from 2^-60 to 2^11, where
 * things happen, a quarter around 1, where log and log1p go through zero or change their formula,
 * and a quarter evenly from -40 to 40, in the tails of the normal distribution. */
static uint64_t state;

static uint64_t random_bits(void) { /* splitmix64 */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double argument(int64_t i) {
    uint64_t bits = random_bits();
    double x;
    memcpy(&x, &bits, sizeof x);
    if (i % 4 == 0) return x;
    const double fraction = 1 + (double)(bits >> 12) * 0x1p-52;
    const double sign = bits & 1 ? -1 : 1;
    if (i % 4 == 1) return sign * ldexp(fraction, (int)(bits >> 1 & 2047) * 71 / 2048 - 60);
    if (i % 4 == 2) return 1 + sign * ldexp(fraction, -(int)(bits >> 1 & 63));
    return sign * 40 * (fraction - 1);
}

static int64_t fill(fbp_dtype dtype, int64_t first, int64_t step, int64_t end, void *x) {
    int64_t n = 0;
    for (int64_t i = first; i < end && n < chunk; i += step, n++) {
        const uint32_t bits = (uint32_t)i;
        if (dtype == FBP_F32)
            memcpy((float *)x + n, &bits, sizeof bits);
        else
            ((double *)x)[n] = argument(i);
    }
    return n;
}

static void check_function(const function *f, fbp_dtype dtype, int64_t step, int64_t end,
                           int verbose) {
    finding found[most_isas] = {{0, 0, 0, 0, 0}};
    static double x[chunk];
    double largest = 0;
    int64_t n;
    for (int64_t i = 0; (n = fill(dtype, i, step, end, x)) > 0; i += n * step)
        largest = fmax(largest, examine(f, dtype, n, x, found));
    for (int isa = 0; isa < n_isas; isa++) {
        const double eps = dtype == FBP_F32 ? (double)FLT_EPSILON : DBL_EPSILON;
        const double worst = f->order < 1 ? found[isa].ulp : found[isa].error / (eps * largest);
        const int bad = found[isa].wrong || !(worst <= f->bound[dtype]);
        failures += bad;
        if (!bad && !verbose) continue;
        printf("%-10s order %2d %s %-4s %6.3f %s at %.17g, bound %g%s", f->name, f->order,
               dtype == FBP_F32 ? "float" : "double", fbp_isa_name(isa), worst,
               f->order < 1 ? "ulp" : "eps", found[isa].at, f->bound[dtype],
               bad ? ": TOO MUCH" : "");
        if (found[isa].wrong) printf(", wrong in kind at %.17g", found[isa].wrong_at);
        printf("\n");
    }
}

/* ---- values known exactly ---- */

static void check_exact(const char *name, double x, double expected) {
    for (int isa = 0; isa < n_isas; isa++) {
        fbp_isa_force(fbp_isa_name(isa));
        const float x_float = (float)x;
        float y_float;
        double y;
        fbp_elementary_run(name, FBP_F32, 1, &x_float, &y_float);
        fbp_elementary_run(name, FBP_F64, 1, &x, &y);
        const int nan = isnan(expected) && isnan(y) && isnan(y_float);
        const int same = y == expected && y_float == (float)expected &&
                         !signbit(y) == !signbit(expected) &&
                         !signbit(y_float) == !signbit(expected);
        if (nan || same) continue;
        failures++;
        printf("%s(%g) on %s: found %g in float, %g in double, wanted %g\n", name, x,
               fbp_isa_name(isa), (double)y_float, y, expected);
    }
}

static void check_exact_values(void) {
    static const char *const odd[] = {"expm1", "log1p", "tanh", "erf"};
    const double inf = (double)INFINITY, nan = (double)NAN;
    for (int i = 0; i < 4; i++) {
        check_exact(odd[i], 0.0, 0.0);
        check_exact(odd[i], -0.0, -0.0);
    }
    for (int i = 0; fbp_elementary_name(i) != NULL; i++)
        check_exact(fbp_elementary_name(i), nan, nan);
    check_exact("exp", 0, 1), check_exact("exp", -0.0, 1);
    check_exact("exp", inf, inf), check_exact("exp", -inf, 0);
    check_exact("expm1", inf, inf), check_exact("expm1", -inf, -1);
    check_exact("log", 1, 0), check_exact("log", inf, inf);
    check_exact("log", 0.0, -inf), check_exact("log", -0.0, -inf);
    check_exact("log", -1, nan), check_exact("log", -inf, nan);
    check_exact("log1p", -1, -inf), check_exact("log1p", inf, inf);
    check_exact("log1p", -2, nan), check_exact("log1p", -inf, nan);
    check_exact("tanh", inf, 1), check_exact("tanh", -inf, -1);
    check_exact("logistic", 0, 0.5), check_exact("logistic", -0.0, 0.5);
    check_exact("logistic", inf, 1), check_exact("logistic", -inf, 0);
    check_exact("softplus", inf, inf), check_exact("softplus", -inf, 0);
    check_exact("erf", inf, 1), check_exact("erf", -inf, -1);
    check_exact("erfc", 0, 1), check_exact("erfc", -0.0, 1);
    check_exact("erfc", inf, 0), check_exact("erfc", -inf, 2);
    check_exact("cospi", inf, nan), check_exact("cospi", -inf, nan);
    check_exact("cospi", 0, 1), check_exact("cospi", -1, -1);
    check_exact("cospi", 0.5, 0), check_exact("cospi", -1.5, 0);
    check_exact("cospi", 8388607, -1), check_exact("cospi", 8388607.5, 0);
    check_exact("cospi", 16777216, 1), check_exact("cospi", 0x1p60, 1);
}

/* ---- the tester tested ---- */

/* An error of `ulp` last places, planted beside an exact value, must be measured as such. */
static void check_ruler(double exact, double y, fbp_dtype dtype, double ulp) {
    finding found = {0, 0, 0, 0, 0};
    note(&found, 0, y, exact, dtype, 0);
    if (!found.wrong && found.ulp == ulp) return;
    failures++;
    printf("the ruler: found %g ulp between %g and %g, wanted %g\n", found.ulp, y, exact, ulp);
}

int main(int argc, char **argv) {
    const int exhaustive = argc > 1 && strcmp(argv[1], "--exhaustive") == 0;
    n_isas = fbp_isa_count() < most_isas ? fbp_isa_count() : most_isas;
    check_ruler(1.0, 1.0 + 3 * (double)FLT_EPSILON, FBP_F32, 3);
    check_ruler(1.0, 1.0 - (double)FLT_EPSILON, FBP_F32, 1); /* two steps, each half a last place */
    check_ruler(3.0, 3.0 + 4 * DBL_EPSILON, FBP_F64, 2);
    check_ruler(0x1p-147, 0x1p-147 + 0x1p-149, FBP_F32, 1);
    check_ruler(0x1p-160, 0x1p-149, FBP_F32, 1 - 0x1p-11);
    check_exact_values();
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        const int64_t step = !exhaustive ? 16411 : functions[i].order < 1 ? 1 : 64;
        check_function(&functions[i], FBP_F32, step, (int64_t)1 << 32, exhaustive);
        if (LDBL_MANT_DIG > DBL_MANT_DIG + 8)
            check_function(&functions[i], FBP_F64, 1, exhaustive ? 10000000 : 100000, exhaustive);
    }
    fbp_isa_force(NULL);
    return failures != 0;
}
