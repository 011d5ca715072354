/* memory_file: what the fuzzer made, as a file to be read. */
#ifndef TESTS_FUZZ_MEMORY_FILE_H
#define TESTS_FUZZ_MEMORY_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MEMORY_FILE_PATH = 64 };

/* The descriptor, to be closed, and the path; -1 for what is not to be read: it includes
 * files of this machine. */
static inline int memory_file(const uint8_t *data, size_t size, char path[MEMORY_FILE_PATH])
{
    if (memmem(data, size, "@include", 8) != NULL)
        return -1;
    int file = memfd_create("fuzz", 0);
    snprintf(path, MEMORY_FILE_PATH, "/proc/self/fd/%d", file);
    return file >= 0 && write(file, data, size) == (ssize_t)size ? file : -1;
}

#endif
