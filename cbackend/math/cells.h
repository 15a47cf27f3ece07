/* One unit of a recurrent layer at one step: its value, what backward and the tangents make of it.
 * A template (expand.h) on top of elementary.h; it holds no loop.
 *
 * a.. are pre-activations, h and c the unit's state, h_before and c_before that of the step before;
 * dx is the gradient of the loss by x and tx the tangent of x. Derivatives of logistic and tanh are
 * formed from their values y: y (1 - y) and (1 - y) (1 + y). */

FBP_INLINE real FN(gate_slope)(real y) { return y * ((real)1 - y); }
FBP_INLINE real FN(tanh_slope)(real y) { return ((real)1 - y) * ((real)1 + y); }
/* Their tangents. */
FBP_INLINE real FN(gate_bend)(real y, real ty) { return ((real)1 - (real)2 * y) * ty; }
FBP_INLINE real FN(tanh_bend)(real y, real ty) { return (real)-2 * y * ty; }

/* The tangent of a b c. */
FBP_INLINE real FN(product_tangent)(real a, real ta, real b, real tb, real c, real tc) {
    return ta * b * c + a * tb * c + a * b * tc;
}

/* What a block of gates is: a constant once inlined. */
FBP_INLINE real FN(gate)(const int as_tanh, real a) {
    return as_tanh ? FN(tanh)(a) : FN(logistic)(a);
}

/* ---- rnn: h = tanh(a), or relu(a) (Elman, Finding structure in time, 1990) ---- */

FBP_INLINE real FN(rnn_unit)(const int relu, real a) {
    return relu ? FN(positive_part)(a) : FN(tanh)(a);
}

FBP_INLINE real FN(rnn_slope)(const int relu, real h) {
    return relu ? (h > (real)0 ? (real)1 : h) : FN(tanh_slope)(h);
}

FBP_INLINE real FN(rnn_bend)(const int relu, real h, real th) {
    return relu ? (real)0 : FN(tanh_bend)(h, th);
}

/* ---- lstm: i, f, o = logistic(a), g = tanh(a), c = f c_before + i g, h = o tanh(c)
 *      (Hochreiter and Schmidhuber, Long short-term memory, 1997; with the forget gate of Gers,
 *      Schmidhuber and Cummins, Learning to forget, 2000) ---- */

typedef struct {
    real i, f, g, o, c, h;
} FN(lstm_values);

/* c and h, of the gates. */
FBP_INLINE FN(lstm_values) FN(lstm_unit)(real i, real f, real g, real o, real c_before) {
    FN(lstm_values) u = {i, f, g, o, f * c_before + i * g, (real)0};
    u.h = o * FN(tanh)(u.c);
    return u;
}

/* dc_after is what the steps after say of c. Gradients by the pre-activations in i, f, g and o,
 * that by c_before in c. */
FBP_INLINE FN(lstm_values)
    FN(lstm_unit_backward)(FN(lstm_values) u, real c_before, real dh, real dc_after) {
    const real y = FN(tanh)(u.c);
    const real dc = dc_after + dh * u.o * FN(tanh_slope)(y);
    FN(lstm_values) d;
    d.i = dc * u.g * FN(gate_slope)(u.i);
    d.f = dc * c_before * FN(gate_slope)(u.f);
    d.g = dc * u.i * FN(tanh_slope)(u.g);
    d.o = dh * y * FN(gate_slope)(u.o);
    d.c = dc * u.f;
    d.h = (real)0;
    return d;
}

/* The tangents of the unit's values, along ta.. and tc_before. */
FBP_INLINE FN(lstm_values) FN(lstm_unit_tangent)(FN(lstm_values) u, real c_before, real ta_i,
                                                 real ta_f, real ta_g, real ta_o, real tc_before) {
    const real y = FN(tanh)(u.c);
    FN(lstm_values) t;
    t.i = FN(gate_slope)(u.i) * ta_i;
    t.f = FN(gate_slope)(u.f) * ta_f;
    t.g = FN(tanh_slope)(u.g) * ta_g;
    t.o = FN(gate_slope)(u.o) * ta_o;
    t.c = t.f * c_before + u.f * tc_before + t.i * u.g + u.i * t.g;
    t.h = t.o * y + u.o * FN(tanh_slope)(y) * t.c;
    return t;
}

/* The tangents of the gradients; t are those of u. */
FBP_INLINE FN(lstm_values)
    FN(lstm_unit_bend)(FN(lstm_values) u, FN(lstm_values) t, real c_before, real tc_before, real dh,
                       real tdh, real dc_after, real tdc_after) {
    const real y = FN(tanh)(u.c), sy = FN(tanh_slope)(y), ty = sy * t.c;
    const real dc = dc_after + dh * u.o * sy;
    const real tdc = tdc_after + FN(product_tangent)(dh, tdh, u.o, t.o, sy, FN(tanh_bend)(y, ty));
    FN(lstm_values) td;
    td.i = FN(product_tangent)(dc, tdc, u.g, t.g, FN(gate_slope)(u.i), FN(gate_bend)(u.i, t.i));
    td.f = FN(product_tangent)(dc, tdc, c_before, tc_before, FN(gate_slope)(u.f),
                               FN(gate_bend)(u.f, t.f));
    td.g = FN(product_tangent)(dc, tdc, u.i, t.i, FN(tanh_slope)(u.g), FN(tanh_bend)(u.g, t.g));
    td.o = FN(product_tangent)(dh, tdh, y, ty, FN(gate_slope)(u.o), FN(gate_bend)(u.o, t.o));
    td.c = tdc * u.f + dc * t.f;
    td.h = (real)0;
    return td;
}

/* ---- gru: r, z = logistic(a), n = tanh(a + r q), h = (1 - z) n + z h_before, where q, of the same
 *      form as a, is the share of the state before (Cho et al., Learning phrase representations
 *      using RNN encoder-decoder, 2014; with r behind the product, as in cuDNN) ---- */

typedef struct {
    real r, z, n, q, h;
} FN(gru_values);

/* n and h, of the gates, the pre-activation of n and q. */
FBP_INLINE FN(gru_values) FN(gru_unit)(real r, real z, real an, real q, real h_before) {
    FN(gru_values) u = {r, z, FN(tanh)(an + r * q), q, (real)0};
    u.h = ((real)1 - z) * u.n + z * h_before;
    return u;
}

/* Gradients by the pre-activations in r, z, n and by q; h is that by h_before, but for what reaches
 * it by way of the gates. */
FBP_INLINE FN(gru_values) FN(gru_unit_backward)(FN(gru_values) u, real h_before, real dh) {
    FN(gru_values) d;
    d.n = dh * ((real)1 - u.z) * FN(tanh_slope)(u.n);
    d.z = dh * (h_before - u.n) * FN(gate_slope)(u.z);
    d.r = d.n * u.q * FN(gate_slope)(u.r);
    d.q = d.n * u.r;
    d.h = dh * u.z;
    return d;
}

FBP_INLINE FN(gru_values) FN(gru_unit_tangent)(FN(gru_values) u, real h_before, real ta_r,
                                               real ta_z, real ta_n, real tq, real th_before) {
    FN(gru_values) t;
    t.r = FN(gate_slope)(u.r) * ta_r;
    t.z = FN(gate_slope)(u.z) * ta_z;
    t.q = tq;
    t.n = FN(tanh_slope)(u.n) * (ta_n + t.r * u.q + u.r * tq);
    t.h = ((real)1 - u.z) * t.n + t.z * (h_before - u.n) + u.z * th_before;
    return t;
}

FBP_INLINE FN(gru_values) FN(gru_unit_bend)(FN(gru_values) u, FN(gru_values) t, real h_before,
                                            real th_before, real dh, real tdh) {
    const FN(gru_values) d = FN(gru_unit_backward)(u, h_before, dh);
    FN(gru_values) td;
    td.n = FN(product_tangent)(dh, tdh, (real)1 - u.z, -t.z, FN(tanh_slope)(u.n),
                               FN(tanh_bend)(u.n, t.n));
    td.z = FN(product_tangent)(dh, tdh, h_before - u.n, th_before - t.n, FN(gate_slope)(u.z),
                               FN(gate_bend)(u.z, t.z));
    td.r = FN(product_tangent)(d.n, td.n, u.q, t.q, FN(gate_slope)(u.r), FN(gate_bend)(u.r, t.r));
    td.q = td.n * u.r + d.n * t.r;
    td.h = tdh * u.z + dh * t.z;
    return td;
}
