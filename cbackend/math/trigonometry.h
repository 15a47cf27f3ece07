/* cos(pi x) as straight-line code. A template (expand.h), read after math/elementary.h, whose
 * manners it keeps: no branch, no table, no library call, an error bound in ulp over all arguments
 * for float and double, with FMA and without, that tests/c/test_elementary.c measures.
 *
 * In half turns rather than radians the argument is reduced without any rounding, however large it
 * is, and the zeros, at odd multiples of a half, are exact.
 *
 * The polynomials are Taylor's. What is left out is below 0.04 of a last place. */

#if FBP_IS_F32
#define WHOLE 8388608.0f /* 2^23: from here on all are whole numbers */
#define PI 3.14159274f
#define PI_LOW -8.742278e-08f
#else
#define WHOLE 4503599627370496.0 /* 2^52 */
#define PI 3.141592653589793
#define PI_LOW 1.2246467991473532e-16
#endif

/* For |r| <= 1/4. */
FBP_INLINE real FN(cospi_near_0)(real r) {
    const real z = r * r;
#if FBP_IS_F32
    const real p =
        FN(horner)(-2.58068914e-02f, z, 2.3533063e-01f, -1.33526277f, 4.05871213f, -4.9348022f);
#else
    real p = FBP_FMA(4.303069587032947e-06, z, -0.0001046381049248457);
    p = FN(horner)(p, z, 0.0019295743094039231, -0.02580689139001406, 0.2353306303588932,
                   -1.3352627688545895);
    p = FBP_FMA(p, z, 4.0587121264167685);
    p = FBP_FMA(p, z, -4.934802200544679);
#endif
    return FBP_FMA(p, z, (real)1);
}

/* For |r| <= 1/4. The rounding of pi would cost a third of a last place, were it not put back. */
FBP_INLINE real FN(sinpi_near_0)(real r) {
    const real z = r * r;
#if FBP_IS_F32
    const real p =
        FN(horner)(8.21458866e-02f, z, -5.99264529e-01f, 2.55016404f, -5.16771278f, PI_LOW);
#else
    real p = FBP_FMA(7.952054001475513e-07, z, -2.1915353447830217e-05);
    p = FN(horner)(p, z, 0.00046630280576761255, -0.0073704309457143504, 0.08214588661112823,
                   -0.5992645293207921);
    p = FBP_FMA(p, z, 2.5501640398773455);
    p = FBP_FMA(p, z, -5.16771278004997);
    p = FBP_FMA(p, z, PI_LOW);
#endif
    return FBP_FMA(r, PI, r * p);
}

/* 2 ulp. Past 2 * WHOLE all are even numbers; a - a is then 0, and NaN for an infinity. */
FBP_INLINE real FN(cospi)(real x) {
    real a = FN(magnitude)(x);
    a = a < (real)2 * WHOLE ? a : a - a;
    const real turns = (a * (real)0.5 + WHOLE) - WHOLE; /* rounded to a whole number */
    const real s = FN(magnitude)(a - (real)2 * turns);  /* from 0 to 1 */
    const int sideways = s > (real)0.25 && s < (real)0.75;
    const real r = sideways ? s - (real)0.5 : (s > (real)0.5 ? s - (real)1 : s);
    const real c = FN(cospi_near_0)(r);
    return sideways ? (real)0 - FN(sinpi_near_0)(r) : (s > (real)0.5 ? -c : c);
}

#undef WHOLE
#undef PI
#undef PI_LOW
