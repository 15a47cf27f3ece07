/* The update rules: how a parameter w with gradient g becomes its next value, and nothing else.
 *
 *     RULE(name, states, attributes, "doc", scalars, update)
 *
 * The states, NONE(), ONE(v), TWO(m, v) or THREE(m, v, top), name the numbers kept for each
 * parameter from step to step, 0 at first. The scalars are formed once a step, in double, from the
 * learning rate `rate`, the number of this step `step`, counted from 1, the attributes, and what a
 * LET among them has named; the update sees the scalars rounded to the type, and nothing else. It
 * uses no FMA, and what Python evaluates from left to right stands here in that order: the result
 * has the bits of the same expression in NumPy.
 *
 *     TENSOR_RULE(name, states, attributes, "doc", scalars, direction, ratio, update)
 *
 * is a rule that must know norms of whole tensors: it turns g into a direction d; when the norms of
 * a tensor and of its direction, norm_w and norm_d, are there, it makes a `ratio` of them, in
 * double; and then updates w by d and ratio. */

/* clang-format off */

RULE(sgd, NONE(), NO_ATTRS, "w -= rate * g",
    SCALAR(step_size, rate),
    w -= step_size * g;)

RULE(momentum, ONE(v),
    ATTR(momentum, 0.9, FROM(0), UP_TO(1), "share of the last step that is kept"),
    "v = momentum * v - rate * g; w += v",
    SCALAR(mu, momentum) SCALAR(step_size, rate),
    v = mu * v - step_size * g;
    w += v;)

RULE(nesterov, ONE(v),
    ATTR(momentum, 0.9, FROM(0), UP_TO(1), "share of the last step that is kept"),
    "v = momentum * v - rate * g; w += momentum * v - rate * g",
    SCALAR(mu, momentum) SCALAR(step_size, rate),
    v = mu * v - step_size * g;
    w += mu * v - step_size * g;)

/* Duchi, Hazan and Singer, 2011. */
RULE(adagrad, ONE(sum),
    ATTR(epsilon, 1e-10, ABOVE(0), BELOW(INFINITY), "added to the denominator"),
    "w -= rate * g / (sqrt(sum) + epsilon), sum that of all g**2 so far",
    SCALAR(step_size, rate) SCALAR(small, epsilon),
    sum += g * g;
    w -= step_size * g / (FBP_SQRT(sum) + small);)

/* Tieleman and Hinton, 2012 (lecture 6.5 of their course), in the form of torch.optim.RMSprop. */
RULE(rmsprop, ONE(v),
    ATTR(rho, 0.99, FROM(0), BELOW(1), "decay of the mean squared gradient")
    ATTR(epsilon, 1e-8, ABOVE(0), BELOW(INFINITY), "added to the denominator"),
    "w -= rate * g / (sqrt(v) + epsilon), v the running mean of g**2",
    SCALAR(keep, rho) SCALAR(take, 1 - rho) SCALAR(step_size, rate) SCALAR(small, epsilon),
    v = keep * v + take * (g * g);
    w -= step_size * g / (FBP_SQRT(v) + small);)

/* Zeiler, 2012: the step has the units of w, so that rates lie near 1. */
RULE(adadelta, TWO(v, u),
    ATTR(rho, 0.9, FROM(0), BELOW(1), "decay of the mean squared gradient and step")
    ATTR(epsilon, 1e-6, ABOVE(0), BELOW(INFINITY), "added under both roots"),
    "d = sqrt(u + epsilon) / sqrt(v + epsilon) * g; w -= rate * d, "
    "v and u the running means of g**2 and d**2",
    SCALAR(keep, rho) SCALAR(take, 1 - rho) SCALAR(step_size, rate) SCALAR(small, epsilon),
    v = keep * v + take * (g * g);
    const real d = FBP_SQRT(u + small) / FBP_SQRT(v + small) * g;
    u = keep * u + take * (d * d);
    w -= step_size * d;)

/* Kingma and Ba, 2015, in the form that scikit-learn uses: both corrections are in the rate. */
RULE(adam, TWO(m, v),
    ATTR(beta_1, 0.9, FROM(0), BELOW(1), "decay of the mean gradient")
    ATTR(beta_2, 0.999, FROM(0), BELOW(1), "decay of the mean squared gradient")
    ATTR(epsilon, 1e-8, ABOVE(0), BELOW(INFINITY), "added to the denominator"),
    "w -= rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon), "
    "m and v the running means of g and g**2",
    SCALAR(keep_1, beta_1) SCALAR(take_1, 1 - beta_1)
    SCALAR(keep_2, beta_2) SCALAR(take_2, 1 - beta_2)
    SCALAR(step_size, rate * sqrt(1 - pow(beta_2, step)) / (1 - pow(beta_1, step)))
    SCALAR(small, epsilon),
    m = keep_1 * m + take_1 * g;
    v = keep_2 * v + take_2 * (g * g);
    w -= step_size * m / (FBP_SQRT(v) + small);)

/* Loshchilov and Hutter, 2019, in the form of torch.optim.AdamW. */
RULE(adamw, TWO(m, v),
    ATTR(beta_1, 0.9, FROM(0), BELOW(1), "decay of the mean gradient")
    ATTR(beta_2, 0.999, FROM(0), BELOW(1), "decay of the mean squared gradient")
    ATTR(epsilon, 1e-8, ABOVE(0), BELOW(INFINITY), "added to the denominator")
    DECAY(weight_decay, 0.01, FROM(0), BELOW(INFINITY), "w loses this part times the rate"),
    "w -= rate * weight_decay * w; "
    "w -= rate / (1 - beta_1**t) * m / (sqrt(v) / sqrt(1 - beta_2**t) + epsilon)",
    SCALAR(keep_1, beta_1) SCALAR(take_1, 1 - beta_1)
    SCALAR(keep_2, beta_2) SCALAR(take_2, 1 - beta_2)
    SCALAR(decay, rate * weight_decay)
    SCALAR(step_size, rate / (1 - pow(beta_1, step)))
    SCALAR(root, sqrt(1 - pow(beta_2, step)))
    SCALAR(small, epsilon),
    m = keep_1 * m + take_1 * g;
    v = keep_2 * v + take_2 * (g * g);
    w -= decay * w;
    w -= step_size * m / (FBP_SQRT(v) / root + small);)

/* Reddi, Kale and Kumar, 2018, in the form of torch.optim.Adam(amsgrad=True): the largest v so far
 * is that of the uncorrected ones. A v of NaN leaves `top` as it is, but not m. */
RULE(amsgrad, THREE(m, v, top),
    ATTR(beta_1, 0.9, FROM(0), BELOW(1), "decay of the mean gradient")
    ATTR(beta_2, 0.999, FROM(0), BELOW(1), "decay of the mean squared gradient")
    ATTR(epsilon, 1e-8, ABOVE(0), BELOW(INFINITY), "added to the denominator"),
    "w -= rate / (1 - beta_1**t) * m / (sqrt(top) / sqrt(1 - beta_2**t) + epsilon), "
    "m and v the running means of g and g**2, top the largest v so far",
    SCALAR(keep_1, beta_1) SCALAR(take_1, 1 - beta_1)
    SCALAR(keep_2, beta_2) SCALAR(take_2, 1 - beta_2)
    SCALAR(step_size, rate / (1 - pow(beta_1, step)))
    SCALAR(root, sqrt(1 - pow(beta_2, step)))
    SCALAR(small, epsilon),
    m = keep_1 * m + take_1 * g;
    v = keep_2 * v + take_2 * (g * g);
    top = v > top ? v : top;
    w -= step_size * m / (FBP_SQRT(top) / root + small);)

/* Dozat, 2016, in the form of torch.optim.NAdam; mu_t, the momentum of step t, is in momenta.h. */
RULE(nadam, TWO(m, v),
    ATTR(beta_1, 0.9, FROM(0), BELOW(1), "decay of the mean gradient")
    ATTR(beta_2, 0.999, FROM(0), BELOW(1), "decay of the mean squared gradient")
    ATTR(epsilon, 1e-8, ABOVE(0), BELOW(INFINITY), "added to the denominator")
    ATTR(momentum_decay, 4e-3, FROM(0), BELOW(INFINITY), "how fast the momentum nears beta_1"),
    "w -= rate * (a * g + b * m) / (sqrt(v / (1 - beta_2**t)) + epsilon), "
    "m and v the running means of g and g**2, "
    "a = (1 - mu_t) / (1 - mu_1 * ... * mu_t), b = mu_(t+1) / (1 - mu_1 * ... * mu_(t+1))",
    LET(now, fbp_momentum(beta_1, momentum_decay, step))
    LET(next, fbp_momentum(beta_1, momentum_decay, step + 1))
    LET(product, fbp_momenta_product(beta_1, momentum_decay, step))
    SCALAR(keep_1, beta_1) SCALAR(take_1, 1 - beta_1)
    SCALAR(keep_2, beta_2) SCALAR(take_2, 1 - beta_2)
    SCALAR(step_g, rate * (1 - now) / (1 - product))
    SCALAR(step_m, rate * next / (1 - product * next))
    SCALAR(correction, 1 - pow(beta_2, step))
    SCALAR(small, epsilon),
    m = keep_1 * m + take_1 * g;
    v = keep_2 * v + take_2 * (g * g);
    w -= (step_g * g + step_m * m) / (FBP_SQRT(v / correction) + small);)

/* Chen et al., 2023, algorithm 2. c - c is 0 for a c of 0, and NaN for NaN, which is not to be
 * hidden. */
RULE(lion, ONE(m),
    ATTR(beta_1, 0.9, FROM(0), BELOW(1), "share of the mean gradient in the step")
    ATTR(beta_2, 0.99, FROM(0), BELOW(1), "decay of the mean gradient")
    DECAY(weight_decay, 0, FROM(0), BELOW(INFINITY), "w loses this part times the rate"),
    "w -= rate * weight_decay * w; w -= rate * sign(beta_1 * m + (1 - beta_1) * g), "
    "m the running mean of g up to the step before",
    SCALAR(keep_1, beta_1) SCALAR(take_1, 1 - beta_1)
    SCALAR(keep_2, beta_2) SCALAR(take_2, 1 - beta_2)
    SCALAR(decay, rate * weight_decay) SCALAR(step_size, rate),
    const real c = keep_1 * m + take_1 * g;
    const real sign = c > (real)0 ? (real)1 : c < (real)0 ? (real)-1 : c - c;
    w -= decay * w;
    w -= step_size * sign;
    m = keep_2 * m + take_2 * g;)

/* You et al., 2020, algorithm 2, with phi(x) = x: each tensor moves by rate times its own norm,
 * wherever that and the direction's are not 0. */
TENSOR_RULE(lamb, TWO(m, v),
    ATTR(beta_1, 0.9, FROM(0), BELOW(1), "decay of the mean gradient")
    ATTR(beta_2, 0.999, FROM(0), BELOW(1), "decay of the mean squared gradient")
    ATTR(epsilon, 1e-6, ABOVE(0), BELOW(INFINITY), "added to the denominator")
    DECAY(weight_decay, 0.01, FROM(0), BELOW(INFINITY), "part of w that is added to its direction"),
    "d = 1 / (1 - beta_1**t) * m / (sqrt(v) / sqrt(1 - beta_2**t) + epsilon) + weight_decay * w; "
    "w -= rate * ||w|| / ||d|| * d, norms of each tensor, "
    "m and v the running means of g and g**2",
    SCALAR(keep_1, beta_1) SCALAR(take_1, 1 - beta_1)
    SCALAR(keep_2, beta_2) SCALAR(take_2, 1 - beta_2)
    SCALAR(correction, 1 / (1 - pow(beta_1, step)))
    SCALAR(root, sqrt(1 - pow(beta_2, step)))
    SCALAR(small, epsilon) SCALAR(decay, weight_decay) SCALAR(step_size, rate),
    m = keep_1 * m + take_1 * g;
    v = keep_2 * v + take_2 * (g * g);
    const real d = correction * m / (FBP_SQRT(v) / root + small) + decay * w;,
    norm_w > 0 && norm_d > 0 ? norm_w / norm_d : 1,
    w -= step_size * ratio * d;)

/* clang-format on */
