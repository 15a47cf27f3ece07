/* x to a constant power: the part of math/elementary.h, which includes it, that carries more digits
 * than the type has. A template (expand.h); it holds no loop.
 *
 * The result multiplies the error of log(x) by the exponent, and by up to 709 that of exponent *
 * log(x): so both are kept as sums of two numbers, and the last step is a single rounding. The
 * error is below 1 + |exponent| / 10 ulp. What the type can represent
 * exactly, a small whole number to a small whole power, comes out exactly; repeated multiplication
 * would be as exact there, but needs a loop of its own for each exponent and loses a digit where
 * the exponent is larger. */

/* A number as an unevaluated sum, the second at most about half a last place of the first. */
typedef struct {
    real high, low;
} FN(two_reals);

/* log(x) for finite x > 0. (Sums of two by Dekker 1971, as in product_tail.) */
FBP_INLINE FN(two_reals) FN(log_in_two)(real x) {
    const int denormal = x < SMALLEST_NORMAL;
    const real two_power = (real)((bits_t)1 << FBP_MANTISSA);
    const FN(exponent_split) split = FN(split_exponent)(denormal ? x * two_power : x);
    const real f = split.f, n = split.n - (denormal ? (real)FBP_MANTISSA : (real)0);
    /* n ln2 + f - f^2 / 2, all but the low part of ln2 exactly */
    const real start = n * LN2_HIGH, sum = start + f, sum_tail = f - (sum - start);
    const real half = (real)0.5 * f, q = half * f, q_tail = FN(product_tail)(half, f, q);
    const real high = sum - q, high_tail = (sum - high) - q;
    const real rest = FBP_FMA(f * f * f, FN(log_polynomial)(f), n * LN2_LOW);
    const real low = rest + ((sum_tail + high_tail) - q_tail);
    FN(two_reals) y;
    y.high = high + low;
    y.low = low - (y.high - high);
    return y;
}

/* exp(x + low): before its only rounding off by a fifth of an ulp at most. */
FBP_INLINE real FN(exp_of_two)(real x, real low) {
    x = FN(at_most)(FN(at_least)(x, EXP_LOWEST), EXP_HIGHEST);
    const real shifted = FBP_FMA(x, LOG2_E, ROUNDER + 2 * FBP_BIAS); /* as in exp_parts */
    const real n = shifted - (ROUNDER + 2 * FBP_BIAS);
    const bits_t exponents = FN(bits)(shifted) - FN(bits)(ROUNDER);
    const bits_t half = exponents >> 1;
    const real a = FBP_FMA(n, -LN2_HIGH, x), b = FBP_FMA(n, LN2_LOW, -low);
    const real r = a - b, r_tail = (a - r) - b;
    const real sum = (real)1 + r, sum_tail = r - (sum - (real)1);
    const real y = sum + (sum_tail + FBP_FMA(r * r, FN(exp_polynomial)(r), r_tail));
    const real s1 = FN(from_bits)(half << FBP_MANTISSA);
    return y * s1 * FN(from_bits)((exponents - half) << FBP_MANTISSA);
}

FBP_INLINE int FN(is_whole)(real x) {
    const real a = FN(magnitude)(x), two_power = (real)((bits_t)1 << FBP_MANTISSA);
    return (a >= two_power) | ((a + two_power) - two_power == a);
}

/* The bits of value, or 0 where a condition does not hold. A select would not do where the
 * condition is the same for all elements: gcc makes no vectors of a loop with one. */
FBP_INLINE bits_t FN(where_so)(int condition, real value) {
    return FN(bits)(value) & ((bits_t)0 - (bits_t)condition);
}

/* x to the power of (exponent - order), the difference taken exactly; an exponent that the type
 * cannot hold is infinite. Zeros, infinities, NaN and
 * negative x are as in C's annex F: what is odd keeps the sign of x, a power that is not whole of a
 * negative number is NaN, and the power 0 is 1 whatever x is. */
FBP_INLINE real FN(power)(real x, real exponent, int order) {
    const real p = exponent - (real)order, back = p - exponent;
    const real p_tail = (exponent - (p - back)) - ((real)order + back);
    const int whole = FN(is_whole)(exponent), rises = p > (real)0, falls = p < (real)0;
    const int odd = whole & ((whole & !FN(is_whole)((real)0.5 * exponent)) ^ (order & 1));
    const bits_t one = FN(where_so)(!rises & !falls, (real)1);
    const real at_zero = FN(from_bits)(FN(where_so)(falls, (real)INFINITY) | one);
    const real at_infinity = FN(from_bits)(FN(where_so)(rises, (real)INFINITY) | one);
    const real at_nan = FN(from_bits)(FN(where_so)(rises | falls, (real)NAN) | one);
    const real below = FN(from_bits)(FN(where_so)(!whole, (real)NAN));

    const real a = FN(magnitude)(x);
    const FN(two_reals) log = FN(log_in_two)(a);
    const real u = log.high == (real)0 ? (real)0 : p * log.high; /* inf * 0 */
    const real u_tail = FN(product_tail)(p, log.high, u) + FBP_FMA(p, log.low, p_tail * log.high);
    const real inside = FN(exp_of_two)(u, FN(magnitude)(u) < -EXP_LOWEST ? u_tail : (real)0);
    const real finite = inside + (x < (real)0 ? below : (real)0);
    const real beyond = a > LARGEST ? at_infinity : at_nan;
    const real y = a <= LARGEST ? (a == (real)0 ? at_zero : finite) : beyond;
    return FN(from_bits)(FN(bits)(y) | (FN(bits)(x) & ((bits_t)odd * SIGN_BIT)));
}
