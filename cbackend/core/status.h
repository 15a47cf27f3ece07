/* Status codes with a sentence: how every failure in the core is told. */
#ifndef FBP_CORE_STATUS_H
#define FBP_CORE_STATUS_H

#include "fbp.h"

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
fbp_status fbp_fail(fbp_status status, const char *format, ...);

#endif
