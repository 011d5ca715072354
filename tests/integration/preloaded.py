"""C that libraries loaded before all others have in common."""

# The function behind one that takes its place.
REAL = r"""
#include <dlfcn.h>
#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))
"""

# Both names of open(), for a function opened(name, path, flags, mode).
OPENS = r"""
#include <fcntl.h>
#include <stdarg.h>

static mode_t mode_of(int flags, va_list more)
{
    return (flags & O_CREAT) != 0 ? (mode_t)va_arg(more, int) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    const mode_t mode = mode_of(flags, more);
    va_end(more);
    return opened("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    const mode_t mode = mode_of(flags, more);
    va_end(more);
    return opened("open64", path, flags, mode);
}
"""
