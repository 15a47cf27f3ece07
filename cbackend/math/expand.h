/* Expands FBP_TEMPLATE, a header or the including file itself, for float and then for double.
 *
 * Inside a template: `real` is the type, `bits_t` the unsigned integer of its size and FN(name) the
 * name with the type's suffix; FBP_FMA, FBP_SQRT, FBP_EPS and FBP_IS_F32 follow the type, and so do
 * FBP_MANTISSA, the stored bits of its fraction, and FBP_BIAS, that of its exponent. Literals are
 * written (real)0, since nvcc would pick a host-only overload for a bare 0. No include guard: it is
 * meant to be included once for each template. */

#define real float
#define bits_t uint32_t
#define sbits_t int32_t
#define FBP_IS_F32 1
#define FN(name) name##_f32
#define FBP_FMA FBP_FMA_F32
#define FBP_SQRT sqrtf
#define FBP_EPS 1.1920929e-07f
#define FBP_MANTISSA 23
#define FBP_BIAS 127
#include FBP_TEMPLATE
#undef real
#undef bits_t
#undef sbits_t
#undef FBP_IS_F32
#undef FN
#undef FBP_FMA
#undef FBP_SQRT
#undef FBP_EPS
#undef FBP_MANTISSA
#undef FBP_BIAS

#define real double
#define bits_t uint64_t
#define sbits_t int64_t
#define FBP_IS_F32 0
#define FN(name) name##_f64
#define FBP_FMA FBP_FMA_F64
#define FBP_SQRT sqrt
#define FBP_EPS 2.220446049250313e-16
#define FBP_MANTISSA 52
#define FBP_BIAS 1023
#include FBP_TEMPLATE
#undef real
#undef bits_t
#undef sbits_t
#undef FBP_IS_F32
#undef FN
#undef FBP_FMA
#undef FBP_SQRT
#undef FBP_EPS
#undef FBP_MANTISSA
#undef FBP_BIAS

#undef FBP_TEMPLATE
