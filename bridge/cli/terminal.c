#include "bridge/cli/terminal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool terminal_can_rewrite(FILE *out)
{
    const char *term = getenv("TERM");
    return isatty(fileno(out)) && term != NULL && strcmp(term, "dumb") != 0;
}

bool terminal_is_coloured(FILE *out)
{
    const char *no_color = getenv("NO_COLOR");
    return terminal_can_rewrite(out) && (no_color == NULL || *no_color == '\0');
}

void terminal_progress(const char *format, ...)
{
    va_list arguments;
    if (!terminal_can_rewrite(stderr))
        return;
    fputs("\r\033[K", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fflush(stderr);
}

void terminal_progress_end(void)
{
    if (terminal_can_rewrite(stderr))
        fputs("\r\033[K", stderr);
}
