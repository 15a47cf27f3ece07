/* Softmax and its logarithm along an axis, and what follows from them: sums over the axis, and each
 * result from these and from its own elements. No loop, no array.
 *
 *     PASS(name, what it reads, term of sum s, term of sum u, result)
 *
 * reads y (Y), or y, dy, ty and tdy (ALL), or y and one more, called d (ONE): dy of a gradient, tx
 * of a tangent, since the Jacobian of softmax is symmetric. With p = softmax(x) and the sums <., .>
 * along the axis:
 *
 *     y = p:      dx = y (dy - <y, dy>)
 *     y = log p:  dx = dy - p <1, dy>, ty = tx - <p, tx>
 *
 * (Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990.) */

/* clang-format off */

PASS(softmax_backward, ONE,
     y * d,
     (real)0,
     y * (d - s))

PASS(softmax_backward_tangent, ALL,
     y * dy,
     y * tdy + ty * dy,
     ty * (dy - s) + y * (tdy - u))

PASS(log_softmax_backward, ONE,
     d,
     (real)0,
     d - FN(exp)(y) * s)

PASS(log_softmax_tangent, ONE,
     FN(exp)(y) * d,
     (real)0,
     d - s)

PASS(log_softmax_backward_tangent, ALL,
     dy,
     tdy,
     tdy - FN(exp)(y) * (ty * s + u))

/* clang-format on */
