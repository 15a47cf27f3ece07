/* The update rules: how a parameter w with gradient g becomes its next value, and nothing else.
 *
 *     RULE(name, states, attributes, "doc", scalars, update)
 *
 * The states, NONE(), ONE(v) or TWO(m, v), name the numbers kept for each parameter from step to
 * step, 0 at first. The scalars are formed once a step, in double, from the learning rate `rate`,
 * the number of this step `step`, counted from 1, and the attributes; the update sees them rounded
 * to the type, and nothing else. It uses no FMA, and what Python evaluates from left to right
 * stands here in that order: the result has the bits of the same expression in NumPy. */

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
    ATTR(weight_decay, 0.01, FROM(0), BELOW(INFINITY), "w loses this part times the rate"),
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

/* clang-format on */
