/* The message of the last failure, one for each thread. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

#if defined(_MSC_VER) && !defined(__clang__)
static __declspec(thread) char message[512];
#else
static _Thread_local char message[512];
#endif

fbp_status fbp_fail(fbp_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return status;
}

const char *fbp_message(void) { return message; }
