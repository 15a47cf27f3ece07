/* exp, log, tanh, erf and their relatives as straight-line code: selects instead of branches, bit
 * patterns instead of tables, no library call, so that a loop over them becomes vector code on
 * every instruction set. A template (expand.h); it holds no loop. It is long because the functions
 * lean on each other: tanh on expm1, softplus on log1p, erfc on the tail of the normal
 * distribution.
 *
 * Above each function stands its error bound in units in the last place (ulp) of the exact result,
 * where the last place of a denormal is the smallest denormal. The bounds are for float and double,
 * with FMA and without, over all arguments; tests/c/test_elementary.c measures them. Infinities,
 * NaN, signed zeros and denormals are as in C's annex F.
 *
 * The polynomials are minimax fits by Remez exchange in 200-bit arithmetic (mpmath), weighted for
 * the relative error of the function they end up in. Of those for exp and log the lowest
 * coefficients were rounded to the type one after the other and the rest fitted again; those of the
 * normal tail were rounded and then moved by single last places, alone and in pairs, as long as the
 * largest error fell. */

#define ONE_BITS ((bits_t)FBP_BIAS << FBP_MANTISSA)
#define SIGN_BIT ((bits_t)1 << (8 * sizeof(real) - 1))

FBP_INLINE bits_t FN(bits)(real x) {
    bits_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

FBP_INLINE real FN(from_bits)(bits_t b) {
    real x;
    memcpy(&x, &b, sizeof x);
    return x;
}

FBP_INLINE real FN(magnitude)(real x) { return FN(from_bits)(FN(bits)(x) & ~SIGN_BIT); }

/* y >= 0 with the sign of x. */
FBP_INLINE real FN(with_sign)(real y, real x) {
    return FN(from_bits)(FN(bits)(y) | (FN(bits)(x) & SIGN_BIT));
}

/* These let NaN through, and the last two take 0.0 and -0.0 to 0.0. */
FBP_INLINE real FN(at_least)(real x, real low) { return x < low ? low : x; }

FBP_INLINE real FN(at_most)(real x, real high) { return x > high ? high : x; }

FBP_INLINE real FN(positive_part)(real x) { return x <= (real)0 ? (real)0 : x; }

FBP_INLINE real FN(step)(real x) { return x <= (real)0 ? (real)0 : (x > (real)0 ? (real)1 : x); }

/* A longer polynomial is a chain of these: x^4 p + x^3 c3 + x^2 c2 + x c1 + c0. */
FBP_INLINE real FN(horner)(real p, real x, real c3, real c2, real c1, real c0) {
    p = FBP_FMA(p, x, c3);
    p = FBP_FMA(p, x, c2);
    p = FBP_FMA(p, x, c1);
    return FBP_FMA(p, x, c0);
}

/* a*b - p exactly, for p = a*b rounded, as long as nothing underflows. Without FMA by Dekker's
 * splitting (A floating-point technique for extending the available precision, 1971). */
FBP_INLINE real FN(product_tail)(real a, real b, real p) {
#if FBP_HAS_FMA
    return FBP_FMA(a, b, -p);
#else
    const bits_t high = ~(((bits_t)1 << (FBP_MANTISSA + 2) / 2) - 1);
    const real ah = FN(from_bits)(FN(bits)(a) & high), al = a - ah;
    const real bh = FN(from_bits)(FN(bits)(b) & high), bl = b - bh;
    return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
#endif
}

/* ---- exp and what it is made of ---- */

#if FBP_IS_F32
#define LOG2_E 1.44269504f
#define LN2_HIGH 0.693145752f /* 16 bits: its product with an exponent is exact */
#define LN2_LOW 1.42860677e-06f
#define ROUNDER 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, held in the low bits */
#define EXP_LOWEST -174.0f  /* below, exp_parts would leave the range of two exponents */
#define EXP_HIGHEST 89.0f
#define EXPM1_LOWEST -20.0f
#else
#define LOG2_E 1.4426950408889634
#define LN2_HIGH 0.6931471803691238 /* 33 bits */
#define LN2_LOW 1.9082149292705877e-10
#define ROUNDER 6755399441055744.0 /* 1.5 * 2^52 */
#define EXP_LOWEST -1416.0
#define EXP_HIGHEST 710.0
#define EXPM1_LOWEST -40.0
#endif

/* (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2. */
FBP_INLINE real FN(exp_polynomial)(real r) {
#if FBP_IS_F32
    real p = FBP_FMA(1.9662628e-04f, r, 1.3935043e-03f);
    return FN(horner)(p, r, 8.333644e-03f, 4.1666467e-02f, 1.6666666e-01f, 0.5f);
#else
    real p = FBP_FMA(2.11375157356895e-09, r, 2.511059815541825e-08);
    p = FBP_FMA(p, r, 2.7556694110178455e-07);
    p = FN(horner)(p, r, 2.755724071067273e-06, 2.480158779699505e-05, 0.00019841269888449772,
                   0.0013888888888774493);
    return FN(horner)(p, r, 0.008333333333321187, 0.0416666666666666, 0.16666666666666677, 0.5);
#endif
}

/* exp(x - tail) = (1 + p) * s1 * s2, both powers of two, for x above EXP_LOWEST. The tail is at
 * most a few ulp of x. */
typedef struct {
    real p, s1, s2;
} FN(parts_of_exp);

FBP_INLINE FN(parts_of_exp) FN(exp_parts)(real x, real tail) {
    x = FN(at_most)(FN(at_least)(x, EXP_LOWEST), EXP_HIGHEST);
    /* x = n ln2 + r. The bits of `shifted` end in n + 2 * bias: the exponent fields of two powers
     * of two whose product is 2^n, which alone may be too large or too small for the type. */
    const real shifted = FBP_FMA(x, LOG2_E, ROUNDER + 2 * FBP_BIAS);
    const real n = shifted - (ROUNDER + 2 * FBP_BIAS);
    const bits_t exponents = FN(bits)(shifted) - FN(bits)(ROUNDER);
    const bits_t half = exponents >> 1;
    const real r = FBP_FMA(n, -LN2_HIGH, x) - FBP_FMA(n, LN2_LOW, tail);
    FN(parts_of_exp) e;
    e.p = FBP_FMA(r * r, FN(exp_polynomial)(r), r);
    e.s1 = FN(from_bits)(half << FBP_MANTISSA);
    e.s2 = FN(from_bits)((exponents - half) << FBP_MANTISSA);
    return e;
}

FBP_INLINE real FN(exp_of_parts)(FN(parts_of_exp) e) { return ((real)1 + e.p) * e.s1 * e.s2; }

/* y exp(x) but for the factor s2, which goes in last: it may make a denormal, and no digit is to be
 * lost before. One rounding less than a product with exp(x). */
FBP_INLINE real FN(times_exp)(real y, FN(parts_of_exp) e) { return FBP_FMA(y, e.p, y) * e.s1; }

/* 1 ulp. */
FBP_INLINE real FN(exp)(real x) { return FN(exp_of_parts)(FN(exp_parts)(x, (real)0)); }

/* exp(x) - 1: 1.5 ulp in float, 2 in double. */
FBP_INLINE real FN(expm1)(real x) {
    const real c = FN(at_most)(FN(at_least)(x, EXPM1_LOWEST), EXP_HIGHEST);
    const real shifted = FBP_FMA(c, LOG2_E, ROUNDER + FBP_BIAS - 1);
    const real n = shifted - (ROUNDER + FBP_BIAS - 1);
    const real r = FBP_FMA(n, -LN2_LOW, FBP_FMA(n, -LN2_HIGH, c));
    const real p = FBP_FMA(r * r, FN(exp_polynomial)(r), r); /* expm1(r) */
    /* 2^n expm1(r) + 2^n - 1, halved, since 2^128 is no float. */
    const real s = FN(from_bits)((FN(bits)(shifted) - FN(bits)(ROUNDER)) << FBP_MANTISSA);
    const real y = (real)2 * FBP_FMA(s, p, s - (real)0.5);
    return FN(with_sign)(FN(magnitude)(n == (real)0 ? p : y), x);
}

/* 2.5 ulp in float, 3 in double. */
FBP_INLINE real FN(tanh)(real x) {
    const real e = FN(expm1)((real)-2 * FN(magnitude)(x));
    return FN(with_sign)(-e / ((real)2 + e), x);
}

/* 1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow and keeps the lower tail's digits.
 * 2.5 ulp. */
FBP_INLINE real FN(logistic)(real x) {
    const real e = FN(exp)(-FN(magnitude)(x));
    return (x >= (real)0 ? (real)1 : e) / ((real)1 + e);
}

/* logistic(x) and logistic(-x) = 1 - logistic(x), both without cancellation. */
typedef struct {
    real above, below;
} FN(shares);

FBP_INLINE FN(shares) FN(logistic_shares)(real x) {
    const real e = FN(exp)(-FN(magnitude)(x));
    const real larger = (real)1 / ((real)1 + e), smaller = e * larger;
    const int positive = x >= (real)0;
    FN(shares) s;
    s.above = positive ? larger : smaller;
    s.below = positive ? smaller : larger;
    return s;
}

/* ---- log and what it is made of ---- */

#if FBP_IS_F32
#define SQRT_HALF 0.707106769f
#define SQRT_2_MINUS_1 0.41421354f
#define SMALLEST_NORMAL 1.17549435e-38f
#define LARGEST 3.40282347e+38f
#else
#define SQRT_HALF 0.7071067811865476
#define SQRT_2_MINUS_1 0.41421356237309503
#define SMALLEST_NORMAL 2.2250738585072014e-308
#define LARGEST 1.7976931348623157e+308
#endif

/* (log(1 + f) - f + f^2 / 2) / f^3 for 1 + f in [sqrt(1/2), sqrt(2)]. */
FBP_INLINE real FN(log_polynomial)(real f) {
#if FBP_IS_F32
    real p = FN(horner)(-7.641088e-02f, f, 1.27657e-01f, -1.3159555e-01f, 1.4201072e-01f,
                        -1.6623345e-01f);
    p = FBP_FMA(p, f, 2.000126e-01f);
    p = FBP_FMA(p, f, -2.5000823e-01f);
    p = FBP_FMA(p, f, 3.333333e-01f);
#else
    real p = FBP_FMA(0.0261393242188489, f, -0.05980522609398551);
    p = FBP_FMA(p, f, 0.06503616454951705);
    p = FN(horner)(p, f, -0.05678241799542905, 0.05668434889294984, -0.06196604298797098,
                   0.06684573761205638);
    p = FN(horner)(p, f, -0.0714944603311739, 0.07691531448565707, -0.08332913201100899,
                   0.09090923839615685);
    p = FN(horner)(p, f, -0.10000015216959748, 0.11111111150391481, -0.1249999969124367,
                   0.14285714280043418);
    p = FN(horner)(p, f, -0.1666666666982788, 0.20000000000067003, -0.24999999999987968,
                   0.3333333333333314);
#endif
    return p;
}

/* n ln2 + log(1 + f). */
FBP_INLINE real FN(log_reduced)(real f, real n) {
    const real square = f * f;
    const real tail = FBP_FMA(square * f, FN(log_polynomial)(f), n * LN2_LOW);
    return FBP_FMA(n, LN2_HIGH, f - ((real)0.5 * square - tail));
}

/* x = 2^n (1 + f), for a normal x > 0. */
typedef struct {
    real f, n;
} FN(exponent_split);

FBP_INLINE FN(exponent_split) FN(split_exponent)(real x) {
    const bits_t above = FN(bits)(x) + (ONE_BITS - FN(bits)(SQRT_HALF));
    const bits_t fraction = ((bits_t)1 << FBP_MANTISSA) - 1;
    /* An integer below 2^mantissa becomes a real through the bits of 2^mantissa + integer. */
    const real two_power = (real)((bits_t)1 << FBP_MANTISSA);
    const real biased = FN(from_bits)(FN(bits)(two_power) | (above >> FBP_MANTISSA));
    FN(exponent_split) split;
    split.n = biased - (two_power + FBP_BIAS);
    split.f = FN(from_bits)((above & fraction) + FN(bits)(SQRT_HALF)) - (real)1;
    return split;
}

/* 1 ulp. */
FBP_INLINE real FN(log)(real x) {
    const real two_power = (real)((bits_t)1 << FBP_MANTISSA);
    const int denormal = x < SMALLEST_NORMAL;
    const FN(exponent_split) split = FN(split_exponent)(denormal ? x * two_power : x);
    const real y = FN(log_reduced)(split.f, split.n - (denormal ? (real)FBP_MANTISSA : (real)0));
    const real below = x == (real)0 ? -(real)INFINITY : (real)NAN;
    return x > (real)0 ? (x <= LARGEST ? y : x) : below;
}

/* log(1 + x): 1.5 ulp. */
FBP_INLINE real FN(log1p)(real x) {
    const FN(exponent_split) split = FN(split_exponent)((real)1 + x);
    /* f once more from x itself, without the rounding of 1 + x; where x is so large that the 1 is
     * lost, 2^-n would leave the range and f is right already. */
    const int large = split.n > (real)FBP_MANTISSA;
    const real s = FN(from_bits)(
        (bits_t)(FN(bits)(ROUNDER + FBP_BIAS - (large ? (real)0 : split.n)) - FN(bits)(ROUNDER))
        << FBP_MANTISSA);
    const real f = large ? split.f : FBP_FMA(x, s, s - (real)1);
    const real y = FN(with_sign)(FN(magnitude)(FN(log_reduced)(f, split.n)), x);
    const real below = x == (real)-1 ? -(real)INFINITY : (real)NAN;
    return x > (real)-1 ? (x <= LARGEST ? y : x) : below;
}

/* log(1 + x) for x in [0, 1]. */
FBP_INLINE real FN(log1p_unit)(real x) {
    const int upper = x > SQRT_2_MINUS_1;
    return FN(log_reduced)(upper ? FBP_FMA(x, (real)0.5, (real)-0.5) : x,
                           upper ? (real)1 : (real)0);
}

/* log(1 + exp(x)), without overflow: 2 ulp. */
FBP_INLINE real FN(softplus)(real x) {
    const real e = FN(exp)(-FN(magnitude)(x));
    return (x > (real)0 ? x : (real)0) + FN(log1p_unit)(e);
}

/* ---- erf, erfc and the normal distribution ---- */

#if FBP_IS_F32
#define TAIL_CENTRE 1.5f
#define SQRT_2 1.41421354f
#define SQRT_2_LOW 2.4203235e-08f
#define ERFC_ZERO 12.0f /* from here on erfc is 0 */
#else
#define TAIL_CENTRE 2.25
#define SQRT_2 1.4142135623730951
#define SQRT_2_LOW -9.667293313452913e-17
#define ERFC_ZERO 28.0
#endif

/* The upper tail Q(a) of the normal distribution beyond a >= 0, as exp(-a^2 / 2) times
 * scaled * (1 + error): a polynomial in t = (a - K) / (a + K) over a + K. The variable is that of
 * Shepherd and Laframboise (Chebyshev approximation of (1 + 2x) exp(x^2) erfc x, 1981); with this
 * denominator one division serves both. A larger K would want fewer coefficients, but multiply the
 * rounding of t by more. */
typedef struct {
    real scaled, error;
} FN(tail);

/* Its argument, as a + K = sum + lost: exp(a^2 / 2) Q(a) falls like 1 / a, which would pass the
 * rounding of the sum on in full. K has so few bits that sum - K is exact also where a is small. */
typedef struct {
    real sum, lost;
} FN(tail_argument);

FBP_INLINE FN(tail_argument) FN(tail_at)(real a) {
    FN(tail_argument) at;
    at.sum = a + TAIL_CENTRE;
    at.lost = a - (at.sum - TAIL_CENTRE);
    return at;
}

/* The same for sqrt(2) a, without the roundings of the product and of the constant. */
FBP_INLINE FN(tail_argument) FN(tail_at_sqrt_2)(real a) {
    FN(tail_argument) at;
    at.sum = FBP_FMA(SQRT_2, a, TAIL_CENTRE);
    at.lost = FBP_FMA(SQRT_2, a, TAIL_CENTRE - at.sum);
    at.lost = FBP_FMA(SQRT_2_LOW, a, at.lost);
#if !FBP_HAS_FMA
    at.lost = at.lost + FN(product_tail)(SQRT_2, a, SQRT_2 * a);
#endif
    return at;
}

FBP_INLINE FN(tail) FN(normal_tail)(FN(tail_argument) at) {
    const real w = (real)1 / at.sum;
    const real t = FBP_FMA((real)-2 * TAIL_CENTRE, w, (real)1);
#if FBP_IS_F32
    real p = FBP_FMA(-5.7530408e-05f, t, -6.219725e-05f);
    p = FN(horner)(p, t, 2.7120384e-04f, 5.8915437e-04f, 1.5222072e-04f, -1.1318438e-03f);
    p = FN(horner)(p, t, -2.6702874e-03f, -2.4052304e-03f, 3.9796894e-03f, 1.7636579e-02f);
    p = FN(horner)(p, t, 1.7897345e-02f, -5.7495322e-02f, -1.950995e-01f, 6.17342e-01f);
#else
    real p = FBP_FMA(-1.9191899512156203e-09, t, 6.112086711982392e-09);
    p = FBP_FMA(p, t, 4.063206832473007e-08);
    p = FBP_FMA(p, t, 1.1130845823968492e-08);
    p = FN(horner)(p, t, -1.7304015614208073e-07, -2.372609608724744e-07, 1.4612189037948435e-07,
                   6.845512480438595e-07);
    p = FN(horner)(p, t, 8.122638564125484e-07, 1.2617305524538755e-07, -1.8593077697496981e-06,
                   -4.615492783520971e-06);
    p = FN(horner)(p, t, -4.214325185540982e-06, 5.924587406456072e-06, 2.598147482162725e-05,
                   3.255146098987915e-05);
    p = FN(horner)(p, t, -2.6005836891103532e-05, -0.00016753348803161342, -0.00021266664843903782,
                   0.00028773620708098823);
    p = FN(horner)(p, t, 0.0013750492928964614, 0.0008118614099456202, -0.005642406277618898,
                   -0.010562332387505636);
    p = FN(horner)(p, t, 0.02783749861934964, 0.08013323879102814, -0.3863810608479398,
                   0.6914337184072874);
#endif
    FN(tail) q;
    q.scaled = p * w;
    /* 1 / (a + K) = w (1 + error), after the roundings of the sum and of the division. */
    q.error = FBP_FMA(-w, at.lost, -FN(product_tail)(w, at.sum, (real)1));
    return q;
}

/* factor * Q(a) but for e.s2, given a as `at` and e = exp(-a^2 / 2). */
FBP_INLINE real FN(times_normal_tail)(real factor, FN(tail_argument) at, FN(parts_of_exp) e) {
    const FN(tail) q = FN(normal_tail)(at);
    e.p = e.p + FBP_FMA(q.error, e.p, q.error);
    return FN(times_exp)(factor * q.scaled, e);
}

/* 1 - erf(x): 4 ulp. */
FBP_INLINE real FN(erfc)(real x) {
    const real a = FN(at_most)(FN(magnitude)(x), ERFC_ZERO);
    /* exp multiplies the rounding error of a^2 by a^2: it is passed on. */
    const real square = a * a;
    const FN(parts_of_exp) e = FN(exp_parts)(-square, FN(product_tail)(a, a, square));
    const real y = FN(times_normal_tail)((real)2, FN(tail_at_sqrt_2)(a), e) * e.s2;
    return x < (real)0 ? (real)2 - y : y;
}

/* 1.5 ulp in float, 2 in double. */
FBP_INLINE real FN(erf)(real x) {
    const real a = FN(magnitude)(x), u = a * a;
    /* erf(a) / a - 1 for a < 1 */
#if FBP_IS_F32
    real p = FBP_FMA(7.85385e-05f, u, -8.0102024e-04f);
    p = FBP_FMA(p, u, 5.1883305e-03f);
    p = FN(horner)(p, u, -2.6853815e-02f, 1.12835854e-01f, -3.7612626e-01f, 1.2837917e-01f);
#else
    real p = FN(horner)(-7.779467009284168e-10, u, 1.3710979620445635e-08, -1.6206313583187198e-07,
                        1.6447131549126013e-06, -1.492471230029015e-05);
    p = FBP_FMA(p, u, 0.00012055293576816174);
    p = FBP_FMA(p, u, -0.0008548325929311893);
    p = FBP_FMA(p, u, 0.005223977606118426);
    p = FN(horner)(p, u, -0.02686617064311146, 0.11283791670944185, -0.3761263890318352,
                   0.12837916709551256);
#endif
    return FN(with_sign)(a < (real)1 ? FBP_FMA(a, p, a) : (real)1 - FN(erfc)(a), x);
}

/* factor * exp(-x^2), exp as accurate as above though it multiplies the rounding of x^2. */
FBP_INLINE real FN(times_gauss)(real factor, real x) {
    const real a = FN(at_most)(FN(magnitude)(x), ERFC_ZERO);
    const real square = a * a;
    const FN(parts_of_exp) e = FN(exp_parts)(-square, FN(product_tail)(a, a, square));
    return FN(times_exp)(factor, e) * e.s2;
}

#include "math/power.h"

#undef ONE_BITS
#undef LOG2_E
#undef LN2_HIGH
#undef LN2_LOW
#undef ROUNDER
#undef EXP_LOWEST
#undef EXP_HIGHEST
#undef EXPM1_LOWEST
#undef SQRT_HALF
#undef SQRT_2_MINUS_1
#undef SMALLEST_NORMAL
#undef LARGEST
#undef TAIL_CENTRE
#undef SQRT_2
#undef SQRT_2_LOW
#undef ERFC_ZERO
#undef SIGN_BIT
