/* What poolings do with one window: a template that pooling.c includes for a vector of channels and
 * for a single one. OF(name) is the name for such channels, V what holds their elements and M, as
 * wide, their counts and masks; TRUE_OF(c) is all bits where a comparison holds, SELECT(m, a, b) is
 * a where m has all bits and b elsewhere. */

/* The largest element, of equal ones the first; NaN, once found, whatever follows. */
FBP_INLINE void OF(largest)(const work what, const int alone, const pool *p, const real *x,
                            const real *along, real *out) {
    V best = *(const V *)x, value = what == MAX_TANGENT ? *(const V *)along : best;
    M winner = {0};
    sbits_t count = 0;
    for (int64_t i = 0; i < p->lines; i++) {
        for (int64_t k = 0; k < p->positions; k++, count++) {
            const int64_t at = i * p->line + k * p->position;
            const V element = *(const V *)(x + at);
            const M larger = TRUE_OF(element > best) | TRUE_OF(element != element);
            best = SELECT(larger, element, best);
            if (what == MAX_TANGENT) value = SELECT(larger, *(const V *)(along + at), value);
            if (what == MAX_GRADIENT) winner = (larger & count) | (~larger & winner);
        }
    }
    if (what != MAX_GRADIENT) {
        *(V *)out = what == MAX ? best : value;
        return;
    }
    const V gradient = *(const V *)along, zero = {0};
    count = 0;
    for (int64_t i = 0; i < p->lines; i++) {
        for (int64_t k = 0; k < p->positions; k++, count++) {
            V *const to = (V *)(out + i * p->line + k * p->position);
            const M equal = TRUE_OF(winner == count);
            const V part = SELECT(equal, gradient, zero);
            if (alone)
                *to = part;
            else
                *to += part;
        }
    }
}

FBP_INLINE void OF(mean)(const work what, const int alone, const pool *p, const real share,
                         const real *x, const real *along, real *out) {
    V sum = {0};
    for (int64_t i = 0; i < p->lines; i++) {
        for (int64_t k = 0; k < p->positions; k++) {
            const int64_t at = i * p->line + k * p->position;
            if (what == MEAN) {
                sum += *(const V *)(x + at);
            } else {
                V *const to = (V *)(out + at);
                const V part = *(const V *)along * share;
                if (alone)
                    *to = part;
                else
                    *to += part;
            }
        }
    }
    if (what == MEAN) *(V *)out = sum * share;
}

FBP_INLINE void OF(window)(const work what, const int alone, const pool *p, const real share,
                           const real *x, const real *along, real *out) {
    if (what == MEAN || what == MEAN_GRADIENT)
        OF(mean)(what, alone, p, share, x, along, out);
    else
        OF(largest)(what, alone, p, x, along, out);
}

#undef OF
#undef V
#undef M
#undef TRUE_OF
#undef SELECT
