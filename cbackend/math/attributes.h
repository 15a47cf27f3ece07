/* The words in which a row of activations.h, losses.h or optimizers.h states its attributes:
 *
 *     ATTR(beta, 1, ABOVE(0), BELOW(INFINITY), "sharpness of the gate")
 *
 * one after another, or NO_ATTRS. The file that includes such a list chooses what ATTR becomes: an
 * entry of the table (ATTR_ENTRY), or a constant of that name for the formulas (ATTR_CONSTANT). The
 * order in which a row lists them is the order of every array of attributes. */
#ifndef FBP_MATH_ATTRIBUTES_H
#define FBP_MATH_ATTRIBUTES_H

#define NO_ATTRS
#define FROM(bound) .low = (bound)
#define ABOVE(bound) .low = (bound), .low_open = 1
#define UP_TO(bound) .high = (bound)
#define BELOW(bound) .high = (bound), .high_open = 1

#define ATTR_ENTRY(name_, fallback_, low_, high_, doc_)                                            \
    {.name = #name_, .fallback = (fallback_), low_, high_, .doc = doc_},
/* DECAY in place of ATTR: an update rule's decay of weights, of which tensors may have more or
 * less: its constant is a multiple of it by `decay_factor`. */
#define DECAY_CONSTANT(name, fallback, low, high, doc)                                             \
    const real name = (real)(*attrs++) * decay_factor;                                             \
    (void)name;
#define ATTR_CONSTANT(name, fallback, low, high, doc)                                              \
    const real name = (real)(*attrs++);                                                            \
    (void)name;

/* For a row of the table: how many there are, and the entries, of which C wants at least one. */
#define ATTR_COUNT(...) ((int)(sizeof((fbp_attr[]){__VA_ARGS__{0}}) / sizeof(fbp_attr)) - 1)
#define ENTRIES_NO_ATTRS {0}
#define ENTRIES_ATTR ATTR

#endif
